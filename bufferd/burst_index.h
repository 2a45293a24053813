#pragma once
// BurstIndex: the journal of burst files: their records, their checksums, and a few small values of
// the daemon.
//
// A completed Put, Remove or PutValue survives the death of the process; it survives power loss
// only after a Sync (or with Durable::kYes) that began after it. Order is kept: what survives is a
// prefix. Thread-safe. Two implementations: RocksDB (daemon) and memory (tests; Crash() drops what
// was not synced).

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "bufferd/burst_record.h"

namespace perigee::bufferd {

enum class Durable { kNo, kYes };

class BurstIndex {
 public:
  virtual ~BurstIndex() = default;
  virtual Status Put(const BurstRecord& record, Durable durable) = 0;
  virtual Status Remove(wire::BurstId burst) = 0;  // record and checksums; ok when absent
  virtual Status PutCrcs(wire::BurstId burst, const BurstCrcs& crcs) = 0;
  virtual Result<BurstCrcs> GetCrcs(wire::BurstId burst) = 0;  // kNotFound
  virtual Status PutValue(const std::string& name, const std::string& value, Durable durable) = 0;
  virtual Result<std::optional<std::string>> GetValue(const std::string& name) = 0;
  virtual Status RemoveValue(const std::string& name) = 0;  // ok when absent
  // By name, nothing: removed. All of them survive, or none.
  virtual Status ChangeValues(const std::map<std::string, std::optional<std::string>>& values,
                              Durable durable) = 0;
  // Every value whose name begins with `prefix`, by name.
  virtual Status ForEachValue(
      const std::string& prefix,
      const std::function<Status(const std::string& name, std::string_view value)>& fn) = 0;
  virtual Status Sync() = 0;
  // Every record. One that cannot be decoded fails the whole: the operator decides, nothing is
  // dropped silently.
  virtual Status ForEach(const std::function<void(BurstRecord)>& fn) = 0;
  // True when what was synced once did not come back, records and values alike. Stays so, over
  // restarts, until SettleDamage; what it says is synced then.
  virtual bool damaged() const = 0;
  virtual Status SettleDamage() = 0;
};

struct RocksIndexOptions {
  std::string dir;                    // made when absent; <dir>.synced is the SyncedMark
  uint64_t memory_bytes = 6 << 20;    // memtables and block cache
  std::function<bool()> on_no_space;  // gives up ballast; true: it helped, the write is tried again
};
Result<std::unique_ptr<BurstIndex>> OpenRocksIndex(RocksIndexOptions options);

class MemIndex final : public BurstIndex {
 public:
  Status Put(const BurstRecord& record, Durable durable) override;
  Status Remove(wire::BurstId burst) override;
  Status PutCrcs(wire::BurstId burst, const BurstCrcs& crcs) override;
  Result<BurstCrcs> GetCrcs(wire::BurstId burst) override;
  Status PutValue(const std::string& name, const std::string& value, Durable durable) override;
  Result<std::optional<std::string>> GetValue(const std::string& name) override;
  Status RemoveValue(const std::string& name) override;
  Status ChangeValues(const std::map<std::string, std::optional<std::string>>& values,
                      Durable durable) override;
  Status ForEachValue(
      const std::string& prefix,
      const std::function<Status(const std::string& name, std::string_view value)>& fn) override;
  Status Sync() override;
  Status ForEach(const std::function<void(BurstRecord)>& fn) override;

  bool damaged() const override;
  Status SettleDamage() override;

  void Crash();                      // power loss: back to the last Sync
  void Damage(wire::BurstId burst);  // its record is lost though it was synced
  uint64_t syncs() const;

 private:
  mutable std::mutex mu_;  // guards what follows
  std::map<std::string, std::string> now_, synced_;
  uint64_t syncs_ = 0;
  bool damaged_ = false;
};

}  // namespace perigee::bufferd
