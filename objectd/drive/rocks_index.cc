#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <cstdarg>
#include <cstdio>

#include "base/bytes.h"
#include "base/log.h"
#include "objectd/drive/shard_index.h"

namespace perigee::objectd {
namespace {

// RocksDB's warnings, in our log. In a file beside the database they would end the process:
// Debian's build asserts when a file is written to again that a failing disk refused once.
class InfoLog final : public rocksdb::Logger {
 public:
  InfoLog() : Logger(rocksdb::InfoLogLevel::WARN_LEVEL) {}
  using Logger::Logv;
  void Logv(const char* format, va_list args) override {
    char line[1024];
    std::vsnprintf(line, sizeof line, format, args);
    log::Warn("rocksdb", {{"what", std::string(line)}});
  }
  void LogHeader(const char*, va_list) override {}
};

constexpr std::string_view kIdentityKey = "F";
constexpr uint64_t kFormat = 1;

rocksdb::Slice ToSlice(std::string_view s) { return {s.data(), s.size()}; }

Status FromRocks(const rocksdb::Status& s, const char* what) {
  if (s.ok()) return Status::Ok();
  Code code = Code::kIo;
  if (s.IsNotFound()) code = Code::kNotFound;
  if (s.IsNoSpace()) code = Code::kNoSpace;
  if (s.IsCorruption()) code = Code::kCorrupt;
  return Status(code, std::string("index ") + what + ": " + s.ToString());
}

std::string MarkKey(uint32_t segment) {
  std::string key = "P";
  AppendBe32(&key, segment);
  return key;
}

std::string Identity(uint64_t drive_id) {
  std::string value;
  AppendBe64(&value, kFormat);
  AppendBe64(&value, drive_id);
  return value;
}

// Half of the memory is cache, the other half two memtables.
rocksdb::Options IndexOptions(uint64_t memory_bytes) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.write_buffer_size = memory_bytes / 4;
  options.max_write_buffer_number = 2;
  options.max_open_files = 64;
  options.info_log = std::make_shared<InfoLog>();
  options.max_background_jobs = 2;
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(memory_bytes / 2);
  table.cache_index_and_filter_blocks = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

class RocksIndex final : public ShardIndex {
 public:
  explicit RocksIndex(std::unique_ptr<rocksdb::DB> db) : db_(std::move(db)) {}
  ~RocksIndex() override {
    // A failed close loses at most what the next open scans again.
    db_->Close().PermitUncheckedError();
  }

  Result<std::optional<ShardPlace>> Find(const ShardKey& key) override {
    std::string value;
    rocksdb::Status s = db_->Get({}, ToSlice(EncodeShardKey(key)), &value);
    if (s.IsNotFound()) return std::optional<ShardPlace>();
    PERIGEE_TRY(FromRocks(s, "read"));
    PERIGEE_ASSIGN(ShardPlace place, DecodeShardPlace(value));
    return std::optional<ShardPlace>(place);
  }
  Status Put(const ShardKey& key, const ShardPlace& place, const SegmentMark& mark) override {
    rocksdb::WriteBatch batch;
    PERIGEE_TRY(FromRocks(batch.Put(ToSlice(EncodeShardKey(key)), ToSlice(EncodeShardPlace(place))),
                          "write"));
    PERIGEE_TRY(FromRocks(
        batch.Put(ToSlice(MarkKey(mark.segment)), ToSlice(EncodeSegmentMark(mark))), "write"));
    return FromRocks(db_->Write({}, &batch), "write");
  }
  Status Delete(const ShardKey& key) override {
    return FromRocks(db_->Delete({}, ToSlice(EncodeShardKey(key))), "delete");
  }
  Status SetMark(const SegmentMark& mark) override {
    return FromRocks(db_->Put({}, ToSlice(MarkKey(mark.segment)), ToSlice(EncodeSegmentMark(mark))),
                     "write");
  }
  Result<std::vector<SegmentMark>> Marks() override {
    std::vector<SegmentMark> marks;
    std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}));
    for (it->Seek("P"); it->Valid() && it->key().starts_with("P"); it->Next()) {
      if (it->key().size() != 5) return Status(Code::kCorrupt, "malformed segment mark");
      PERIGEE_ASSIGN(SegmentMark mark,
                     DecodeSegmentMark(GetBe32(it->key().ToStringView().substr(1)),
                                       it->value().ToStringView()));
      marks.push_back(mark);
    }
    PERIGEE_TRY(FromRocks(it->status(), "scan"));
    return marks;
  }
  Status ForEach(const ShardKey& first,
                 const std::function<bool(const ShardKey&, const ShardPlace&)>& visit) override {
    std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}));
    for (it->Seek(ToSlice(EncodeShardKey(first))); it->Valid() && it->key().starts_with("S");
         it->Next()) {
      PERIGEE_ASSIGN(ShardKey key, DecodeShardKey(it->key().ToStringView()));
      PERIGEE_ASSIGN(ShardPlace place, DecodeShardPlace(it->value().ToStringView()));
      if (!visit(key, place)) break;
    }
    return FromRocks(it->status(), "scan");
  }
  Status Flush() override {
    PERIGEE_TRY(FromRocks(db_->Flush({}), "flush"));
    return FromRocks(db_->SyncWAL(), "sync");
  }

 private:
  std::unique_ptr<rocksdb::DB> db_;
};

Result<std::unique_ptr<rocksdb::DB>> OpenOnce(const std::string& dir, uint64_t drive_id,
                                              uint64_t memory_bytes) {
  rocksdb::DB* raw = nullptr;
  rocksdb::Status opened = rocksdb::DB::Open(IndexOptions(memory_bytes), dir, &raw);
  Status status = FromRocks(opened, "open");
  // A file that is missing, or says what no index of ours says: damage as well.
  if (opened.IsPathNotFound() || opened.IsInvalidArgument() || opened.IsNotSupported())
    return Status(Code::kCorrupt, status.ToString());
  PERIGEE_TRY(std::move(status));
  std::unique_ptr<rocksdb::DB> db(raw);
  std::string identity;
  rocksdb::Status s = db->Get({}, ToSlice(kIdentityKey), &identity);
  if (s.IsNotFound()) {
    PERIGEE_TRY(
        FromRocks(db->Put({}, ToSlice(kIdentityKey), ToSlice(Identity(drive_id))), "write"));
    return db;
  }
  PERIGEE_TRY(FromRocks(s, "read"));
  if (identity != Identity(drive_id))
    return Status(Code::kCorrupt, "the index is of another drive or format");
  return db;
}

}  // namespace

Status DestroyRocksIndex(const std::string& dir) {
  rocksdb::Options options;
  options.info_log = std::make_shared<InfoLog>();
  return FromRocks(rocksdb::DestroyDB(dir, options), "destroy");
}

Result<std::unique_ptr<ShardIndex>> OpenRocksIndex(const std::string& dir, uint64_t drive_id,
                                                   uint64_t memory_bytes) {
  auto db = OpenOnce(dir, drive_id, memory_bytes);
  if (db.code() == Code::kCorrupt) {
    log::Warn("index_rebuilt", {{"dir", dir}, {"cause", db.status()}});
    PERIGEE_TRY(DestroyRocksIndex(dir));
    db = OpenOnce(dir, drive_id, memory_bytes);
  }
  if (!db.ok()) return std::move(db).TakeStatus();
  return std::unique_ptr<ShardIndex>(std::make_unique<RocksIndex>(std::move(*db)));
}

}  // namespace perigee::objectd
