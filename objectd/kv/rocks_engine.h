#pragma once
// RocksEngine: what all RocksDB instances of one process share (block cache, write-buffer manager,
// background threads), and how they are configured.
//
// Sizes: `memory_bytes` is the capacity of the block cache; memtables are charged to it, and hold a
// half at most.
// Write-ahead logs go to the operating system with each write, and are kept for kWalKeptBytes after
// they are needed, so that a mirror that is a little behind can be brought up from another's log.
// Thread rule: thread-safe.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
class Env;
class Status;
}  // namespace rocksdb

namespace perigee::objectd::kv {

inline constexpr uint32_t kMainFamily = 0;
inline constexpr uint32_t kInlineFamily = 1;  // KeySpace::kInline: values in blob files
bool IsInlineKey(std::string_view key);

Status FromRocks(const rocksdb::Status& status, std::string_view what);

struct RocksHandles {
  rocksdb::DB* db = nullptr;
  rocksdb::ColumnFamilyHandle* main = nullptr;
  rocksdb::ColumnFamilyHandle* inline_values = nullptr;
};

class RocksEngine {
 public:
  enum class Mode { kExisting, kFresh };

  RocksEngine(uint64_t memory_bytes, rocksdb::Env* env);
  ~RocksEngine();
  // kExisting: kNotFound when there is none, kBusy when another process has it. kFresh:
  // kAlreadyExists. The caller gives the handles back with Close.
  Result<RocksHandles> Open(const std::string& dir, Mode mode);
  Status Close(RocksHandles handles);

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace perigee::objectd::kv
