// ServerConnection's replies: sending them, and holding their bulk until the client has pulled it.

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "rdma/local/server_call.h"
#include "rdma/local/server_connection.h"

namespace perigee::rdma::local {

namespace {
constexpr Nanos kPullGrace = 5 * kSecond;  // after a call's deadline, for its bulk to be pulled
}

void ServerConnection::SendReply(CallTicket ticket, const Status& status, Payload payload) {
  std::string failure;
  Code code = status.code();
  if (status.ok() && (payload.header.size() > kHeaderBytesMax || payload.fds.size() > kFdsMax)) {
    code = Code::kInternal;
    failure = "the handler's reply exceeds what a frame carries";
    payload = {};
  } else if (!status.ok()) {
    failure = status.message().substr(0, 64 << 10);
  }
  const std::string& message = code == Code::kOk ? payload.header : failure;
  FrameHeader head;
  head.kind = FrameKind::kResponse;
  head.id = ticket.id;
  head.method = static_cast<uint16_t>(code);
  head.header_len = static_cast<uint32_t>(message.size());
  head.fds = static_cast<uint8_t>(payload.fds.size());
  head.bulk_len = static_cast<uint32_t>(payload.bulk.size());
  Lease lease;
  SlabPool::Location at{};
  if (head.bulk_len > 0) {
    head.bulk = BulkKind::kInline;
    if (head.bulk_len > kInlineBulkMax && trusted_ &&
        core_->pool().Locate(payload.bulk.data(), payload.bulk.size(), &at)) {
      lease = core_->leases()->Take();
    }
    if (lease) {
      head.bulk = BulkKind::kSlab;
      head.ref = {at.slab, at.offset, lease.slot(), lease.value()};
    }
  }
  int fds[kFdsMax];
  for (size_t i = 0; i < payload.fds.size(); ++i) fds[i] = payload.fds[i].get();

  Nanos until = ticket.deadline + kPullGrace;
  bool held_first = false;
  Status st;
  {
    std::lock_guard lock(stream_.write_mutex());
    in_flight_.fetch_sub(1);  // before the client can know
    if (closed_) return;
    bytes_->CountSent(ticket.traffic, message.size() + head.bulk_len);
    ConstBytes inline_bulk = lease ? ConstBytes() : payload.bulk.span();
    if (lease) {
      st = stream_.Announce(core_->pool(), at.slab, *core_->leases());
      held_first = held_.empty();
      core_->NoteBulkOut(payload.bulk.size());
      held_.emplace(ticket.id, Held{std::move(payload.bulk), std::move(lease), until});
    }
    if (st.ok()) {
      st = stream_.Send(head, message, inline_bulk, std::span(fds, payload.fds.size()));
    }
  }
  // The loop sees the end of the connection and closes it.
  if (!st.ok()) stream_.Shutdown();
  if (held_first) ArmSweep(until);
}

Status ServerConnection::HandlePulled(uint64_t id) {
  Held held;
  std::lock_guard lock(stream_.write_mutex());
  auto it = held_.find(id);
  if (it == held_.end()) return Status(Code::kCorrupt, "a payload was pulled that was not sent");
  held = std::move(it->second);
  held_.erase(it);
  return Status::Ok();
}

void ServerConnection::ArmSweep(Nanos at) {
  (void)loop_->Post([weak = weak_from_this(), at] {
    auto self = weak.lock();
    if (!self || self->phase_ == Phase::kClosed) return;
    self->loop_->Cancel(self->sweep_timer_);
    self->sweep_timer_ = self->loop_->At(at, [weak] {
      if (auto s = weak.lock()) s->SweepHeld();
    });
  });
}

// A client that never says it has pulled keeps our memory: it loses the connection instead.
void ServerConnection::SweepHeld() {
  if (phase_ == Phase::kClosed) return;
  Nanos now = RealClock::Get().Monotonic();
  Nanos next = 0;
  {
    std::lock_guard lock(stream_.write_mutex());
    for (const auto& [id, held] : held_) {
      next = next == 0 ? held.until : std::min(next, held.until);
    }
  }
  if (next == 0) return;
  if (next > now) return ArmSweep(next);
  log::Warn("rdma_peer_violation", {{"why", "a payload was never pulled"}, {"pid", peer_.pid}});
  Close();
}

}  // namespace perigee::rdma::local
