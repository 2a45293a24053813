// CreateUcxTransport: the `ucx` provider: UCX below what rdma/rendezvous does.

#include "rdma/ucx_transport.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "rdma/rendezvous/rendezvous_transport.h"
#include "rdma/ucx/context.h"
#include "rdma/ucx/worker.h"

namespace perigee::rdma {

namespace ucx {
namespace {

constexpr char kRisk[] = "UCX over TCP lets a peer write this process's memory";

std::vector<std::string> Allowed(const UcxOptions& ucx) {
  std::vector<std::string> interfaces = ucx.devices;
  interfaces.insert(interfaces.end(), ucx.rdma_interfaces.begin(), ucx.rdma_interfaces.end());
  return interfaces;
}

class UcxCore final : public rendezvous::Core {
 public:
  explicit UcxCore(UcxOptions ucx)
      : Core("ucx", kRisk,
             {ucx.loops, ucx.poll, Allowed(ucx), ucx.fabric_trusted, ucx.pull_bytes_max}),
        ucx_(std::move(ucx)) {}
  using Core::Init;

 protected:
  Result<rendezvous::Loop::MakeWorker> StartLibrary() override {
    ContextOptions options;
    options.shared_memory = ucx_.shared_memory;
    if (ucx_.fabric_trusted && ucx_.devices.empty()) {
      options.devices = "all";
    } else {
      options.devices = "lo";
      for (const std::string& device : ucx_.devices) {
        if (device != "lo") options.devices += "," + device;
      }
    }
    PERIGEE_ASSIGN(auto context, Context::Create(options));
    if (ucx_.shared_memory && !context->no_shared_memory().empty()) {
      log::Warn("rdma_ucx_no_shared_memory", {{"why", context->no_shared_memory()},
                                              {"instead", "network devices " + options.devices}});
    }
    return rendezvous::Loop::MakeWorker([context]() -> Result<std::unique_ptr<rendezvous::Worker>> {
      PERIGEE_ASSIGN(std::unique_ptr<rendezvous::Worker> made, UcxWorker::Create(context));
      return made;
    });
  }

 private:
  const UcxOptions ucx_;
};

}  // namespace
}  // namespace ucx

Result<std::unique_ptr<Transport>> CreateUcxTransport(TransportOptions options, UcxOptions ucx) {
  auto core = std::make_shared<ucx::UcxCore>(std::move(ucx));
  PERIGEE_TRY(core->Init(std::move(options)));
  return std::unique_ptr<Transport>(
      std::make_unique<rendezvous::RendezvousTransport>(std::move(core)));
}

}  // namespace perigee::rdma
