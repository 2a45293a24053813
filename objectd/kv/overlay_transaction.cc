#include "objectd/kv/overlay_transaction.h"

#include <algorithm>

namespace perigee::objectd::kv {
namespace {

// The keys of a WriteMap inside a range, in one direction.
class OverlayCursor {
 public:
  OverlayCursor(const WriteMap& map, const Range& range, Direction direction)
      : direction_(direction) {
    begin_ = map.lower_bound(range.begin);
    end_ = range.end.empty() ? map.end() : map.lower_bound(range.end);
    at_ = direction == Direction::kForward ? begin_ : end_;
    valid_ = begin_ != end_;
    if (valid_ && direction == Direction::kBackward) --at_;
  }
  bool Valid() const { return valid_; }
  const std::string& key() const { return at_->first; }
  const KeyWrite& write() const { return at_->second; }
  void Next() {
    if (direction_ == Direction::kForward) {
      valid_ = ++at_ != end_;
    } else {
      valid_ = at_ != begin_;
      if (valid_) --at_;
    }
  }

 private:
  Direction direction_;
  WriteMap::const_iterator begin_, end_, at_;
  bool valid_ = false;
};

}  // namespace

OverlayTransaction::OverlayTransaction(SnapshotReader& reader, const Clock* clock)
    : reader_(reader), clock_(clock), started_(clock ? clock->Monotonic() : 0) {}

Status OverlayTransaction::CheckTime() const {
  if (clock_ == nullptr || clock_->Monotonic() - started_ <= kTransactionTimeMax)
    return Status::Ok();
  return Status(Code::kTooLarge, "transaction ran longer than 5 s");
}

Status OverlayTransaction::Finish() const {
  if (!refused_.ok()) return refused_;
  if (writes_.empty()) return Status::Ok();
  return CheckTime();
}

Result<std::optional<std::string>> OverlayTransaction::Get(std::string_view key, ReadMode mode) {
  PERIGEE_TRY(CheckTime());
  if (IsReservedKey(key)) return std::optional<std::string>();
  auto own = writes_.keys.find(key);
  bool replaced = own != writes_.keys.end() && own->second.effect == KeyWrite::Effect::kReplace;
  if (replaced) return own->second.value;
  if (mode == ReadMode::kConflict) reads_.keys.emplace_back(key);
  PERIGEE_ASSIGN(std::optional<std::string> base, reader_.Get(key));
  if (own == writes_.keys.end()) return base;
  return ApplyWrite(own->second, std::move(base));
}

Result<std::vector<std::optional<std::string>>> OverlayTransaction::GetMany(
    const std::vector<std::string>& keys, ReadMode mode) {
  PERIGEE_TRY(CheckTime());
  std::vector<std::optional<std::string>> out(keys.size());
  std::vector<std::string> asked;
  std::vector<size_t> slots;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (IsReservedKey(keys[i])) continue;
    auto own = writes_.keys.find(keys[i]);
    if (own != writes_.keys.end() && own->second.effect == KeyWrite::Effect::kReplace) {
      out[i] = own->second.value;
      continue;
    }
    if (mode == ReadMode::kConflict) reads_.keys.push_back(keys[i]);
    asked.push_back(keys[i]);
    slots.push_back(i);
  }
  if (asked.empty()) return out;
  PERIGEE_ASSIGN(std::vector<std::optional<std::string>> found, reader_.GetMany(asked));
  PERIGEE_CHECK(found.size() == asked.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    auto own = writes_.keys.find(asked[i]);
    if (own == writes_.keys.end()) {
      out[slots[i]] = std::move(found[i]);
    } else {
      PERIGEE_ASSIGN(out[slots[i]], ApplyWrite(own->second, std::move(found[i])));
    }
  }
  return out;
}

Result<std::vector<KeyValue>> OverlayTransaction::Scan(const Range& range, size_t limit,
                                                       Direction direction, ReadMode mode) {
  PERIGEE_TRY(CheckTime());
  if (limit == 0 || IsEmpty(range)) return std::vector<KeyValue>();
  PERIGEE_ASSIGN(std::vector<KeyValue> out, Merge(range, limit, direction));
  if (mode == ReadMode::kConflict) {
    Range walked = range;
    if (out.size() == limit) {
      if (direction == Direction::kForward) {
        walked.end = out.back().first + '\0';
      } else {
        walked.begin = out.back().first;
      }
    }
    reads_.ranges.push_back(std::move(walked));
  }
  return out;
}

Result<std::vector<KeyValue>> OverlayTransaction::Merge(const Range& range, size_t limit,
                                                        Direction direction) {
  std::vector<KeyValue> out;
  OverlayCursor own(writes_.keys, range, direction);
  std::unique_ptr<Cursor> stored = reader_.Walk(range, direction);
  for (size_t steps = 1; out.size() < limit && (stored->Valid() || own.Valid()); ++steps) {
    if (steps % 256 == 0) PERIGEE_TRY(CheckTime());
    int order = !own.Valid() ? -1 : !stored->Valid() ? 1 : stored->key().compare(own.key());
    if (order != 0 && stored->Valid() && own.Valid() && direction == Direction::kBackward)
      order = -order;
    // An invalid stored cursor may stand for an error, never for the end: stop before own keys hide
    // it.
    if (!stored->Valid()) PERIGEE_TRY(stored->status());
    if (order < 0) {
      out.emplace_back(stored->key(), stored->value());
      stored->Next();
      continue;
    }
    std::optional<std::string> base;
    if (order == 0) base.emplace(stored->value());
    PERIGEE_ASSIGN(std::optional<std::string> value, ApplyWrite(own.write(), std::move(base)));
    if (value) out.emplace_back(own.key(), std::move(*value));
    if (order == 0) stored->Next();
    own.Next();
  }
  PERIGEE_TRY(stored->status());
  return out;
}

void OverlayTransaction::ConflictOn(std::string_view key) { reads_.keys.emplace_back(key); }

void OverlayTransaction::Refuse(Code code, std::string why) {
  if (refused_.ok()) refused_ = Status(code, std::move(why));
}

void OverlayTransaction::Charge(size_t bytes) {
  bytes_ += bytes;
  if (bytes_ > kTransactionBytesMax) Refuse(Code::kTooLarge, "transaction is over 1 MiB");
}

bool OverlayTransaction::Admit(std::string_view key, size_t value_bytes) {
  if (!refused_.ok()) return false;
  if (key.empty()) {
    Refuse(Code::kInvalidArgument, "write to the empty key");
  } else if (IsReservedKey(key)) {
    Refuse(Code::kInvalidArgument, "write to a key of the store itself");
  } else if (key.size() > kKeyBytesMax) {
    Refuse(Code::kTooLarge, "key of " + std::to_string(key.size()) + " bytes");
  } else if (value_bytes > kValueBytesMax) {
    Refuse(Code::kTooLarge, "value of " + std::to_string(value_bytes) + " bytes");
  } else if (writes_.keys.size() >= kTransactionKeysMax && !writes_.keys.contains(key)) {
    Refuse(Code::kTooLarge, "transaction writes more than 1,000 keys");
  }
  return refused_.ok();
}

void OverlayTransaction::Replace(std::string_view key, std::optional<std::string> value) {
  size_t value_bytes = value ? value->size() : 0;
  if (!Admit(key, value_bytes)) return;
  auto [it, fresh] = writes_.keys.try_emplace(std::string(key));
  KeyWrite& write = it->second;
  if (!fresh)
    bytes_ -=
        key.size() + (write.value ? write.value->size() : 0) + write.ops.size() * sizeof(AtomicOp);
  write = KeyWrite{KeyWrite::Effect::kReplace, std::move(value), {}};
  Charge(key.size() + value_bytes);
}

void OverlayTransaction::Put(std::string_view key, std::string_view value) {
  // Checked before the copy, so that an absurd value costs nothing.
  if (Admit(key, value.size())) Replace(key, std::string(value));
}

void OverlayTransaction::Delete(std::string_view key) { Replace(key, std::nullopt); }

void OverlayTransaction::Modify(std::string_view key, AtomicOp op) {
  if (!Admit(key, sizeof(uint64_t))) return;
  auto [it, fresh] = writes_.keys.try_emplace(std::string(key));
  KeyWrite& write = it->second;
  if (fresh) {
    write.effect = KeyWrite::Effect::kModify;
    Charge(key.size());
  } else if (write.effect == KeyWrite::Effect::kReplace) {
    Result<std::string> value = ApplyOp(op, write.value);
    if (!value.ok()) return Refuse(Code::kInvalidArgument, value.status().message());
    if (!write.value) Charge(value->size());
    write.value = std::move(*value);
    return;
  }
  if (!write.ops.empty() && write.ops.back().kind == op.kind) {
    uint64_t& last = write.ops.back().operand;
    last = op.kind == AtomicOp::Kind::kMax ? std::max(last, op.operand) : last + op.operand;
    return;
  }
  write.ops.push_back(op);
  Charge(sizeof(AtomicOp));
}

void OverlayTransaction::AtomicMax(std::string_view key, uint64_t operand) {
  Modify(key, {AtomicOp::Kind::kMax, operand});
}

void OverlayTransaction::AtomicAdd(std::string_view key, int64_t operand) {
  Modify(key, {AtomicOp::Kind::kAdd, static_cast<uint64_t>(operand)});
}

void OverlayTransaction::Emit(std::string_view event) {
  if (!refused_.ok()) return;
  Charge(event.size() + sizeof(Position));
  if (refused_.ok()) writes_.events.emplace_back(event);
}

}  // namespace perigee::objectd::kv
