#include "rdma/node_channels.h"

#include <utility>

#include "base/bytes.h"
#include "rdma/node_address.h"
#include "rdma/rails/rail_channel.h"

namespace perigee::rdma {

NodeChannels::NodeChannels(Transport& transport, Clock& clock, Lookup lookup)
    : transport_(transport), clock_(clock), lookup_(std::move(lookup)), machine_(ThisMachine()) {}

Result<std::shared_ptr<Channel>> NodeChannels::To(wire::NodeId node) {
  {
    std::lock_guard lock(mu_);
    auto found = nodes_.find(node);
    if (found != nodes_.end() && found->second.channel) return found->second.channel;
  }
  const std::string name = "node " + HexEncode64(node);
  auto unreachable = [&](const Status& why) {
    return Status(Code::kUnavailable, name + ": " + why.message());
  };
  auto where = lookup_(node);
  if (!where.ok()) return unreachable(where.status());
  auto address = ChooseAddress(where->address, where->doors, machine_, transport_);
  if (!address.ok()) return unreachable(address.status());
  auto channel = transport_.Connect(*address);
  if (!channel.ok()) return unreachable(channel.status());
  std::lock_guard lock(mu_);
  Entry& entry = nodes_[node];
  if (!entry.channel) entry = {std::move(*channel), *address, "", clock_.Wall()};
  return entry.channel;
}

void NodeChannels::Note(wire::NodeId node, const std::shared_ptr<Channel>& channel,
                        const Status& status) {
  if (!status.Is(Code::kUnavailable) && !status.Is(Code::kDeadlineExceeded)) return;
  std::lock_guard lock(mu_);
  auto found = nodes_.find(node);
  if (found == nodes_.end() || found->second.channel != channel) return;
  found->second.channel.reset();
  found->second.problem = status.message();
  found->second.since = clock_.Wall();
}

std::vector<wire::LinkInfo> NodeChannels::Links() const {
  std::lock_guard lock(mu_);
  std::vector<wire::LinkInfo> links;
  for (const auto& [node, entry] : nodes_) {
    links.push_back(
        {.to = "node " + HexEncode64(node),
         .address = entry.address,
         .connected = entry.channel && entry.channel->Healthy(),
         .since = entry.since,
         .problem = entry.problem,
         .rails = entry.channel ? RailsOf(*entry.channel) : std::vector<wire::RailInfo>()});
  }
  return links;
}

void NodeChannels::Close() {
  std::map<wire::NodeId, Entry> nodes;
  {
    std::lock_guard lock(mu_);
    nodes.swap(nodes_);
  }
  for (auto& [node, entry] : nodes)
    if (entry.channel) entry.channel->Close();
}

}  // namespace perigee::rdma
