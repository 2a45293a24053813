#pragma once
// OverlayTransaction: the Transaction of every engine. Reads go through the transaction's own
// writes to a SnapshotReader; conflict reads and writes are recorded for the commit; the
// interface's limits are kept here. A limit that a write breaks is remembered and refuses the
// commit, since writes return nothing.
//
// A key that the transaction itself has replaced is read without a conflict: its old value was not
// looked at.
// Thread rule: one thread.

#include <string>
#include <vector>

#include "objectd/kv/snapshot_reader.h"
#include "objectd/kv/write_set.h"

namespace perigee::objectd::kv {

inline constexpr Nanos kTransactionTimeMax = 5 * kSecond;

class OverlayTransaction final : public Transaction {
 public:
  // `clock` may be null: no limit on the time. Both must outlive this.
  OverlayTransaction(SnapshotReader& reader, const Clock* clock);

  Result<std::optional<std::string>> Get(std::string_view key, ReadMode mode) override;
  Result<std::vector<std::optional<std::string>>> GetMany(const std::vector<std::string>& keys,
                                                          ReadMode mode) override;
  Result<std::vector<KeyValue>> Scan(const Range& range, size_t limit, Direction direction,
                                     ReadMode mode) override;
  void ConflictOn(std::string_view key) override;

  void Put(std::string_view key, std::string_view value) override;
  void Delete(std::string_view key) override;
  void AtomicMax(std::string_view key, uint64_t operand) override;
  void AtomicAdd(std::string_view key, int64_t operand) override;
  void Emit(std::string_view event) override;

  // After the closure returned: ok, or why this must not commit.
  Status Finish() const;
  const ReadSet& reads() const { return reads_; }
  const WriteSet& writes() const { return writes_; }

 private:
  Status CheckTime() const;
  bool Admit(std::string_view key, size_t value_bytes);  // false: a limit is broken, drop the write
  void Replace(std::string_view key, std::optional<std::string> value);
  void Modify(std::string_view key, AtomicOp op);
  void Charge(size_t bytes);
  void Refuse(Code code, std::string why);
  Result<std::vector<KeyValue>> Merge(const Range& range, size_t limit, Direction direction);

  SnapshotReader& reader_;
  const Clock* clock_;
  Nanos started_ = 0;
  ReadSet reads_;
  WriteSet writes_;
  size_t bytes_ = 0;  // of keys, values, operations and events
  Status refused_;    // the first broken limit
};

}  // namespace perigee::objectd::kv
