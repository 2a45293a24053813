#pragma once
// `ofi` for tests.

#include <memory>
#include <utility>

#include "rdma/ofi/fabric.h"
#include "rdma/ofi/worker.h"
#include "rdma/ofi_transport.h"
#include "tests/rdma/rendezvous_world.h"

namespace perigee::rdma::ofi {

inline rendezvous::ProviderUnderTest Provider(bool register_as_verbs) {
  rendezvous::ProviderUnderTest provider;
  provider.name = "ofi";
  provider.path = "tcp/lo";
  provider.transport = [register_as_verbs](TransportOptions options,
                                           rendezvous::FabricOptions fabric) {
    OfiOptions ofi;
    ofi.loops = fabric.loops;
    ofi.pull_bytes_max = fabric.pull_bytes_max;
    ofi.devices = std::move(fabric.devices);
    ofi.fabric_trusted = fabric.fabric_trusted;
    ofi.register_as_verbs = register_as_verbs;
    return CreateOfiTransport(std::move(options), std::move(ofi));
  };
  provider.worker = []() -> Result<std::unique_ptr<rendezvous::Worker>> {
    PERIGEE_ASSIGN(auto pool, SlabPool::Create({}));
    PERIGEE_ASSIGN(std::unique_ptr<rendezvous::Worker> worker,
                   OfiWorker::Create(std::make_shared<Fabric>(Fabric::Options{}), pool));
    return worker;
  };
  return provider;
}
inline const rendezvous::ProviderUnderTest& Tcp() {
  static const rendezvous::ProviderUnderTest provider = Provider(false);
  return provider;
}
// tcp, but memory is registered and named as on verbs.
inline const rendezvous::ProviderUnderTest& LikeVerbs() {
  static const rendezvous::ProviderUnderTest provider = Provider(true);
  return provider;
}

}  // namespace perigee::rdma::ofi
