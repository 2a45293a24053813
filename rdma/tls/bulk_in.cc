#include "rdma/tls/bulk_in.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/checksum.h"

namespace perigee::rdma::tls {

namespace {
constexpr size_t kGrantedBytesMax = 16 << 20;  // enough for 10 GB/s and 1.6 ms there and back
constexpr size_t kPayloadsMax = 4096;

Status Bad(uint64_t id, const char* what) {
  return Status(Code::kCorrupt, "payload " + std::to_string(id) + ": " + what);
}
}  // namespace

Status BulkIn::Expect(uint64_t id, size_t bytes, uint32_t crc, std::string here) {
  if (payloads_.size() >= kPayloadsMax || payloads_.contains(id)) {
    return Bad(id, "announced twice, or too many");
  }
  Payload payload;
  payload.bytes = bytes;
  payload.crc = crc;
  payload.here = std::move(here);
  payloads_.emplace(id, std::move(payload));
  waiting_.push_back(id);
  return Status::Ok();
}

std::optional<size_t> BulkIn::Wanted() const {
  if (waiting_.empty()) return std::nullopt;
  const Payload& first = payloads_.at(waiting_.front());
  if (granted_bytes_ > 0 && granted_bytes_ + first.bytes > kGrantedBytesMax) return std::nullopt;
  return first.bytes;
}

BulkIn::Started BulkIn::Start(Piece piece) {
  uint64_t id = waiting_.front();
  waiting_.pop_front();
  Payload& payload = payloads_.at(id);
  payload.piece = std::move(piece);
  if (payload.here.empty()) {
    payload.granted = true;
    granted_bytes_ += payload.bytes;
    return {id, false};
  }
  std::memcpy(payload.piece.data(), payload.here.data(), payload.here.size());
  payload.crc_so_far = Crc32c(payload.piece.span());
  return {id, true};
}

Status BulkIn::BeginPiece(const FrameHeader& head) {
  auto it = payloads_.find(head.id);
  if (it == payloads_.end() || !it->second.granted) return Bad(head.id, "sent without a grant");
  const Payload& payload = it->second;
  if (head.offset != payload.received || head.bulk_len > payload.bytes - payload.received) {
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
  if (payload.drain_until == 0) {
    payload.crc_so_far =
        Crc32cExtend(payload.crc_so_far, payload.piece.span().subspan(payload.received, bytes));
  }
  payload.received += bytes;
  if (payload.received < payload.bytes) return false;
  if (payload.drain_until != 0) {
    Erase(it);
    return false;
  }
  return true;
}

Result<Piece> BulkIn::Take(uint64_t id) {
  auto it = payloads_.find(id);
  bool whole = it->second.crc_so_far == it->second.crc;
  Piece piece = std::move(it->second.piece);
  Erase(it);
  if (!whole) return Bad(id, "its checksum is not the one announced");
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
  if (it->second.granted) granted_bytes_ -= it->second.bytes;
  std::erase(waiting_, it->first);
  payloads_.erase(it);
}

void BulkIn::Clear() {
  payloads_.clear();
  waiting_.clear();
  granted_bytes_ = 0;
}

}  // namespace perigee::rdma::tls
