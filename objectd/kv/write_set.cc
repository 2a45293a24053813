#include "objectd/kv/write_set.h"

#include <algorithm>

#include "base/bytes.h"
#include "objectd/kv/key_space.h"

namespace perigee::objectd::kv {

Result<std::string> ApplyOp(const AtomicOp& op, const std::optional<std::string>& base) {
  uint64_t value = 0;
  if (base) {
    if (base->size() != sizeof value) {
      return Status(Code::kCorrupt, "atomic operation on a value of " +
                                        std::to_string(base->size()) + " bytes, not 8");
    }
    value = GetLe<uint64_t>(AsBytes(*base).data());
  }
  value = op.kind == AtomicOp::Kind::kMax ? std::max(value, op.operand) : value + op.operand;
  std::string out(sizeof value, '\0');
  PutLe(reinterpret_cast<uint8_t*>(out.data()), value);
  return out;
}

Result<std::optional<std::string>> ApplyWrite(const KeyWrite& write,
                                              std::optional<std::string> base) {
  if (write.effect == KeyWrite::Effect::kReplace) return write.value;
  for (const AtomicOp& op : write.ops) {
    PERIGEE_ASSIGN(base, ApplyOp(op, base));
  }
  return base;
}

bool IsReservedKey(std::string_view key) {
  if (key.empty()) return false;
  if (key[0] == static_cast<char>(KeySpace::kFeed)) return true;
  return key.size() > 1 && key[0] == static_cast<char>(KeySpace::kStore) && key[1] == '\0';
}

Range PrefixRange(std::string_view prefix) {
  Range range{std::string(prefix), std::string(prefix)};
  while (!range.end.empty() && range.end.back() == '\xff') range.end.pop_back();
  if (!range.end.empty())
    range.end.back() = static_cast<char>(static_cast<uint8_t>(range.end.back()) + 1);
  return range;
}

}  // namespace perigee::objectd::kv
