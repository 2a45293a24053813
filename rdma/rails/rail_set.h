#pragma once
// RailSet: the rails to one peer: which of them takes the next call, and which are cooled down.
//
// A call goes to the rail that is expected to finish it first: a bulk call by the bytes in flight
// there, its own, and the rail's rate; a small one to the rail with the fewest calls in flight,
// then the lowest latency. How much a reply will carry is taken from the replies to that method so
// far. A rail takes calls only once it has answered a probe. It is cooled down when its channel is
// not healthy, when a call failed with kUnavailable because of it, and when a bulk call met its
// deadline there while nothing was answered and another rail is up. Thread-safe; calls nobody but
// Channel::Healthy with its lock held.

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "rdma/rails/rail_meter.h"
#include "rdma/transport.h"
#include "rdma/wire/control.h"

namespace perigee::rdma {

struct Rail {
  std::string address;
  std::shared_ptr<Channel> channel;
};
inline constexpr size_t kRailsMax = 16;
using RailMask = uint32_t;  // bit i: rail i

class RailSet {
 public:
  // One call's place on a rail, from Begin to End.
  struct Turn {
    size_t rail = 0;
    wire::Method method{};
    uint64_t connection = 0;  // which of the rail's times of being up
    uint64_t sent_bytes = 0, expected_bytes = 0;
    Nanos began = 0;
  };
  // At most kRailsMax rails. `registry` null: nothing is counted.
  RailSet(std::vector<Rail> rails, Clock& clock, metrics::Registry* registry);

  size_t size() const { return rails_.size(); }
  const std::string& address(size_t rail) const { return rails_[rail].address; }
  std::shared_ptr<Channel> channel(size_t rail) const;  // null once they were dropped
  void DropChannels();

  // None: no rail outside `passed_over` is up. Each turn is to be ended.
  std::optional<Turn> Begin(wire::Method method, uint64_t bulk_bytes, RailMask passed_over);
  // True: the rail failed under the call, which may have been executed.
  bool End(const Turn& turn, const Result<Payload>& result);

  // Rails to be probed now, each once until Probed is told.
  std::vector<size_t> TakeRested();
  void Probed(size_t rail);
  // What a probe came to; true: the rail is up.
  bool Tell(size_t rail, Nanos began, const Result<Payload>& answer);

  bool Healthy() const;
  std::vector<wire::RailInfo> Rails() const;

 private:
  struct Entry {
    std::string address;
    std::shared_ptr<Channel> channel;
    RailMeter meter;
    uint64_t connection = 0;
    bool probing = false;
    uint64_t bytes = 0, cool_downs = 0;
    metrics::Counter* bytes_total = nullptr;
    metrics::Counter* cool_downs_total = nullptr;
  };
  bool Works(const Entry& rail) const;
  void Cool(Entry* rail, Nanos now, const std::string& why);
  void Count(Entry* rail, uint64_t bytes);
  uint64_t Expected(wire::Method method, uint64_t bulk_bytes) const;
  void Learn(wire::Method method, uint64_t reply_bytes);
  std::optional<size_t> Choose(uint64_t bytes, Nanos now, RailMask passed_over) const;

  Clock& clock_;
  mutable std::mutex mu_;                                 // guards what follows
  std::vector<Entry> rails_;                              // their number and addresses never change
  std::array<double, wire::kMethodCount> reply_bytes_{};  // average bulk of each method's replies
};

}  // namespace perigee::rdma
