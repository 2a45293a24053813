#include "tiers/flush/flush_queue.h"

#include <algorithm>

namespace perigee::tiers {

void FlushQueue::Add(Key key, Nanos sealed_at) {
  auto [it, fresh] = entries_.try_emplace(key);
  if (!fresh) return;
  it->second.sealed_at = sealed_at;
  it->second.ready_at = sealed_at + options_.linger;
  order_[{sealed_at, key}] = it->second.ready_at;
}

void FlushQueue::Remove(Key key) {
  auto it = entries_.find(key);
  if (it == entries_.end()) return;
  if (it->second.running)
    --running_;
  else
    order_.erase({it->second.sealed_at, key});
  entries_.erase(it);
}

void FlushQueue::Force(Key key) {
  auto it = entries_.find(key);
  if (it == entries_.end()) return;
  it->second.ready_at = 0;
  if (!it->second.running) order_[{it->second.sealed_at, key}] = 0;
}

std::optional<FlushQueue::Key> FlushQueue::Next(Nanos now) {
  if (held_ || running_ >= options_.in_flight_max) return std::nullopt;
  for (auto it = order_.begin(); it != order_.end(); ++it) {
    if (it->second > now) continue;
    Key key = it->first.second;
    order_.erase(it);
    entries_[key].running = true;
    ++running_;
    return key;
  }
  return std::nullopt;
}

void FlushQueue::Failed(Key key, Nanos now) {
  auto it = entries_.find(key);
  if (it == entries_.end() || !it->second.running) return;
  Entry& e = it->second;
  e.running = false;
  --running_;
  Nanos delay = options_.retry_first;
  for (uint32_t i = 0; i < e.failures && delay < options_.retry_most; ++i) delay *= 2;
  ++e.failures;
  e.ready_at = now + std::min(delay, options_.retry_most);
  order_[{e.sealed_at, key}] = e.ready_at;
}

std::optional<Nanos> FlushQueue::NextWake() const {
  if (held_ || running_ >= options_.in_flight_max || order_.empty()) return std::nullopt;
  Nanos first = order_.begin()->second;
  for (const auto& [key, ready_at] : order_) first = std::min(first, ready_at);
  return first;
}

}  // namespace perigee::tiers
