#include "objectd/kv/rocks_engine.h"

#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/table_properties_collectors.h>
#include <rocksdb/write_buffer_manager.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <filesystem>

#include "base/log.h"
#include "objectd/kv/key_space.h"

namespace perigee::objectd::kv {
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

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kWalKeptBytes = 64 * kMiB;
constexpr uint64_t kWalLiveBytesMax = 64 * kMiB;
constexpr size_t kDeletionWindow = 4096;  // entries of a table, half of them deletions
const char* const kInlineName = "inline";

Code CodeOf(const rocksdb::Status& status) {
  if (status.IsNotFound()) return Code::kNotFound;
  if (status.IsCorruption()) return Code::kCorrupt;
  if (status.IsNoSpace()) return Code::kNoSpace;
  if (status.IsIOError()) return Code::kIo;
  if (status.IsBusy() || status.IsTryAgain()) return Code::kBusy;
  if (status.IsShutdownInProgress()) return Code::kUnavailable;
  return Code::kInternal;
}

// RocksDB reports a lock held by someone else as an I/O error of these words (env/fs_posix.cc).
bool IsLocked(const rocksdb::Status& status) {
  std::string text = status.ToString();
  return text.find("While lock file") != std::string::npos ||
         text.find("lock hold by current process") != std::string::npos;
}

// On a full drive a memtable has to find room in what objectd's MetadataRoom keeps free.
uint64_t LargestFlush(const std::string& dir) {
  std::error_code ec;
  auto space = std::filesystem::space(std::filesystem::path(dir).parent_path(), ec);
  if (ec) return UINT64_MAX;
  return space.capacity < 512 * kMiB ? std::max(space.capacity / 32, kMiB)
                                     : std::max<uint64_t>(16 * kMiB, space.capacity / 400);
}

}  // namespace

bool IsInlineKey(std::string_view key) {
  return !key.empty() && key[0] == static_cast<char>(KeySpace::kInline);
}

Status FromRocks(const rocksdb::Status& status, std::string_view what) {
  if (status.ok()) return Status::Ok();
  return Status(CodeOf(status), std::string(what) + ": " + status.ToString());
}

struct RocksEngine::Shared {
  rocksdb::DBOptions db;
  rocksdb::ColumnFamilyOptions main, inline_values;
};

RocksEngine::RocksEngine(uint64_t memory_bytes, rocksdb::Env* env) : shared_(new Shared) {
  auto cache = rocksdb::NewLRUCache(memory_bytes, 2, false, 0.2);
  uint64_t memtables = std::max(memory_bytes / 2, 4 * kMiB);

  rocksdb::DBOptions& db = shared_->db;
  db.env = env != nullptr ? env : rocksdb::Env::Default();
  // Compaction is behind whatever clients wait for.
  db.env->LowerThreadPoolCPUPriority(rocksdb::Env::Priority::LOW, rocksdb::CpuPriority::kLow)
      .PermitUncheckedError();
  db.write_buffer_manager = std::make_shared<rocksdb::WriteBufferManager>(memtables, cache);
  db.paranoid_checks = true;
  db.max_open_files = 128;
  db.table_cache_numshardbits = 2;
  db.max_file_opening_threads = 2;
  db.max_background_jobs = 2;
  db.max_subcompactions = 1;
  db.skip_stats_update_on_db_open = true;
  db.bytes_per_sync = kMiB;
  // What was written before a crash of the machine is a prefix, never a set with holes.
  db.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  db.WAL_ttl_seconds = 0;
  db.WAL_size_limit_MB = kWalKeptBytes / kMiB;
  db.max_total_wal_size = kWalLiveBytesMax;
  db.max_manifest_file_size = 16 * kMiB;
  db.info_log = std::make_shared<InfoLog>();
  db.stats_dump_period_sec = 0;
  db.stats_persist_period_sec = 0;

  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.block_size = 16 << 10;
  table.cache_index_and_filter_blocks = true;
  table.cache_index_and_filter_blocks_with_high_priority = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.format_version = 5;

  rocksdb::ColumnFamilyOptions& main = shared_->main;
  main.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  main.write_buffer_size = std::clamp(memory_bytes / 8, kMiB, 64 * kMiB);
  main.arena_block_size = 128 << 10;
  main.max_write_buffer_number = 3;
  main.level_compaction_dynamic_level_bytes = true;
  main.compression = rocksdb::kLZ4Compression;
  // A scan walks over what was deleted until it is compacted away, which comes soon where most was.
  main.table_properties_collector_factories.push_back(
      rocksdb::NewCompactOnDeletionCollectorFactory(kDeletionWindow, kDeletionWindow / 2, 0.5));

  rocksdb::ColumnFamilyOptions& inline_values = shared_->inline_values;
  inline_values = main;
  inline_values.enable_blob_files = true;
  inline_values.min_blob_size = 512;
  inline_values.blob_file_size = 64 * kMiB;
  inline_values.enable_blob_garbage_collection = true;
  // Each compaction moves what it meets in the oldest files, garbage or not: few files, and those
  // that are half garbage are collected for their own sake.
  inline_values.blob_garbage_collection_age_cutoff = 0.05;
  inline_values.blob_garbage_collection_force_threshold = 0.5;
  inline_values.blob_compaction_readahead_size = kMiB;
  inline_values.level0_file_num_compaction_trigger = 8;
}

RocksEngine::~RocksEngine() = default;

Result<RocksHandles> RocksEngine::Open(const std::string& dir, Mode mode) {
  rocksdb::DBOptions options = shared_->db;
  // Asked first: RocksDB would make the directory and a log file in it before it notices.
  bool exists = options.env->FileExists(dir + "/CURRENT").ok();
  if (mode == Mode::kExisting && !exists)
    return Status(Code::kNotFound, "no metadata mirror in " + dir);
  if (mode == Mode::kFresh && exists)
    return Status(Code::kAlreadyExists, "a metadata mirror is in " + dir);
  rocksdb::ColumnFamilyOptions main = shared_->main, inline_values = shared_->inline_values;
  main.write_buffer_size = inline_values.write_buffer_size =
      std::min<uint64_t>(main.write_buffer_size, LargestFlush(dir));
  options.create_if_missing = mode == Mode::kFresh;
  options.create_missing_column_families = mode == Mode::kFresh;

  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  families.emplace_back(rocksdb::kDefaultColumnFamilyName, main);
  families.emplace_back(kInlineName, inline_values);
  std::vector<rocksdb::ColumnFamilyHandle*> opened;
  RocksHandles handles;
  rocksdb::Status status = rocksdb::DB::Open(options, dir, families, &opened, &handles.db);
  if (!status.ok() && IsLocked(status)) {
    return Status(Code::kBusy, "the metadata mirror in " + dir + " is open in another process");
  }
  PERIGEE_TRY(FromRocks(status, "open the metadata mirror in " + dir));
  handles.main = opened[0];
  handles.inline_values = opened[1];
  if (handles.main->GetID() != kMainFamily || handles.inline_values->GetID() != kInlineFamily) {
    Close(handles).Ignore();  // the mirror is refused anyway
    return Status(Code::kCorrupt,
                  "the metadata mirror in " + dir + " numbers its column families differently");
  }
  return handles;
}

Status RocksEngine::Close(RocksHandles handles) {
  rocksdb::CancelAllBackgroundWork(handles.db, true);
  rocksdb::Status status = handles.db->DestroyColumnFamilyHandle(handles.main);
  rocksdb::Status other = handles.db->DestroyColumnFamilyHandle(handles.inline_values);
  if (status.ok()) status = other;
  other = handles.db->Close();
  if (status.ok()) status = other;
  delete handles.db;
  return FromRocks(status, "close a metadata mirror");
}

}  // namespace perigee::objectd::kv
