#include "objectd/drive/shard_index.h"

#include <map>
#include <mutex>

#include "base/bytes.h"

// Keys: 'S' volume be32 seq be64 index be32.  Value: segment u32, payload_bytes u32, generation
// u64, offset u64, record_seq u64. Marks: 'P' segment be32 -> generation u64, scanned u64.
// Little-endian values.

namespace perigee::objectd {
namespace {

class MemoryIndex final : public ShardIndex {
 public:
  Result<std::optional<ShardPlace>> Find(const ShardKey& key) override {
    std::lock_guard lock(mu_);
    auto it = entries_.find(key);
    if (it == entries_.end()) return std::optional<ShardPlace>();
    return std::optional<ShardPlace>(it->second);
  }
  Status Put(const ShardKey& key, const ShardPlace& place, const SegmentMark& mark) override {
    std::lock_guard lock(mu_);
    entries_[key] = place;
    marks_[mark.segment] = mark;
    return Status::Ok();
  }
  Status Delete(const ShardKey& key) override {
    std::lock_guard lock(mu_);
    entries_.erase(key);
    return Status::Ok();
  }
  Status SetMark(const SegmentMark& mark) override {
    std::lock_guard lock(mu_);
    marks_[mark.segment] = mark;
    return Status::Ok();
  }
  Result<std::vector<SegmentMark>> Marks() override {
    std::lock_guard lock(mu_);
    std::vector<SegmentMark> marks;
    for (const auto& [segment, mark] : marks_) marks.push_back(mark);
    return marks;
  }
  Status ForEach(const ShardKey& first,
                 const std::function<bool(const ShardKey&, const ShardPlace&)>& visit) override {
    std::lock_guard lock(mu_);
    for (auto it = entries_.lower_bound(first); it != entries_.end(); ++it)
      if (!visit(it->first, it->second)) break;
    return Status::Ok();
  }
  Status Flush() override { return Status::Ok(); }

 private:
  std::mutex mu_;  // guards both maps
  std::map<ShardKey, ShardPlace> entries_;
  std::map<uint32_t, SegmentMark> marks_;
};

}  // namespace

std::unique_ptr<ShardIndex> CreateMemoryIndex() { return std::make_unique<MemoryIndex>(); }

std::string EncodeShardKey(const ShardKey& key) {
  std::string out = "S";
  AppendBe32(&out, key.volume);
  AppendBe64(&out, key.seq);
  AppendBe32(&out, key.index);
  return out;
}

Result<ShardKey> DecodeShardKey(std::string_view key) {
  if (key.size() != 17 || key[0] != 'S')
    return Status(Code::kCorrupt, "malformed index key " + HexEncode(key));
  return ShardKey{GetBe32(key.substr(1)), GetBe64(key.substr(5)), GetBe32(key.substr(13))};
}

std::string EncodeShardPlace(const ShardPlace& place) {
  std::string out(32, '\0');
  auto* p = reinterpret_cast<uint8_t*>(out.data());
  PutLe<uint32_t>(p, place.segment);
  PutLe<uint32_t>(p + 4, place.payload_bytes);
  PutLe<uint64_t>(p + 8, place.generation);
  PutLe<uint64_t>(p + 16, place.offset);
  PutLe<uint64_t>(p + 24, place.record_seq);
  return out;
}

Result<ShardPlace> DecodeShardPlace(std::string_view value) {
  if (value.size() != 32) return Status(Code::kCorrupt, "malformed index entry");
  const auto* p = reinterpret_cast<const uint8_t*>(value.data());
  ShardPlace place;
  place.segment = GetLe<uint32_t>(p);
  place.payload_bytes = GetLe<uint32_t>(p + 4);
  place.generation = GetLe<uint64_t>(p + 8);
  place.offset = GetLe<uint64_t>(p + 16);
  place.record_seq = GetLe<uint64_t>(p + 24);
  return place;
}

std::string EncodeSegmentMark(const SegmentMark& mark) {
  std::string out(16, '\0');
  auto* p = reinterpret_cast<uint8_t*>(out.data());
  PutLe<uint64_t>(p, mark.generation);
  PutLe<uint64_t>(p + 8, mark.scanned);
  return out;
}

Result<SegmentMark> DecodeSegmentMark(uint32_t segment, std::string_view value) {
  if (value.size() != 16) return Status(Code::kCorrupt, "malformed segment mark");
  const auto* p = reinterpret_cast<const uint8_t*>(value.data());
  return SegmentMark{segment, GetLe<uint64_t>(p), GetLe<uint64_t>(p + 8)};
}

}  // namespace perigee::objectd
