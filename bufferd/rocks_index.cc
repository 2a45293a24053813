#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <cstdarg>
#include <cstdio>

#include "base/failpoint.h"
#include "base/log.h"
#include "bufferd/burst_index.h"
#include "bufferd/synced_mark.h"

namespace perigee::bufferd {
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

Status FromRocks(const rocksdb::Status& s, std::string_view what) {
  if (s.ok()) return Status::Ok();
  Code code = s.IsNotFound()     ? Code::kNotFound
              : s.IsCorruption() ? Code::kCorrupt
              : s.IsNoSpace()    ? Code::kNoSpace
                                 : Code::kIo;
  return Status(code, std::string(what) + ": " + s.ToString());
}

std::string RecordKey(wire::BurstId burst) {
  std::string k = "r";
  AppendBe64(&k, burst);
  return k;
}
std::string CrcsKey(wire::BurstId burst) {
  std::string k = "c";
  AppendBe64(&k, burst);
  return k;
}

class RocksIndex final : public BurstIndex {
 public:
  RocksIndex(std::unique_ptr<rocksdb::DB> db, std::unique_ptr<SyncedMark> mark,
             RocksIndexOptions options)
      : db_(std::move(db)), mark_(std::move(mark)), options_(std::move(options)) {}
  ~RocksIndex() override { db_->Close().PermitUncheckedError(); }

  Status Put(const BurstRecord& record, Durable durable) override {
    rocksdb::WriteBatch batch;
    batch.Put(RecordKey(record.burst), EncodeRecord(record));
    return Write(&batch, durable);
  }
  Status Remove(wire::BurstId burst) override {
    rocksdb::WriteBatch batch;
    batch.Delete(RecordKey(burst));
    batch.Delete(CrcsKey(burst));
    return Write(&batch, Durable::kNo);
  }
  Status PutCrcs(wire::BurstId burst, const BurstCrcs& crcs) override {
    rocksdb::WriteBatch batch;
    batch.Put(CrcsKey(burst), EncodeCrcs(crcs));
    return Write(&batch, Durable::kNo);
  }
  Result<BurstCrcs> GetCrcs(wire::BurstId burst) override {
    std::string value;
    PERIGEE_TRY(FromRocks(db_->Get({}, CrcsKey(burst), &value), "read burst checksums"));
    return DecodeCrcs(value);
  }
  Status PutValue(const std::string& name, const std::string& value, Durable durable) override {
    rocksdb::WriteBatch batch;
    batch.Put("v" + name, value);
    return Write(&batch, durable);
  }
  Result<std::optional<std::string>> GetValue(const std::string& name) override {
    std::string value;
    rocksdb::Status s = db_->Get({}, "v" + name, &value);
    if (s.IsNotFound()) return std::optional<std::string>();
    PERIGEE_TRY(FromRocks(s, "read " + name));
    return std::optional<std::string>(std::move(value));
  }
  Status RemoveValue(const std::string& name) override {
    rocksdb::WriteBatch batch;
    batch.Delete("v" + name);
    return Write(&batch, Durable::kNo);
  }
  Status ChangeValues(const std::map<std::string, std::optional<std::string>>& values,
                      Durable durable) override {
    rocksdb::WriteBatch batch;
    for (const auto& [name, value] : values) {
      if (value)
        batch.Put("v" + name, *value);
      else
        batch.Delete("v" + name);
    }
    return Write(&batch, durable);
  }
  Status ForEachValue(
      const std::string& prefix,
      const std::function<Status(const std::string& name, std::string_view value)>& fn) override {
    const std::string from = "v" + prefix;
    std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}));
    for (it->Seek(from); it->Valid() && it->key().starts_with(from); it->Next())
      PERIGEE_TRY(fn(it->key().ToString().substr(1), {it->value().data(), it->value().size()}));
    return FromRocks(it->status(), "read the burst index");
  }
  Status Sync() override {
    const uint64_t written = db_->GetLatestSequenceNumber();
    PERIGEE_FAILPOINT_STATUS(burst_index_before_sync);
    PERIGEE_TRY(FromRocks(db_->SyncWAL(), "sync the burst index"));
    PERIGEE_FAILPOINT_STATUS(burst_index_after_sync);
    mark_->Raise(written);
    return Status::Ok();
  }

  Status ForEach(const std::function<void(BurstRecord)>& fn) override {
    std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}));
    for (it->Seek("r"); it->Valid() && it->key().starts_with("r"); it->Next()) {
      PERIGEE_ASSIGN(BurstRecord record, DecodeRecord({it->value().data(), it->value().size()}));
      fn(std::move(record));
    }
    return FromRocks(it->status(), "read the burst index");
  }

  bool damaged() const override { return mark_->damaged(); }
  Status SettleDamage() override {
    PERIGEE_TRY(Sync());
    return mark_->Settle(db_->GetLatestSequenceNumber());
  }

 private:
  Status Write(rocksdb::WriteBatch* batch, Durable durable) {
    rocksdb::WriteOptions how;
    how.sync = durable == Durable::kYes;
    // The batch gets later numbers than these, and its sync is one of all before it.
    const uint64_t written = db_->GetLatestSequenceNumber() + batch->Count();
    PERIGEE_FAILPOINT_STATUS(burst_index_before_write);
    rocksdb::Status s = db_->Write(how, batch);
    if (s.IsNoSpace() && options_.on_no_space && options_.on_no_space()) {
      if (rocksdb::Status resumed = db_->Resume(); !resumed.ok())
        return FromRocks(resumed, "resume the burst index");
      s = db_->Write(how, batch);
    }
    PERIGEE_TRY(FromRocks(s, "write the burst index"));
    PERIGEE_FAILPOINT_STATUS(burst_index_after_write);
    if (how.sync) mark_->Raise(written);
    return Status::Ok();
  }

  std::unique_ptr<rocksdb::DB> db_;
  const std::unique_ptr<SyncedMark> mark_;
  const RocksIndexOptions options_;
};

}  // namespace

Result<std::unique_ptr<BurstIndex>> OpenRocksIndex(RocksIndexOptions options) {
  rocksdb::Options o;
  o.create_if_missing = true;
  o.write_buffer_size = options.memory_bytes / 3;
  o.max_write_buffer_number = 2;
  o.max_open_files = 64;
  o.max_background_jobs = 2;
  o.max_manifest_file_size = 4 << 20;
  o.info_log = std::make_shared<InfoLog>();
  o.wal_recovery_mode =
      rocksdb::WALRecoveryMode::kPointInTimeRecovery;  // a torn tail is the unsynced part
  o.stats_dump_period_sec = 0;
  o.stats_persist_period_sec = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(options.memory_bytes / 3);
  table.cache_index_and_filter_blocks = true;
  o.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  rocksdb::DB* raw = nullptr;
  PERIGEE_TRY(
      FromRocks(rocksdb::DB::Open(o, options.dir, &raw), "open the burst index " + options.dir));
  std::unique_ptr<rocksdb::DB> db(raw);
  PERIGEE_ASSIGN(auto mark, SyncedMark::Open(options.dir + ".synced"));
  if (uint64_t found = db->GetLatestSequenceNumber(); found < mark->sequence()) {
    log::Error("burst_index_damaged",
               {{"index", options.dir}, {"found", found}, {"synced", mark->sequence()}});
    PERIGEE_TRY(mark->SetDamaged());
  }
  return std::unique_ptr<BurstIndex>(
      std::make_unique<RocksIndex>(std::move(db), std::move(mark), std::move(options)));
}

}  // namespace perigee::bufferd
