#pragma once
// TransportSet: several providers as one Transport. What an address begins with says whose it is:
// "local:/run/perigee/objectd.sock", "tls:10.0.0.1:9002". Where a peer has several addresses, by
// commas, a channel to it has a rail to each (rdma/rails/rail_channel.h). Thread-safe once built.

#include <memory>
#include <string>
#include <vector>

#include "rdma/transport.h"

namespace perigee::rdma {

class TransportSet final : public Transport {
 public:
  // For the channels with rails; both must outlive their calls. `registry` null: nothing is
  // counted.
  explicit TransportSet(Clock& clock = RealClock::Get(), metrics::Registry* registry = nullptr)
      : clock_(clock), registry_(registry) {}
  void Add(std::unique_ptr<Transport> provider);  // before anything else

  // kUnavailable: this process was not given that provider. Else the provider's own errors. Connect
  // leaves out those of a peer's addresses that this process does not speak to, while there are
  // others; over kRailsMax it leaves out the last.
  Result<std::unique_ptr<Listener>> Listen(const std::string& address,
                                           std::shared_ptr<Handler> handler) override;
  Result<std::shared_ptr<Channel>> Connect(const std::string& address) override;
  std::string name() const override;                       // "local, tls"
  bool passes_fds() const override;                        // only when all of them do
  bool Speaks(const std::string& address) const override;  // to each of a peer's addresses

 private:
  Result<Transport*> Of(const std::string& address) const;

  Clock& clock_;
  metrics::Registry* const registry_;
  std::vector<std::unique_ptr<Transport>> providers_;
};

}  // namespace perigee::rdma
