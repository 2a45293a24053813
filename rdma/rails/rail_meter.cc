#include "rdma/rails/rail_meter.h"

#include <algorithm>

namespace perigee::rdma {

namespace {
constexpr double kKept = 15.0 / 16;  // of the older calls' weight, at each newer one
}

void RailMeter::Up(Nanos latency) {
  state_ = RailState::kUp;
  latency_ = latency;
  problem_.clear();
}

bool RailMeter::Cool(Nanos now, const std::string& why) {
  problem_ = why;
  if (state_ == RailState::kCooling && now < rests_until_) return false;
  state_ = RailState::kCooling;
  cool_down_ = std::clamp(2 * cool_down_, kRailCoolDownMin, kRailCoolDownMax);
  rests_until_ = now + cool_down_;
  return true;
}

void RailMeter::Begin(uint64_t bytes) {
  bytes_in_flight_ += bytes;
  ++calls_in_flight_;
}

void RailMeter::End(uint64_t bytes) {
  bytes_in_flight_ -= bytes;
  --calls_in_flight_;
}

void RailMeter::Answered(Nanos now) {
  last_answer_ = now;
  cool_down_ = 0;
}

void RailMeter::Moved(Nanos began, Nanos now, uint64_t bytes) {
  if (bytes < kRailBulkBytes) return;
  if (now - last_bulk_ > kRailRateAgeMax) bytes_ = busy_s_ = 0;
  const Nanos busy = std::max<Nanos>(now - std::max(began, last_bulk_), 0);
  bytes_ = kKept * bytes_ + static_cast<double>(bytes);
  busy_s_ = kKept * busy_s_ + static_cast<double>(busy) / kSecond;
  last_bulk_ = now;
}

double RailMeter::Rate(Nanos now) const {
  if (busy_s_ <= 0 || now - last_bulk_ > kRailRateAgeMax) return 0;
  return bytes_ / busy_s_;
}

}  // namespace perigee::rdma
