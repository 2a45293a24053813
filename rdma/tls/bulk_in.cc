#include "rdma/tls/bulk_in.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace perigee::rdma::tls {

namespace {
constexpr size_t kGrantedBytesMax = 16 << 20;  // enough for 10 GB/s and 1.6 ms there and back
constexpr size_t kBackgroundBytesMax = kGrantedBytesMax - kPieceBytesMax;
constexpr size_t kPayloadsMax = 4096;

Status Bad(uint64_t id, const char* what) {
  return Status(Code::kCorrupt, "payload " + std::to_string(id) + ": " + what);
}
}  // namespace

Status BulkIn::Expect(const Announced& announced, std::string here, Nanos now) {
  uint64_t id = announced.id;
  if (payloads_.size() >= kPayloadsMax || payloads_.contains(id)) {
    return Bad(id, "announced twice, or too many");
  }
  Payload payload;
  payload.announced = announced;
  payload.here = std::move(here);
  payloads_.emplace(id, std::move(payload));
  waiting_.Push(announced.traffic, id, now);
  return Status::Ok();
}

// The first one is waited for, not passed by: it would starve.
std::optional<BulkIn::Wants> BulkIn::Wanted(Nanos now) const {
  auto traffic = waiting_.Next(now);
  if (!traffic) return std::nullopt;
  size_t bytes = payloads_.at(waiting_.Front(*traffic)).announced.bytes;
  size_t most = IsBackground(*traffic) ? kBackgroundBytesMax : kGrantedBytesMax;
  if (granted_bytes_ > 0 && granted_bytes_ + bytes > most) return std::nullopt;
  return Wants{*traffic, bytes};
}

BulkIn::Started BulkIn::Start(const Wants& wanted, Piece piece, Nanos now) {
  uint64_t id = waiting_.Pop(wanted.traffic, now);
  Payload& payload = payloads_.at(id);
  payload.piece = std::move(piece);
  if (payload.here.empty()) {
    payload.granted = true;
    granted_bytes_ += payload.announced.bytes;
    return {id, false};
  }
  std::memcpy(payload.piece.data(), payload.here.data(), payload.here.size());
  return {id, true};
}

Status BulkIn::BeginPiece(const FrameHeader& head) {
  auto it = payloads_.find(head.id);
  if (it == payloads_.end() || !it->second.granted) return Bad(head.id, "sent without a grant");
  const Payload& payload = it->second;
  if (head.offset != payload.received ||
      head.bulk_len > payload.announced.bytes - payload.received) {
    return Bad(head.id, "a piece that is not the next one");
  }
  return Status::Ok();
}

uint8_t* BulkIn::Place(uint64_t id) {
  Payload& payload = payloads_.at(id);
  return payload.drain_until != 0 ? nullptr : payload.piece.data() + payload.received;
}

bool BulkIn::Received(uint64_t id, size_t bytes) {
  auto it = payloads_.find(id);
  Payload& payload = it->second;
  payload.received += bytes;
  if (payload.received < payload.announced.bytes) return false;
  if (payload.drain_until != 0) {
    Erase(it);
    return false;
  }
  return true;
}

Piece BulkIn::Take(uint64_t id) {
  auto it = payloads_.find(id);
  Piece piece = std::move(it->second.piece);
  Erase(it);
  return piece;
}

BulkIn::Dropped BulkIn::Drop(uint64_t id, Nanos until) {
  auto it = payloads_.find(id);
  if (it == payloads_.end()) return Dropped::kUnknown;
  if (it->second.granted) {
    it->second.piece.Release();
    it->second.drain_until = until;
    return Dropped::kDraining;
  }
  Erase(it);
  return Dropped::kWaiting;
}

bool BulkIn::Withdrawn(uint64_t id) {
  auto it = payloads_.find(id);
  if (it == payloads_.end()) return false;
  bool wanted = it->second.drain_until == 0;
  Erase(it);
  return wanted;
}

bool BulkIn::Overdue(Nanos now) const {
  return std::any_of(payloads_.begin(), payloads_.end(), [now](const auto& entry) {
    return entry.second.drain_until != 0 && entry.second.drain_until < now;
  });
}

void BulkIn::Erase(std::map<uint64_t, Payload>::iterator it) {
  if (it->second.granted) granted_bytes_ -= it->second.announced.bytes;
  waiting_.Erase(it->second.announced.traffic, it->first);
  payloads_.erase(it);
}

void BulkIn::Clear() {
  payloads_.clear();
  waiting_.Clear();
  granted_bytes_ = 0;
}

}  // namespace perigee::rdma::tls
