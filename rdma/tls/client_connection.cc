#include "rdma/tls/client_connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "rdma/tls/client_core.h"

namespace perigee::rdma::tls {

ClientConnection::ClientConnection(std::shared_ptr<ClientCore> owner, std::shared_ptr<Core> core,
                                   std::shared_ptr<EventLoop> loop)
    : Link(std::move(core), std::move(loop), Side::kClient),
      owner_(std::move(owner)),
      hello_(std::in_place, this->core().options()) {}

Result<std::shared_ptr<ClientConnection>> ClientConnection::Open(std::shared_ptr<ClientCore> owner,
                                                                 std::shared_ptr<Core> core,
                                                                 std::shared_ptr<EventLoop> loop,
                                                                 const SocketAddress& address,
                                                                 const std::string& host) {
  OwnedFd fd(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.get() < 0) return Status::FromErrno(errno, "socket");
  PERIGEE_TRY(TuneSocket(fd.get()));
  if (connect(fd.get(), static_cast<const sockaddr*>(address.data()), address.length()) != 0 &&
      errno != EINPROGRESS) {
    return Status(Code::kUnavailable, Status::FromErrno(errno, "connect").message());
  }
  std::shared_ptr<ClientConnection> connection(
      new ClientConnection(std::move(owner), core, std::move(loop)));
  auto context = core->context().Get();
  PERIGEE_ASSIGN(auto socket,
                 TlsSocket::Client(std::move(fd), context.get(), host, core->byte_counters()));
  PERIGEE_TRY(connection->Begin(std::move(socket)));
  return connection;
}

// ---------------------------------------------------------------- hello

void ClientConnection::OnOpen() { Send({.kind = FrameKind::kHelloStart}, hello_->Start()); }

FrameLimits ClientConnection::Limits() const {
  if (!ready_) return {kHelloBytesMax, 0};
  return {kHeaderBytesMax, kPieceBytesMax};
}

Status ClientConnection::HandleHello(const Frame& frame) {
  if (frame.head.kind == FrameKind::kHelloChallenge) {
    PERIGEE_ASSIGN(std::string answer, hello_->Answer(frame.message));
    Send({.kind = FrameKind::kHelloAnswer}, answer);
    return Status::Ok();
  }
  if (frame.head.kind != FrameKind::kHelloVerdict) {
    return Status(Code::kCorrupt, "a call before hello");
  }
  PERIGEE_ASSIGN(HelloPeer server, hello_->Finish(frame.message));
  hello_.reset();
  ready_ = true;
  credits_ = Credits(std::min(server.credits, core().options().credits));
  KnowPeer(server.role, server.node_id);
  owner_->Ready();
  return Status::Ok();
}

// ---------------------------------------------------------------- calls

void ClientConnection::SendRequest(const std::shared_ptr<ClientCall>& call) {
  call->id = ++next_id_;
  FrameHeader head;
  head.kind = FrameKind::kRequest;
  head.id = call->id;
  head.method = static_cast<uint16_t>(call->method);
  head.traffic = call->traffic;
  head.bulk_len = static_cast<uint32_t>(call->bulk.size());
  Nanos left_us = (call->deadline - RealClock::Get().Monotonic()) / kMicrosecond;
  head.timeout_us = static_cast<uint32_t>(std::clamp<Nanos>(left_us, 1, UINT32_MAX));
  InFlight entry;
  entry.call = call;
  entry.traffic = call->traffic;
  entry.offered = head.Announces();
  credits_.Take(call->traffic);
  in_flight_.emplace(call->id, std::move(entry));
  Send(head, call->header, head.Announces() ? ConstBytes() : call->bulk);
  if (head.Announces()) Offer(head, call->bulk, Piece(), call->deadline + core().tls().bulk_grace);
}

void ClientConnection::Erase(std::unordered_map<uint64_t, InFlight>::iterator it) {
  credits_.Give(it->second.traffic);
  in_flight_.erase(it);
}

void ClientConnection::GiveUp(uint64_t id) {
  auto it = in_flight_.find(id);
  if (it == in_flight_.end()) return;
  if (it->second.collecting) {
    Drop(id, true);
    Erase(it);
    return;
  }
  it->second.call.reset();
  if (it->second.offered) Withdraw(id, false);
}

std::vector<std::shared_ptr<ClientCall>> ClientConnection::TakeCalls() {
  std::vector<std::shared_ptr<ClientCall>> calls;
  for (auto& [id, entry] : in_flight_) {
    if (entry.call) calls.push_back(std::move(entry.call));
  }
  in_flight_.clear();
  return calls;
}

Status ClientConnection::OnFrame(const Frame& frame) {
  if (!ready_) return HandleHello(frame);
  if (frame.head.kind == FrameKind::kResponse) return HandleResponse(frame);
  return Status(Code::kCorrupt, "a frame that only clients send");
}

Status ClientConnection::HandleResponse(const Frame& frame) {
  const FrameHeader& head = frame.head;
  auto it = in_flight_.find(head.id);
  if (it == in_flight_.end() || it->second.collecting) {
    return Status(Code::kCorrupt, "an answer to a call that was not made");
  }
  if (it->second.offered) Withdraw(head.id, true);
  auto code = static_cast<Code>(head.method);
  if (head.method > static_cast<uint16_t>(Code::kInternal)) code = Code::kInternal;
  bool wanted = it->second.call != nullptr && code == Code::kOk;
  if (wanted && head.bulk_len > 0) {
    it->second.collecting = true;
    it->second.answer.assign(frame.message);
    return Expect(frame, it->second.traffic);
  }
  std::shared_ptr<ClientCall> call = std::move(it->second.call);
  Erase(it);
  if (head.Announces()) Decline(head.id);
  if (call && code != Code::kOk) {
    owner_->Finish(call, Status(code, std::string(frame.message)));
  } else if (call) {
    owner_->Finish(call, Payload{std::string(frame.message), {}, {}});
  }
  owner_->Pump();
  return Status::Ok();
}

void ClientConnection::OnBulk(uint64_t id, Result<Piece> piece) {
  auto it = in_flight_.find(id);
  std::shared_ptr<ClientCall> call = std::move(it->second.call);
  std::string answer = std::move(it->second.answer);
  Erase(it);
  if (piece.ok()) {
    owner_->Finish(call, Payload{std::move(answer), std::move(*piece), {}});
  } else {
    owner_->Finish(call, piece.status());
  }
  owner_->Pump();
}

void ClientConnection::OnEnd(const Status& why) {
  owner_->Ended(std::static_pointer_cast<ClientConnection>(shared_from_this()), why);
}

}  // namespace perigee::rdma::tls
