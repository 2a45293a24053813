#include "objectd/kv/row_cache.h"

namespace perigee::objectd::kv {

std::optional<RowCache::Value> RowCache::Find(std::string_view key, Position at) {
  std::lock_guard lock(mu_);
  auto row = rows_.find(key);
  if (row == rows_.end()) {
    auto old = older_.find(key);
    if (old == older_.end()) return std::nullopt;
    if (at < old->second.since) return std::nullopt;
    Rows::node_type found = older_.extract(old);
    MakeRoomLocked(BytesOf(key, found.mapped().value));
    return rows_.insert(std::move(found)).position->second.value;
  }
  if (at < row->second.since) return std::nullopt;
  return row->second.value;
}

// For a row that is about to be put into rows_.
void RowCache::MakeRoomLocked(size_t bytes) {
  if (bytes_ + bytes > bytes_max_ / 2) {
    older_ = std::move(rows_);
    rows_.clear();
    bytes_ = 0;
  }
  bytes_ += bytes;
}

void RowCache::Offer(std::string_view key, const Value& value, Position at) {
  if (value && value->size() > kValueBytesMax) return;
  const size_t hash = Hash()(key), slot = hash % kSlots;
  std::lock_guard lock(mu_);
  // A commit may have overtaken the reader: what it read is not what newer views hold.
  if (written_[slot] > at) return;
  if (std::exchange(offered_[slot], hash) != hash) return;
  if (rows_.find(key) != rows_.end() || older_.find(key) != older_.end()) return;
  MakeRoomLocked(BytesOf(key, value));
  rows_.try_emplace(std::string(key), Row{value, at});
}

void RowCache::Written(std::string_view key, Position position) {
  const size_t slot = Hash()(key) % kSlots;
  std::lock_guard lock(mu_);
  written_[slot] = position;
  if (auto row = rows_.find(key); row != rows_.end()) {
    bytes_ -= BytesOf(key, row->second.value);
    rows_.erase(row);
  } else if (auto old = older_.find(key); old != older_.end()) {
    older_.erase(old);
  }
}

Result<std::optional<std::string>> CachedReader::Get(std::string_view key) {
  if (auto known = cache_.Find(key, position())) return std::move(*known);
  PERIGEE_ASSIGN(std::optional<std::string> value, view_.Get(key));
  cache_.Offer(key, value, position());
  return value;
}

Result<std::vector<std::optional<std::string>>> CachedReader::GetMany(
    const std::vector<std::string>& keys) {
  std::vector<std::optional<std::string>> out(keys.size());
  std::vector<std::string> asked;
  std::vector<size_t> slots;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (auto known = cache_.Find(keys[i], position())) {
      out[i] = std::move(*known);
    } else {
      asked.push_back(keys[i]);
      slots.push_back(i);
    }
  }
  if (asked.empty()) return out;
  PERIGEE_ASSIGN(auto found, view_.GetMany(asked));
  for (size_t i = 0; i < slots.size(); ++i) {
    cache_.Offer(asked[i], found[i], position());
    out[slots[i]] = std::move(found[i]);
  }
  return out;
}

}  // namespace perigee::objectd::kv
