#include "objectd/kv/rocks_mirror.h"

#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>

#include "base/failpoint.h"
#include "base/log.h"

namespace perigee::objectd::kv {

RocksMirror::RocksMirror(std::shared_ptr<RocksEngine> engine, MirrorPlace place,
                         RocksHandles handles)
    : engine_(std::move(engine)), place_(std::move(place)), handles_(handles) {}

RocksMirror::~RocksMirror() {
  Status st = engine_->Close(handles_);
  if (!st.ok()) log::Warn("metadata_mirror_close_failed", {{"dir", place_.dir}, {"error", st}});
  closed_->Set();
}

Result<std::shared_ptr<RocksMirror>> RocksMirror::Open(std::shared_ptr<RocksEngine> engine,
                                                       MirrorPlace place, RocksEngine::Mode mode) {
  PERIGEE_ASSIGN(RocksHandles handles, engine->Open(place.dir, mode));
  return std::shared_ptr<RocksMirror>(
      new RocksMirror(std::move(engine), std::move(place), handles));
}

Status RocksMirror::Write(const std::string& batch) {
  PERIGEE_FAILPOINT_STATUS(kv_mirror_before_write);
  // A copy: RocksDB notes the sequence number in the batch it is given.
  rocksdb::WriteBatch copy(batch);
  rocksdb::WriteOptions options;
  options.sync = false;
  PERIGEE_TRY(FromRocks(handles_.db->Write(options, &copy),
                        "write to the metadata mirror in " + place_.dir));
  PERIGEE_FAILPOINT_STATUS(kv_mirror_after_write);
  return Status::Ok();
}

Status RocksMirror::Sync() {
  PERIGEE_FAILPOINT_STATUS(kv_mirror_before_sync);
  PERIGEE_TRY(FromRocks(handles_.db->SyncWAL(), "sync the metadata mirror in " + place_.dir));
  PERIGEE_FAILPOINT_STATUS(kv_mirror_after_sync);
  return Status::Ok();
}

Status RocksMirror::Reclaim() {
  PERIGEE_TRY(FromRocks(handles_.db->Flush(rocksdb::FlushOptions(), handles_.inline_values),
                        "flush inline values in " + place_.dir));
  rocksdb::CompactRangeOptions how;
  how.exclusive_manual_compaction = false;
  how.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  how.blob_garbage_collection_policy = rocksdb::BlobGarbageCollectionPolicy::kDisable;
  return FromRocks(handles_.db->CompactRange(how, handles_.inline_values, nullptr, nullptr),
                   "compact inline values in " + place_.dir);
}

Result<std::string> RocksMirror::ReadOwn(const std::string& key) {
  std::string value;
  rocksdb::Status status = handles_.db->Get(rocksdb::ReadOptions(), handles_.main, key, &value);
  if (status.IsNotFound())
    return Status(Code::kCorrupt, "the metadata mirror in " + place_.dir + " is incomplete");
  PERIGEE_TRY(FromRocks(status, "read the metadata mirror in " + place_.dir));
  return value;
}

Result<FormatRecord> RocksMirror::ReadFormat() {
  PERIGEE_ASSIGN(std::string bytes, ReadOwn(FormatKey()));
  return DecodeFormat(bytes);
}

Result<Head> RocksMirror::ReadHead() {
  PERIGEE_ASSIGN(std::string bytes, ReadOwn(HeadKey()));
  return DecodeHead(bytes);
}

Result<FeedIndex> RocksMirror::ReadFeedIndex(uint64_t events_kept) {
  PERIGEE_ASSIGN(Head head, ReadHead());
  Position low_water = 0;
  std::vector<FeedIndex::Mark> marks;
  std::vector<FeedIndex::Gap> gaps;
  std::unique_ptr<rocksdb::Iterator> it(
      handles_.db->NewIterator(rocksdb::ReadOptions(), handles_.main));
  // The records lie side by side: gaps, then the low water, then marks.
  for (it->Seek(GapRange().begin); it->Valid() && it->key().compare(MarkRange().end) < 0;
       it->Next()) {
    std::string_view key = it->key().ToStringView();
    bool is_gap = key < GapRange().end, is_mark = key >= MarkRange().begin;
    if (!is_gap && !is_mark && key != LowWaterKey()) continue;
    PERIGEE_ASSIGN(uint64_t value, DecodeU64(it->value().ToStringView()));
    if (!is_gap && !is_mark) {
      low_water = value;
      continue;
    }
    PERIGEE_ASSIGN(Position position, PositionOfKey(key));
    if (is_gap) gaps.push_back({position, value});
    if (is_mark) marks.push_back({position, value});
  }
  PERIGEE_TRY(FromRocks(it->status(), "read the metadata mirror in " + place_.dir));
  FeedIndex feed(events_kept);
  feed.Restore(low_water, head.events_total, std::move(marks), std::move(gaps));
  return feed;
}

}  // namespace perigee::objectd::kv
