#include "objectd/kv/commit_window.h"

#include <algorithm>

namespace perigee::objectd::kv {
namespace {

constexpr size_t kCommitOverhead = 64;
constexpr size_t kKeyOverhead = 96;  // of a string, and of its slot in the map

bool Touches(const std::vector<std::string>& sorted, const Range& range) {
  auto at = std::lower_bound(sorted.begin(), sorted.end(), range.begin);
  return at != sorted.end() && BeforeEnd(*at, range.end);
}

Status Conflict(const char* why) { return Status(Code::kConflict, why); }

}  // namespace

Status CommitWindow::Validate(const ReadSet& reads, Position snapshot) const {
  if (reads.empty()) return Status::Ok();
  if (snapshot < floor_) return Conflict("the snapshot is older than the commits remembered");
  for (const std::string& key : reads.keys) {
    auto it = last_write_.find(key);
    if (it != last_write_.end() && it->second > snapshot) return Conflict("a key read was changed");
  }
  if (reads.ranges.empty()) return Status::Ok();
  for (auto commit = commits_.rbegin(); commit != commits_.rend() && commit->position > snapshot;
       ++commit) {
    for (const Range& range : reads.ranges) {
      if (Touches(commit->keys, range)) return Conflict("a range read was changed");
    }
  }
  return Status::Ok();
}

void CommitWindow::Add(Position position, std::vector<std::string> keys) {
  PERIGEE_CHECK(position > floor_ && (commits_.empty() || position > commits_.back().position));
  size_t bytes = kCommitOverhead;
  for (const std::string& key : keys) bytes += key.size() + kKeyOverhead;
  commits_.push_back({position, std::move(keys), bytes});
  for (const std::string& key : commits_.back().keys) {
    last_write_.erase(key);  // its view points into an older commit
    last_write_.emplace(key, position);
  }
  bytes_ += bytes;
  while (bytes_ > bytes_max_ && commits_.size() > 1) DropOldest();
}

void CommitWindow::DropOldest() {
  Commit& oldest = commits_.front();
  for (const std::string& key : oldest.keys) {
    auto it = last_write_.find(key);
    if (it != last_write_.end() && it->second == oldest.position) last_write_.erase(it);
  }
  floor_ = oldest.position;
  bytes_ -= oldest.bytes;
  commits_.pop_front();
}

std::optional<Position> CommitWindow::LastWrite(std::string_view key) const {
  auto it = last_write_.find(key);
  if (it == last_write_.end()) return std::nullopt;
  return it->second;
}

void CommitWindow::Reset(Position floor) {
  last_write_.clear();
  commits_.clear();
  bytes_ = 0;
  floor_ = floor;
}

}  // namespace perigee::objectd::kv
