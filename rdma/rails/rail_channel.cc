#include "rdma/rails/rail_channel.h"

#include <utility>

#include "rdma/rails/rail_calls.h"

namespace perigee::rdma {

RailChannel::RailChannel(std::vector<Rail> rails, Clock& clock, metrics::Registry* registry)
    : calls_(std::make_shared<RailCalls>(std::move(rails), clock, registry)) {}

// The channels end with it and not with the last of their calls, which they fail.
RailChannel::~RailChannel() { calls_->set().DropChannels(); }

void RailChannel::Call(wire::Method method, std::string header, ConstBytes bulk,
                       CallOptions options, Done done) {
  PERIGEE_CHECK(done != nullptr);
  calls_->Call(method, std::move(header), bulk, options, std::move(done));
}

Result<Payload> RailChannel::CallAndWait(wire::Method method, std::string header, ConstBytes bulk,
                                         CallOptions options) {
  return calls_->CallAndWait(method, std::move(header), bulk, options);
}

bool RailChannel::Healthy() const { return calls_->set().Healthy(); }

std::string RailChannel::Describe() const {
  RailSet& set = calls_->set();
  std::string text = std::to_string(set.size()) + " rails: ";
  for (size_t i = 0; i < set.size(); ++i) {
    auto channel = set.channel(i);
    text += (i == 0 ? "" : ", ") + (channel ? channel->Describe() : set.address(i));
  }
  return text;
}

void RailChannel::Close() { calls_->Close(); }

std::vector<wire::RailInfo> RailChannel::Rails() const { return calls_->set().Rails(); }

std::vector<wire::RailInfo> RailsOf(const Channel& channel) {
  const auto* rails = dynamic_cast<const RailChannel*>(&channel);
  return rails == nullptr ? std::vector<wire::RailInfo>() : rails->Rails();
}

}  // namespace perigee::rdma
