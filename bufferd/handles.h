#pragma once
// Handles: the opens of local clients, each belonging to the connection it was made on. Numbers are
// never used twice, also across restarts (they begin at random), so a stale one is told apart.
// Thread-safe.

#include <cstdint>
#include <deque>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "bufferd/burst_file.h"

namespace perigee::bufferd {

struct Handle {
  FilePtr file;
  wire::Access access = wire::Access::kRead;
};

class Handles {
 public:
  Handles();
  // 0 when the connection is gone already; the caller releases the open.
  uint64_t Add(uint64_t connection, Handle handle);
  // kStale: the connection does not have it.
  Result<Handle> Find(uint64_t connection, uint64_t handle) const;
  Result<Handle> Remove(uint64_t connection, uint64_t handle);
  // All of a connection that ended. Opens still under way for it get 0 from Add.
  std::vector<Handle> Disconnect(uint64_t connection);
  size_t size() const;

 private:
  static constexpr size_t kEndedMax = 65536;
  mutable std::mutex mu_;  // guards what follows
  uint64_t next_;
  std::unordered_map<uint64_t, std::unordered_map<uint64_t, Handle>> by_connection_;
  std::unordered_set<uint64_t> ended_;
  std::deque<uint64_t> ended_order_;
};

}  // namespace perigee::bufferd
