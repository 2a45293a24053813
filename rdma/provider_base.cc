#include "rdma/provider_base.h"

#include <unistd.h>

#include <utility>

namespace perigee::rdma {

Status ProviderBase::Init(TransportOptions options, const char* provider) {
  if (options.role == Role::kNode && options.cluster_secret.empty()) {
    return Status(Code::kInvalidArgument, "a node needs the cluster secret");
  }
  if (!options.pool) {
    PERIGEE_ASSIGN(options.pool, SlabPool::Create({}));
  }
  if (metrics::Registry* registry = options.metrics) {
    auto counter = [&](const char* name, const char* help, const char* direction) {
      return registry->GetCounter(name, help, {{"provider", provider}, {"direction", direction}});
    };
    const char* bytes_help = "Bytes through the transport's connections.";
    const char* calls_help = "Calls made (out) and served (in).";
    bytes_.sent = counter("perigee_rdma_bytes_total", bytes_help, "out");
    bytes_.received = counter("perigee_rdma_bytes_total", bytes_help, "in");
    calls_out_ = counter("perigee_rdma_calls_total", calls_help, "out");
    calls_in_ = counter("perigee_rdma_calls_total", calls_help, "in");
  }
  class_bytes_ = std::make_unique<ClassBytes>(options.metrics, provider);
  options_ = std::move(options);
  owner_ = getpid();
  return Status::Ok();
}

bool ProviderBase::OwnProcess() const { return getpid() == owner_; }

bool ProviderBase::TakePlace() {
  uint32_t taken = connections_.load();
  while (taken < options_.connections_max) {
    if (connections_.compare_exchange_weak(taken, taken + 1)) return true;
  }
  return false;
}

}  // namespace perigee::rdma
