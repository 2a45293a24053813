#pragma once
// SnapshotReader: what a transaction needs of an engine, the committed state as of one position.
// OverlayTransaction (overlay_transaction.h) adds the transaction's own writes, limits and conflict
// reads on top.
// Thread rule: thread-safe; a Cursor belongs to one thread and must not outlive its reader.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "objectd/kv/store.h"

namespace perigee::objectd::kv {

// Walks pairs in one direction. Views are good until Next.
class Cursor {
 public:
  virtual ~Cursor() = default;
  virtual bool Valid() const = 0;
  virtual std::string_view key() const = 0;
  virtual std::string_view value() const = 0;
  virtual void Next() = 0;
  virtual Status status() const = 0;  // why it is not valid; ok at the end of the range
  // How many deleted keys it had to pass so far, where the engine has such.
  virtual uint64_t passed() const { return 0; }
};

class SnapshotReader {
 public:
  virtual ~SnapshotReader() = default;
  virtual Position position() const = 0;
  virtual Result<std::optional<std::string>> Get(std::string_view key) = 0;
  virtual Result<std::vector<std::optional<std::string>>> GetMany(
      const std::vector<std::string>& keys) = 0;
  virtual std::unique_ptr<Cursor> Walk(const Range& range, Direction direction) = 0;
};

}  // namespace perigee::objectd::kv
