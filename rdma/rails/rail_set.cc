#include "rdma/rails/rail_set.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

#include "base/log.h"

namespace perigee::rdma {

namespace {

constexpr double kReplyWeight = 1.0 / 8;  // of the newest reply in its method's average

std::string_view Word(RailState state) {
  switch (state) {
    case RailState::kNew:
      return "new";
    case RailState::kUp:
      return "up";
    case RailState::kCooling:
      return "cooling down";
  }
  return "";
}

// The peer's own word, and not that of the way to it.
bool IsAnswer(const Result<Payload>& result) {
  const Code code = result.code();
  return code != Code::kUnavailable && code != Code::kDeadlineExceeded &&
         code != Code::kCancelled && code != Code::kBusy;
}

}  // namespace

RailSet::RailSet(std::vector<Rail> rails, Clock& clock, metrics::Registry* registry)
    : clock_(clock) {
  PERIGEE_CHECK(!rails.empty() && rails.size() <= kRailsMax);
  for (Rail& rail : rails) {
    Entry entry;
    entry.address = std::move(rail.address);
    entry.channel = std::move(rail.channel);
    if (registry != nullptr) {
      const metrics::Labels labels = {{"rail", entry.address}};
      entry.bytes_total = registry->GetCounter("perigee_net_rail_bytes_total",
                                               "bulk bytes sent and received over a rail", labels);
      entry.cool_downs_total = registry->GetCounter("perigee_net_rail_cooldowns_total",
                                                    "times a rail was cooled down", labels);
    }
    rails_.push_back(std::move(entry));
  }
}

std::shared_ptr<Channel> RailSet::channel(size_t rail) const {
  std::lock_guard lock(mu_);
  return rails_[rail].channel;
}

void RailSet::DropChannels() {
  std::vector<std::shared_ptr<Channel>> dropped;
  std::lock_guard lock(mu_);
  for (Entry& rail : rails_) dropped.push_back(std::exchange(rail.channel, nullptr));
}

// ---------------------------------------------------------------- calls

bool RailSet::Works(const Entry& rail) const {
  return rail.meter.state() == RailState::kUp && rail.channel && rail.channel->Healthy();
}

uint64_t RailSet::Expected(wire::Method method, uint64_t bulk_bytes) const {
  const auto index = static_cast<size_t>(method);
  return bulk_bytes +
         (index < reply_bytes_.size() ? static_cast<uint64_t>(reply_bytes_[index]) : 0);
}

void RailSet::Learn(wire::Method method, uint64_t reply_bytes) {
  const auto index = static_cast<size_t>(method);
  if (index >= reply_bytes_.size()) return;
  double& average = reply_bytes_[index];
  average += kReplyWeight * (static_cast<double>(reply_bytes) - average);
}

std::optional<size_t> RailSet::Choose(uint64_t bytes, Nanos now, RailMask passed_over) const {
  double best_rate = 0;
  for (const Entry& rail : rails_) best_rate = std::max(best_rate, rail.meter.Rate(now));
  using Cost = std::tuple<double, uint32_t, Nanos>;
  std::optional<size_t> best;
  Cost least;
  for (size_t i = 0; i < rails_.size(); ++i) {
    const Entry& rail = rails_[i];
    if ((passed_over >> i & 1) != 0 || !Works(rail)) continue;
    double seconds = 0;
    if (bytes >= kRailBulkBytes) {
      double rate = rail.meter.Rate(now);
      if (rate == 0) rate = best_rate == 0 ? 1 : best_rate;  // not known: as good as any
      seconds = static_cast<double>(rail.meter.bytes_in_flight() + bytes) / rate;
    }
    const Cost cost{seconds, rail.meter.calls_in_flight(), rail.meter.latency()};
    if (best && !(cost < least)) continue;
    best = i;
    least = cost;
  }
  return best;
}

std::optional<RailSet::Turn> RailSet::Begin(wire::Method method, uint64_t bulk_bytes,
                                            RailMask passed_over) {
  const Nanos now = clock_.Monotonic();
  std::lock_guard lock(mu_);
  for (Entry& rail : rails_) {
    if (rail.meter.state() == RailState::kUp && rail.channel && !rail.channel->Healthy())
      Cool(&rail, now, "the connection was lost");
  }
  const uint64_t bytes = Expected(method, bulk_bytes);
  const auto chosen = Choose(bytes, now, passed_over);
  if (!chosen) return std::nullopt;
  Entry& rail = rails_[*chosen];
  rail.meter.Begin(bytes);
  return Turn{.rail = *chosen,
              .method = method,
              .connection = rail.connection,
              .sent_bytes = bulk_bytes,
              .expected_bytes = bytes,
              .began = now};
}

bool RailSet::End(const Turn& turn, const Result<Payload>& result) {
  const Nanos now = clock_.Monotonic();
  std::lock_guard lock(mu_);
  Entry& rail = rails_[turn.rail];
  rail.meter.End(turn.expected_bytes);
  if (IsAnswer(result)) {
    rail.meter.Answered(now);
    if (!result.ok()) return false;
    const uint64_t bytes = turn.sent_bytes + result->bulk.size();
    Learn(turn.method, result->bulk.size());
    rail.meter.Moved(turn.began, now, bytes);
    Count(&rail, bytes);
    return false;
  }
  const bool same = turn.connection == rail.connection;
  if (result.code() == Code::kUnavailable) {
    // The peer's own word where the rail is well.
    const bool failed = !same || !rail.channel || !rail.channel->Healthy();
    if (failed && same) Cool(&rail, now, result.status().message());
    return failed;
  }
  const bool silent = result.code() == Code::kDeadlineExceeded && same &&
                      turn.expected_bytes >= kRailBulkBytes &&
                      rail.meter.last_answer() < turn.began;
  const bool others = std::any_of(rails_.begin(), rails_.end(), [&](const Entry& other) {
    return &other != &rail && Works(other);
  });
  if (silent && others) Cool(&rail, now, result.status().message());
  return false;
}

void RailSet::Count(Entry* rail, uint64_t bytes) {
  rail->bytes += bytes;
  if (rail->bytes_total != nullptr) rail->bytes_total->Add(static_cast<double>(bytes));
}

void RailSet::Cool(Entry* rail, Nanos now, const std::string& why) {
  const bool was_up = rail->meter.state() != RailState::kCooling;
  if (!rail->meter.Cool(now, why)) return;
  ++rail->cool_downs;
  if (rail->cool_downs_total != nullptr) rail->cool_downs_total->Add(1);
  if (was_up) log::Warn("rail_cooled_down", {{"rail", rail->address}, {"why", why}});
}

// ---------------------------------------------------------------- probes

std::vector<size_t> RailSet::TakeRested() {
  const Nanos now = clock_.Monotonic();
  std::vector<size_t> rested;
  std::lock_guard lock(mu_);
  for (size_t i = 0; i < rails_.size(); ++i) {
    Entry& rail = rails_[i];
    if (!rail.channel || rail.probing || !rail.meter.Rested(now)) continue;
    rail.probing = true;
    rested.push_back(i);
  }
  return rested;
}

void RailSet::Probed(size_t rail) {
  std::lock_guard lock(mu_);
  rails_[rail].probing = false;
}

bool RailSet::Tell(size_t index, Nanos began, const Result<Payload>& answer) {
  const Nanos now = clock_.Monotonic();
  std::lock_guard lock(mu_);
  Entry& rail = rails_[index];
  if (answer.ok() || (IsAnswer(answer) && rail.channel && rail.channel->Healthy())) {
    if (rail.meter.state() != RailState::kUp) {
      ++rail.connection;
      log::Info("rail_up", {{"rail", rail.address}});
    }
    rail.meter.Up(now - began);
    return true;
  }
  if (!Works(rail)) Cool(&rail, now, answer.status().message());
  return false;
}

// ---------------------------------------------------------------- status

bool RailSet::Healthy() const {
  std::lock_guard lock(mu_);
  return std::any_of(rails_.begin(), rails_.end(), [](const Entry& rail) {
    return rail.meter.state() != RailState::kCooling && rail.channel && rail.channel->Healthy();
  });
}

std::vector<wire::RailInfo> RailSet::Rails() const {
  const Nanos now = clock_.Monotonic();
  std::vector<wire::RailInfo> out;
  std::lock_guard lock(mu_);
  for (const Entry& rail : rails_) {
    out.push_back({.address = rail.address,
                   .state = std::string(Word(rail.meter.state())),
                   .problem = rail.meter.problem(),
                   .bytes_per_s = static_cast<uint64_t>(rail.meter.Rate(now)),
                   .latency_ns = static_cast<uint64_t>(rail.meter.latency()),
                   .calls_in_flight = rail.meter.calls_in_flight(),
                   .bytes = rail.bytes,
                   .cool_downs = rail.cool_downs});
  }
  return out;
}

}  // namespace perigee::rdma
