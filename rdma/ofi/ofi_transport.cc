// CreateOfiTransport: the `ofi` provider: libfabric below what rdma/rendezvous does.

#include "rdma/ofi_transport.h"

#include <memory>
#include <string>
#include <utility>

#include "rdma/ofi/fabric.h"
#include "rdma/ofi/worker.h"
#include "rdma/rendezvous/rendezvous_transport.h"

namespace perigee::rdma {

namespace ofi {
namespace {

constexpr char kRisk[] = "libfabric over TCP is neither encrypted nor guarded against strangers";

class OfiCore final : public rendezvous::Core {
 public:
  explicit OfiCore(const OfiOptions& ofi)
      : Core("ofi", kRisk,
             {ofi.loops, ofi.poll, ofi.devices, ofi.fabric_trusted, ofi.pull_bytes_max}),
        ofi_(ofi) {}
  using Core::Init;

 protected:
  Result<rendezvous::Loop::MakeWorker> StartLibrary() override {
    Fabric::Options options;
    if (!ofi_.provider.empty()) options.providers = {ofi_.provider};
    options.register_as_verbs = ofi_.register_as_verbs;
    auto fabric = std::make_shared<Fabric>(std::move(options));
    return rendezvous::Loop::MakeWorker(
        [fabric, pool = this->options().pool]() -> Result<std::unique_ptr<rendezvous::Worker>> {
          PERIGEE_ASSIGN(std::unique_ptr<rendezvous::Worker> made, OfiWorker::Create(fabric, pool));
          return made;
        });
  }

 private:
  const OfiOptions ofi_;
};

}  // namespace
}  // namespace ofi

Result<std::unique_ptr<Transport>> CreateOfiTransport(TransportOptions options, OfiOptions ofi) {
  if (!ofi.provider.empty() && ofi.provider != "tcp" && ofi.provider != "verbs") {
    return Status(Code::kInvalidArgument,
                  "libfabric's provider \"" + ofi.provider + "\" is neither tcp nor verbs");
  }
  auto core = std::make_shared<ofi::OfiCore>(ofi);
  PERIGEE_TRY(core->Init(std::move(options)));
  return std::unique_ptr<Transport>(
      std::make_unique<rendezvous::RendezvousTransport>(std::move(core)));
}

}  // namespace perigee::rdma
