#pragma once
// TransportSet: several providers as one Transport. What an address begins with says whose it is:
// "local:/run/perigee/objectd.sock", "tls:10.0.0.1:9002". Thread-safe once built.

#include <memory>
#include <string>
#include <vector>

#include "rdma/transport.h"

namespace perigee::rdma {

class TransportSet final : public Transport {
 public:
  void Add(std::unique_ptr<Transport> provider);  // before anything else

  // kUnavailable: this process was not given that provider. Else the provider's own errors.
  Result<std::unique_ptr<Listener>> Listen(const std::string& address,
                                           std::shared_ptr<Handler> handler) override;
  Result<std::shared_ptr<Channel>> Connect(const std::string& address) override;
  std::string name() const override;  // "local, tls"
  bool passes_fds() const override;   // only when all of them do
  bool Speaks(const std::string& address) const override;

 private:
  Result<Transport*> Of(const std::string& address) const;
  std::vector<std::unique_ptr<Transport>> providers_;
};

}  // namespace perigee::rdma
