#include "bufferd/handles.h"

#include "base/random.h"

namespace perigee::bufferd {

Handles::Handles() : next_((SecretU64() >> 8) | 1) {}

uint64_t Handles::Add(uint64_t connection, Handle handle) {
  std::lock_guard lock(mu_);
  if (ended_.contains(connection)) return 0;
  by_connection_[connection][next_] = std::move(handle);
  return next_++;
}

Result<Handle> Handles::Find(uint64_t connection, uint64_t handle) const {
  std::lock_guard lock(mu_);
  auto c = by_connection_.find(connection);
  if (c == by_connection_.end()) return Status(Code::kStale, "no such handle");
  auto h = c->second.find(handle);
  if (h == c->second.end()) return Status(Code::kStale, "no such handle");
  return h->second;
}

Result<Handle> Handles::Remove(uint64_t connection, uint64_t handle) {
  std::lock_guard lock(mu_);
  auto c = by_connection_.find(connection);
  if (c == by_connection_.end()) return Status(Code::kStale, "no such handle");
  auto h = c->second.find(handle);
  if (h == c->second.end()) return Status(Code::kStale, "no such handle");
  Handle found = std::move(h->second);
  c->second.erase(h);
  if (c->second.empty()) by_connection_.erase(c);
  return found;
}

std::vector<Handle> Handles::Disconnect(uint64_t connection) {
  std::lock_guard lock(mu_);
  ended_.insert(connection);
  ended_order_.push_back(connection);
  // Bounded: an open that takes longer than this many disconnects is cut off by its deadline long
  // before.
  if (ended_order_.size() > kEndedMax) {
    ended_.erase(ended_order_.front());
    ended_order_.pop_front();
  }
  std::vector<Handle> all;
  auto c = by_connection_.find(connection);
  if (c == by_connection_.end()) return all;
  for (auto& [number, handle] : c->second) all.push_back(std::move(handle));
  by_connection_.erase(c);
  return all;
}

size_t Handles::size() const {
  std::lock_guard lock(mu_);
  size_t n = 0;
  for (const auto& [connection, handles] : by_connection_) n += handles.size();
  return n;
}

}  // namespace perigee::bufferd
