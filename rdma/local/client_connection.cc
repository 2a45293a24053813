#include "rdma/local/client_connection.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/failpoint.h"
#include "rdma/local/client_core.h"

namespace perigee::rdma::local {

ClientConnection::ClientConnection(std::shared_ptr<ClientCore> owner,
                                   std::shared_ptr<EventLoop> loop, OwnedFd fd)
    : owner_(std::move(owner)),
      loop_(std::move(loop)),
      stream_(std::move(fd), owner_->core().byte_counters()),
      hello_(std::in_place, owner_->core().options()) {}

Result<std::shared_ptr<ClientConnection>> ClientConnection::Open(std::shared_ptr<ClientCore> owner,
                                                                 std::shared_ptr<EventLoop> loop,
                                                                 const std::string& path) {
  PERIGEE_ASSIGN(SocketPath address, SocketPath::Of(path));
  OwnedFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.get() < 0) return Status::FromErrno(errno, "socket");
  if (connect(fd.get(), static_cast<const sockaddr*>(address.address()), address.length()) != 0) {
    if (errno == EAGAIN) return Status(Code::kBusy, "connect " + path + ": the backlog is full");
    Status st = Status::FromErrno(errno, "connect " + path);
    if (st.Is(Code::kPermissionDenied)) return st;
    return Status(Code::kUnavailable, st.message());
  }
  // Blocking from here on: a caller waits in recvmsg itself. All others pass MSG_DONTWAIT.
  int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return Status::FromErrno(errno, "fcntl");
  }
  return std::shared_ptr<ClientConnection>(
      new ClientConnection(std::move(owner), std::move(loop), std::move(fd)));
}

Status ClientConnection::Begin() {
  stream_.set_on_backlog([weak = weak_from_this()] {
    if (auto self = weak.lock()) self->watch_.Add(EPOLLOUT);
  });
  std::string start = hello_->Start();
  FrameHeader head;
  head.kind = FrameKind::kHelloStart;
  head.header_len = static_cast<uint32_t>(start.size());
  // Without the write mutex, which comes before the owner's that is held here: nobody else knows
  // this connection yet.
  PERIGEE_TRY(stream_.Send(head, start, {}, {}));
  return watch_.Begin(loop_, stream_.fd(), EPOLLIN | EPOLLRDHUP, shared_from_this());
}

void ClientConnection::End() {
  watch_.End();
  stream_.Shutdown();
}

// ---------------------------------------------------------------- sending

Status ClientConnection::SendControl(FrameKind kind, std::string_view message) {
  FrameHeader head;
  head.kind = kind;
  head.header_len = static_cast<uint32_t>(message.size());
  std::lock_guard lock(stream_.write_mutex());
  return stream_.Send(head, message, {}, {});
}

Status ClientConnection::SendRequest(const ClientCall& call) {
  FrameHeader head;
  head.kind = FrameKind::kRequest;
  head.id = call.id;
  head.method = static_cast<uint16_t>(call.method);
  head.traffic = call.traffic;
  head.header_len = static_cast<uint32_t>(call.header.size());
  Nanos left_us = (call.deadline - RealClock::Get().Monotonic()) / kMicrosecond;
  head.timeout_us = static_cast<uint32_t>(std::clamp<Nanos>(left_us, 1, UINT32_MAX));
  head.bulk = call.bulk_kind;
  head.bulk_len = static_cast<uint32_t>(call.bulk.size());
  ConstBytes inline_bulk;
  if (call.bulk_kind == BulkKind::kInline) inline_bulk = call.bulk;
  if (call.bulk_kind == BulkKind::kSlab) {
    PERIGEE_TRY(stream_.Announce(owner_->core().pool(), call.at.slab, *owner_->core().leases()));
    head.ref = {call.at.slab, call.at.offset, call.lease.slot(), call.lease.value()};
    owner_->core().NoteBulkOut(call.bulk.size());
  }
  bytes->CountSent(call.traffic, call.header.size() + call.bulk.size());
  PERIGEE_FAILPOINT(rdma_local_before_call);
  Status st = stream_.Send(head, call.header, inline_bulk, {});
  PERIGEE_FAILPOINT(rdma_local_after_call);
  return st;
}

void ClientConnection::SendPulled(uint64_t id) {
  FrameHeader head;
  head.kind = FrameKind::kPulled;
  head.id = id;
  std::lock_guard lock(stream_.write_mutex());
  // A connection that is gone has released everything by itself.
  stream_.Send(head, {}, {}, {}).Ignore();
}

// ---------------------------------------------------------------- receiving

void ClientConnection::OnReady(uint32_t events) {
  if ((events & EPOLLOUT) != 0) {
    std::lock_guard lock(stream_.write_mutex());
    auto flushed = stream_.Flush();
    // A failed write shows as the end of the connection below, or to whoever reads.
    if (!flushed.ok()) stream_.Shutdown();
    if (!flushed.ok() || *flushed) watch_.Drop(EPOLLOUT);
  }
  bool ended = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
  if (!ended && (events & EPOLLIN) == 0) return;
  auto self = shared_from_this();
  if (!owner_->LoopMayRead(self, ended)) return;
  Status end;
  do {
    auto got = stream_.Receive(0);
    if (!got.ok()) {
      end = std::move(got).TakeStatus();
    } else if (*got == Stream::Got::kEnd) {
      end = Status(Code::kUnavailable, "the server closed the connection");
    } else if (*got == Stream::Got::kNothing) {
      break;
    } else {
      end = Dispatch();
    }
  } while (ended && end.ok());  // what the server sent before it went
  if (end.ok()) {
    owner_->LoopHasRead(self);
  } else {
    owner_->Break(self, end);
  }
}

Status ClientConnection::Dispatch() {
  bool credit_freed = false;
  Frame frame;
  while (true) {
    FrameLimits limits =
        serving_ ? FrameLimits{kHeaderBytesMax, kPieceBytesMax} : FrameLimits{kHelloBytesMax, 0};
    PERIGEE_ASSIGN(bool whole, stream_.Next(limits, &frame));
    if (!whole) break;
    PERIGEE_TRY(Handle(frame, &credit_freed));
  }
  if (credit_freed) owner_->Pump(shared_from_this());
  return Status::Ok();
}

Status ClientConnection::Handle(Frame& frame, bool* credit_freed) {
  if (!serving_) return HandleHello(frame);
  switch (frame.head.kind) {
    case FrameKind::kResponse:
      return HandleResponse(frame, credit_freed);
    case FrameKind::kSlab:
      if (frame.fds.size() != 1) return Status(Code::kCorrupt, "a slab without its descriptor");
      return slabs_.Announce(frame.head.ref.slab, frame.head.ref.offset, std::move(frame.fds[0]));
    case FrameKind::kForgetSlab:
      return slabs_.Forget(frame.head.ref.slab);
    default:
      return Status(Code::kCorrupt, "a frame that only clients send");
  }
}

Status ClientConnection::HandleHello(const Frame& frame) {
  if (frame.head.kind == FrameKind::kHelloChallenge) {
    PERIGEE_ASSIGN(std::string answer, hello_->Answer(frame.message));
    return SendControl(FrameKind::kHelloAnswer, answer);
  }
  if (frame.head.kind != FrameKind::kHelloVerdict) {
    return Status(Code::kCorrupt, "a call before hello");
  }
  PERIGEE_ASSIGN(HelloPeer server, hello_->Finish(frame.message));
  hello_.reset();
  serving_ = true;
  owner_->Ready(shared_from_this(), server);
  return Status::Ok();
}

Status ClientConnection::HandleResponse(Frame& frame, bool* credit_freed) {
  const FrameHeader& head = frame.head;
  Answer answer;
  answer.id = head.id;
  if (head.bulk == BulkKind::kSlab) {
    PERIGEE_ASSIGN(answer.source, slabs_.Find(head.ref, head.bulk_len));
    answer.from = shared_from_this();
  } else if (head.bulk == BulkKind::kInline) {
    answer.inline_bulk.assign(AsView(frame.inline_bulk));
  }
  auto code = static_cast<Code>(head.method);
  Status status;
  if (code != Code::kOk) {
    if (head.method > static_cast<uint16_t>(Code::kInternal)) code = Code::kInternal;
    status = Status(code, std::string(frame.message));
  } else {
    answer.header.assign(frame.message);
    answer.fds = std::move(frame.fds);
  }
  *credit_freed = true;
  return owner_->Answered(*this, std::move(status), std::move(answer));
}

}  // namespace perigee::rdma::local
