#include "client/blob/storage_door.h"

#include <utility>

#include "base/bytes.h"
#include "base/log.h"
#include "rdma/rails/rail_channel.h"

namespace perigee::client {

StorageDoor::StorageDoor(wire::NodeId node, std::string address,
                         std::shared_ptr<rdma::Channel> channel, Clock* clock)
    : node_(node),
      address_(std::move(address)),
      channel_(std::move(channel)),
      clock_(clock),
      since_(clock->Wall()) {}

std::shared_ptr<rdma::Channel> StorageDoor::Channel() {
  {
    std::lock_guard lock(mu_);
    if (!away_) return channel_;
    if (pinging_ || clock_->Monotonic() < ping_at_) return nullptr;
    pinging_ = true;
  }
  Ping();
  return nullptr;
}

void StorageDoor::Ping() {
  channel_->Call(wire::Method::kPing, "", {}, {.timeout = kPingTimeout},
                 [weak = weak_from_this()](Result<rdma::Payload> reply) {
                   auto self = weak.lock();
                   if (!self) return reply.status().Ignore();
                   {
                     std::lock_guard lock(self->mu_);
                     self->pinging_ = false;
                   }
                   self->Note(reply.status());
                 });
}

void StorageDoor::Note(const Status& outcome) {
  if (!outcome.ok() && channel_->Healthy()) return;
  std::lock_guard lock(mu_);
  const bool was_away = std::exchange(away_, !outcome.ok());
  if (away_) {
    ping_at_ = clock_->Monotonic() + kPingEvery;
    problem_ = outcome.message();
  }
  if (was_away == away_) return;
  since_ = clock_->Wall();
  if (away_)
    log::Warn("storage_node_not_reached",
              {{"address", address_}, {"error", outcome}, {"instead", "by way of objectd"}});
  else
    log::Info("storage_node_reached", {{"address", address_}});
}

wire::LinkInfo StorageDoor::Link() {
  if (Channel() && !channel_->Healthy())
    Note(Status(Code::kUnavailable, "the connection broke a moment ago"));
  std::lock_guard lock(mu_);
  wire::LinkInfo link;
  link.to = "storage node " + HexEncode64(node_);
  link.address = address_;
  link.connected = !away_;
  link.since = since_;
  link.rails = rdma::RailsOf(*channel_);
  if (away_) link.problem = problem_;
  return link;
}

}  // namespace perigee::client
