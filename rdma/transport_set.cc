#include "rdma/transport_set.h"

#include <algorithm>
#include <utility>

namespace perigee::rdma {

void TransportSet::Add(std::unique_ptr<Transport> provider) {
  providers_.push_back(std::move(provider));
}

Result<Transport*> TransportSet::Of(const std::string& address) const {
  for (const auto& provider : providers_)
    if (provider->Speaks(address)) return provider.get();
  return Status(Code::kUnavailable, address + ": this process speaks " + name() + " only");
}

Result<std::unique_ptr<Listener>> TransportSet::Listen(const std::string& address,
                                                       std::shared_ptr<Handler> handler) {
  PERIGEE_ASSIGN(Transport * provider, Of(address));
  return provider->Listen(address, std::move(handler));
}

Result<std::shared_ptr<Channel>> TransportSet::Connect(const std::string& address) {
  PERIGEE_ASSIGN(Transport * provider, Of(address));
  return provider->Connect(address);
}

std::string TransportSet::name() const {
  std::string names;
  for (const auto& provider : providers_) names += (names.empty() ? "" : ", ") + provider->name();
  return names;
}

bool TransportSet::passes_fds() const {
  return std::all_of(providers_.begin(), providers_.end(),
                     [](const auto& provider) { return provider->passes_fds(); });
}

bool TransportSet::Speaks(const std::string& address) const {
  return std::any_of(providers_.begin(), providers_.end(),
                     [&](const auto& provider) { return provider->Speaks(address); });
}

}  // namespace perigee::rdma
