#pragma once
// PathCache: full paths of directories, for the change feed. A path depends on directory moves
// only, and each of these counts up one row (keys::MoveCount) in its own commit: a cached path is
// right for exactly the readers that see the count it was computed under. Bounded; thread-safe.

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "rdma/wire/record.h"

namespace perigee::objectd {

class PathCache {
 public:
  std::optional<std::string> Find(uint64_t moves, wire::FileId dir) {
    std::lock_guard lock(mu_);
    if (moves != moves_) return std::nullopt;
    auto it = paths_.find(dir);
    if (it == paths_.end()) return std::nullopt;
    return it->second;
  }
  void Insert(uint64_t moves, wire::FileId dir, const std::string& path) {
    std::lock_guard lock(mu_);
    if (moves < moves_) return;  // an older snapshot
    if (moves > moves_ || bytes_ > kBytesMax) {
      paths_.clear();
      bytes_ = 0;
    }
    moves_ = moves;
    if (paths_.try_emplace(dir, path).second) bytes_ += path.size() + kRowBytes;
  }

 private:
  static constexpr size_t kBytesMax = 4 << 20;
  static constexpr size_t kRowBytes = 100;  // of the map itself, about
  std::mutex mu_;
  uint64_t moves_ = 0;  // guarded by mu_, as all below
  size_t bytes_ = 0;
  std::unordered_map<wire::FileId, std::string> paths_;
};

}  // namespace perigee::objectd
