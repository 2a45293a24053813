#include "rdma/tls/bulk_out.h"

#include <algorithm>
#include <string>
#include <utility>

#include "rdma/tls/frame.h"

namespace perigee::rdma::tls {

void BulkOut::Offer(uint64_t id, TrafficClass traffic, ConstBytes data, Piece keep, Nanos until) {
  payloads_[id] = Payload{traffic, data, std::move(keep), 0, false, until};
}

Status BulkOut::Grant(uint64_t id, Nanos now) {
  auto it = payloads_.find(id);
  if (it != payloads_.end() && !it->second.granted) {
    it->second.granted = true;
    turn_.Push(it->second.traffic, id, now);
    return Status::Ok();
  }
  if (dropped_.erase(id) > 0) return Status::Ok();
  return Status(Code::kCorrupt,
                "a grant for payload " + std::to_string(id) + ", which was not announced");
}

bool BulkOut::Drop(uint64_t id) {
  auto it = payloads_.find(id);
  if (it == payloads_.end()) return false;
  bool granted = it->second.granted;
  turn_.Erase(it->second.traffic, id);
  payloads_.erase(it);
  if (!granted) dropped_.insert(id);
  return granted;
}

std::optional<BulkOut::Next> BulkOut::TakePiece(Nanos now) {
  auto traffic = turn_.Next(now);
  if (!traffic) return std::nullopt;
  uint64_t id = turn_.Pop(*traffic, now);
  Payload& payload = payloads_.at(id);
  Next next{id, payload.offset, payload.left.first(std::min(payload.left.size(), kPieceMax)),
            *traffic};
  payload.left = payload.left.subspan(next.bytes.size());
  payload.offset += static_cast<uint32_t>(next.bytes.size());
  if (!payload.left.empty()) turn_.Push(*traffic, id, now);
  return next;
}

void BulkOut::PieceSent(uint64_t id) {
  auto it = payloads_.find(id);
  if (it != payloads_.end() && it->second.left.empty()) payloads_.erase(it);
}

bool BulkOut::Overdue(Nanos now) const {
  return std::any_of(payloads_.begin(), payloads_.end(),
                     [now](const auto& entry) { return entry.second.until < now; });
}

void BulkOut::Clear() {
  payloads_.clear();
  turn_.Clear();
  dropped_.clear();
}

}  // namespace perigee::rdma::tls
