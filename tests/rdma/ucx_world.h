#pragma once
// `ucx` for tests.

#include <memory>
#include <utility>

#include "rdma/ucx/context.h"
#include "rdma/ucx/worker.h"
#include "rdma/ucx_transport.h"
#include "tests/rdma/rendezvous_world.h"

namespace perigee::rdma::ucx {

inline rendezvous::ProviderUnderTest Provider(bool shared_memory) {
  rendezvous::ProviderUnderTest provider;
  provider.name = "ucx";
  provider.path = "tcp/lo";
  provider.transport = [shared_memory](TransportOptions options, rendezvous::FabricOptions fabric) {
    UcxOptions ucx;
    ucx.loops = fabric.loops;
    ucx.pull_bytes_max = fabric.pull_bytes_max;
    ucx.devices = std::move(fabric.devices);
    ucx.fabric_trusted = fabric.fabric_trusted;
    ucx.shared_memory = shared_memory;
    return CreateUcxTransport(std::move(options), std::move(ucx));
  };
  provider.worker = []() -> Result<std::unique_ptr<rendezvous::Worker>> {
    PERIGEE_ASSIGN(auto context, Context::Create({"lo", false}));
    PERIGEE_ASSIGN(std::unique_ptr<rendezvous::Worker> worker, UcxWorker::Create(context));
    return worker;
  };
  return provider;
}
inline const rendezvous::ProviderUnderTest& Tcp() {
  static const rendezvous::ProviderUnderTest provider = Provider(false);
  return provider;
}
inline const rendezvous::ProviderUnderTest& SharedMemory() {
  static const rendezvous::ProviderUnderTest provider = Provider(true);
  return provider;
}

}  // namespace perigee::rdma::ucx
