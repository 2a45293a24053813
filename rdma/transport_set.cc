#include "rdma/transport_set.h"

#include <algorithm>
#include <utility>

#include "rdma/rails/address_list.h"
#include "rdma/rails/rail_channel.h"

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
  std::vector<std::string> addresses = SplitAddresses(address);
  if (std::any_of(addresses.begin(), addresses.end(),
                  [&](const std::string& one) { return Speaks(one); }))
    std::erase_if(addresses, [&](const std::string& one) { return !Speaks(one); });
  addresses.resize(std::min(addresses.size(), kRailsMax));
  std::vector<Rail> rails;
  for (std::string& one : addresses) {
    PERIGEE_ASSIGN(Transport * provider, Of(one));
    PERIGEE_ASSIGN(std::shared_ptr<Channel> channel, provider->Connect(one));
    rails.push_back({std::move(one), std::move(channel)});
  }
  if (rails.size() == 1) return std::move(rails.front().channel);
  return std::shared_ptr<Channel>(
      std::make_shared<RailChannel>(std::move(rails), clock_, registry_));
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
  const std::vector<std::string> addresses = SplitAddresses(address);
  return std::all_of(addresses.begin(), addresses.end(), [&](const std::string& one) {
    return std::any_of(providers_.begin(), providers_.end(),
                       [&](const auto& provider) { return provider->Speaks(one); });
  });
}

}  // namespace perigee::rdma
