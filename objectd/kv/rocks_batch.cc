// Commits as RocksDB write batches (store_format.h).

#include <rocksdb/comparator.h>
#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>

#include "objectd/kv/rocks_engine.h"
#include "objectd/kv/store_format.h"

namespace perigee::objectd::kv {
namespace {

// A batch names column families by number only. This stands for the number in no particular DB, so
// that one batch can be built for all mirrors.
class FamilyNumber final : public rocksdb::ColumnFamilyHandle {
 public:
  explicit FamilyNumber(uint32_t id) : id_(id), name_(std::to_string(id)) {}
  const std::string& GetName() const override { return name_; }
  uint32_t GetID() const override { return id_; }
  rocksdb::Status GetDescriptor(rocksdb::ColumnFamilyDescriptor*) override {
    return rocksdb::Status::NotSupported("only a number");
  }
  const rocksdb::Comparator* GetComparator() const override {
    return rocksdb::BytewiseComparator();
  }

 private:
  uint32_t id_;
  std::string name_;
};

rocksdb::ColumnFamilyHandle* FamilyOf(std::string_view key) {
  static FamilyNumber main(kMainFamily), inline_values(kInlineFamily);
  return IsInlineKey(key) ? &inline_values : &main;
}

rocksdb::Slice S(std::string_view s) { return {s.data(), s.size()}; }

// Fills a batch. Its calls fail only beyond limits (a batch of 4 GiB) that a transaction cannot
// reach.
class Writer {
 public:
  void Put(std::string_view key, std::string_view value) {
    PERIGEE_CHECK(batch_.Put(FamilyOf(key), S(key), S(value)).ok());
  }
  void Delete(std::string_view key) { PERIGEE_CHECK(batch_.Delete(FamilyOf(key), S(key)).ok()); }
  void DeleteRange(std::string_view begin, std::string_view end) {
    PERIGEE_CHECK(batch_.DeleteRange(FamilyOf(begin), S(begin), S(end)).ok());
  }
  std::string Take() { return batch_.Data(); }

 private:
  rocksdb::WriteBatch batch_;
};

void PutFeedStep(Writer& out, const FeedIndex::Step& step) {
  if (step.added) out.Put(MarkKey(step.added->position), EncodeU64(step.added->events_total));
  for (Position mark : step.marks_gone) out.Delete(MarkKey(mark));
  for (Position gap : step.gaps_gone) out.Delete(GapKey(gap));
  if (step.low_water) {
    out.Put(LowWaterKey(), EncodeU64(*step.low_water));
    out.DeleteRange(EventKey(0, 0), EventKey(*step.low_water + 1, 0));
  }
}

class HeadFinder final : public rocksdb::WriteBatch::Handler {
 public:
  rocksdb::Status PutCF(uint32_t family, const rocksdb::Slice& key,
                        const rocksdb::Slice& value) override {
    if (family == kMainFamily && key == rocksdb::Slice(head_key_)) found_ = value.ToString();
    return rocksdb::Status::OK();
  }
  rocksdb::Status DeleteCF(uint32_t, const rocksdb::Slice&) override {
    return rocksdb::Status::OK();
  }
  rocksdb::Status DeleteRangeCF(uint32_t, const rocksdb::Slice&, const rocksdb::Slice&) override {
    return rocksdb::Status::OK();
  }
  bool Continue() override { return !found_; }
  const std::optional<std::string>& found() const { return found_; }

 private:
  const std::string head_key_ = HeadKey();
  std::optional<std::string> found_;
};

}  // namespace

std::string EncodeBatch(const CommitContent& content) {
  Writer out;
  out.Put(HeadKey(), EncodeHead(content.head));
  if (content.format) out.Put(FormatKey(), EncodeFormat(*content.format));
  if (content.gap) out.Put(GapKey(content.gap->last), EncodeU64(content.gap->resumed));
  PutFeedStep(out, content.feed);
  for (const auto& [key, value] : content.writes) {
    if (value) {
      out.Put(key, *value);
    } else {
      out.Delete(key);
    }
  }
  uint32_t index = 0;
  for (const std::string& event : content.events)
    out.Put(EventKey(content.head.position, index++), event);
  return out.Take();
}

Result<Head> HeadOfBatch(const std::string& batch) {
  rocksdb::WriteBatch parsed(batch);
  HeadFinder finder;
  PERIGEE_TRY(FromRocks(parsed.Iterate(&finder), "read a logged batch"));
  if (!finder.found()) return Status(Code::kCorrupt, "a logged batch has no head");
  return DecodeHead(*finder.found());
}

}  // namespace perigee::objectd::kv
