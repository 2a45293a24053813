#pragma once
// What one transaction wants to change and what it must find unchanged.
// Thread rule: values.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "objectd/kv/store.h"

namespace perigee::objectd::kv {

struct AtomicOp {
  enum class Kind : uint8_t { kMax, kAdd };
  Kind kind;
  uint64_t operand;  // of kAdd: two's complement
};

// The effect on one key: a new value (none: deleted), or operations on whatever is stored when it
// commits.
struct KeyWrite {
  enum class Effect : uint8_t { kReplace, kModify };
  Effect effect = Effect::kReplace;
  std::optional<std::string> value;  // kReplace
  std::vector<AtomicOp> ops;         // kModify, in order
};

using WriteMap = std::map<std::string, KeyWrite, std::less<>>;

struct WriteSet {
  WriteMap keys;
  std::vector<std::string> events;
  bool empty() const { return keys.empty() && events.empty(); }
};

struct ReadSet {
  std::vector<std::string> keys;
  std::vector<Range> ranges;
  bool empty() const { return keys.empty() && ranges.empty(); }
};

// The value after `op`; absent counts as 0. kCorrupt when `base` is not 8 bytes.
Result<std::string> ApplyOp(const AtomicOp& op, const std::optional<std::string>& base);
// The value after `write` on `base`.
Result<std::optional<std::string>> ApplyWrite(const KeyWrite& write,
                                              std::optional<std::string> base);

// Keys that only the store itself writes: the feed, and its bookkeeping under KeySpace::kStore +
// NUL.
bool IsReservedKey(std::string_view key);

// True when `key` is before `end`, where "" is the end of the key space.
inline bool BeforeEnd(std::string_view key, std::string_view end) {
  return end.empty() || key < end;
}
inline bool IsEmpty(const Range& range) { return !BeforeEnd(range.begin, range.end); }

}  // namespace perigee::objectd::kv
