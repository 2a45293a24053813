#include "rdma/ofi/endpoint.h"

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_rma.h>

#include <cstring>
#include <utility>

#include "base/log.h"
#include "rdma/ofi/ofi_status.h"
#include "rdma/ofi/worker.h"
#include "rdma/rendezvous/frame.h"

namespace perigee::rdma::ofi {

using rendezvous::Announced;
using rendezvous::Arrival;
using rendezvous::EndpointUser;
using rendezvous::kEagerBytesMax;
using rendezvous::Sending;

namespace {

constexpr Nanos kCloseMax = 1 * kSecond;  // for libfabric to give back what it has
// Of messages that wait for the peer to take others; an honest one has a few for each call.
constexpr size_t kOutgoingMax = 32768;

static_assert(kEnvelopeBytes + rendezvous::kFrameBytes + rendezvous::kBodyInHeadMax +
                  kEagerBytesMax <=
              kBufferBytes);

// A peer's data, until it is pulled.
class OfiAnnouncement final : public rendezvous::Announcement {
 public:
  OfiAnnouncement(std::weak_ptr<OfiEndpoint> endpoint, const Envelope& envelope)
      : endpoint_(std::move(endpoint)), envelope_(envelope) {}
  ~OfiAnnouncement() override {
    if (taken_) return;
    if (auto endpoint = endpoint_.lock()) endpoint->Release(envelope_.token);
  }
  const Envelope& Take() {
    taken_ = true;
    return envelope_;
  }

 private:
  const std::weak_ptr<OfiEndpoint> endpoint_;
  const Envelope envelope_;
  bool taken_ = false;
};

Status Lost() { return Status(Code::kUnavailable, "the connection is closed"); }

}  // namespace

// ---------------------------------------------------------------- opening

Result<std::shared_ptr<OfiEndpoint>> OfiEndpoint::Create(OfiWorker* worker, Device* device,
                                                         fi_info& info, Side side,
                                                         EndpointUser* user) {
  PERIGEE_ASSIGN(fid_ep * ep, device->NewEndpoint(info));
  std::shared_ptr<OfiEndpoint> out(new OfiEndpoint(worker, device, ep, side, user));
  Status st;
  for (size_t i = 0; i < device->receives() && st.ok(); ++i) {
    auto operation = std::make_unique<Operation>();
    auto buffer = device->memory().TakeBuffer();
    st = buffer.status();
    if (!st.ok()) break;
    operation->endpoint = out;
    operation->buffer = *buffer;
    st = out->PostReceive(std::move(operation));
  }
  if (st.ok()) return out;
  out->Close();
  return st;
}

Result<std::shared_ptr<OfiEndpoint>> OfiEndpoint::Connect(OfiWorker* worker, Device* device,
                                                          fi_info& info, EndpointUser* user) {
  PERIGEE_ASSIGN(auto out, Create(worker, device, info, Side::kClient, user));
  Status st = FromFi(fi_connect(out->ep_, info.dest_addr, nullptr, 0), "fi_connect");
  if (!st.ok()) {
    out->Close();
    return Status(Code::kUnavailable, st.message());
  }
  out->connecting_ = true;
  return out;
}

Result<std::shared_ptr<OfiEndpoint>> OfiEndpoint::Accept(OfiWorker* worker, Device* device,
                                                         OfiConnectionRequest& request,
                                                         EndpointUser* user) {
  PERIGEE_ASSIGN(auto out, Create(worker, device, request.info(), Side::kServer, user));
  Status st = FromFi(fi_accept(out->ep_, nullptr, 0), "fi_accept");
  if (!st.ok()) {
    out->Close();
    return st;
  }
  request.Accepted();
  out->connecting_ = true;
  return out;
}

void OfiEndpoint::OnConnected() {
  up_ = true;
  if (!Flush()) worker_->RetryLater(shared_from_this());
}

Status OfiEndpoint::PostReceive(std::unique_ptr<Operation> operation) {
  operation->kind = Operation::Kind::kReceive;
  ssize_t rc = fi_recv(ep_, operation->buffer.data, kBufferBytes, operation->buffer.descriptor, 0,
                       operation.get());
  if (rc != 0) {
    device_->memory().GiveBuffer(operation->buffer);
    return FromFi(rc, "fi_recv");
  }
  ++posted_;
  (void)operation.release();  // comes back with OnCompletion
  return Status::Ok();
}

std::string OfiEndpoint::Transports() const {
  if (ep_ == nullptr || !up_) return "";
  const Terms& terms = device_->terms();
  rendezvous::SocketAddress local;
  size_t length = sizeof local.storage;
  if (terms.provider != "tcp" || fi_getname(&ep_->fid, &local.storage, &length) != 0) {
    return terms.provider + "/" + terms.domain;
  }
  local.length = static_cast<socklen_t>(length);
  auto interface = rendezvous::InterfaceOf(local);
  if (interface.ok()) return terms.provider + "/" + interface->name;
  interface.status().Ignore();
  return terms.provider;
}

// ---------------------------------------------------------------- sending

void OfiEndpoint::Send(std::unique_ptr<Sending> sending) {
  if (closing_ || failed_) return Finish(std::move(sending), Lost());
  Outgoing out;
  out.head = std::move(sending->head);
  out.envelope.head_bytes = static_cast<uint32_t>(out.head.size());
  out.envelope.data_bytes = static_cast<uint32_t>(sending->data.size());
  if (sending->data.size() <= kEagerBytesMax) {
    out.sending = std::move(sending);
    return Enqueue(std::move(out));
  }
  out.envelope.kind = EnvelopeKind::kAnnounce;
  out.envelope.token = ++next_token_;
  Offered offered;
  if (side_ == Side::kClient) {
    auto exposure = device_->memory().Expose(sending->data.data(), sending->data.size(),
                                             Memory::Access::kRemoteRead);
    if (!exposure.ok()) {
      FailSoon(exposure.status());
      return Finish(std::move(sending), exposure.status());
    }
    offered.exposure = std::move(*exposure);
    out.envelope.addr = offered.exposure.addr;
    out.envelope.key = offered.exposure.key;
  }
  offered.sending = std::move(sending);
  offered_.emplace(out.envelope.token, std::move(offered));
  Enqueue(std::move(out));
}

void OfiEndpoint::Pull(Announced what, uint8_t* to, size_t bytes,
                       std::function<void(Status)> done) {
  Outgoing out;
  out.envelope = static_cast<OfiAnnouncement&>(*what).Take();
  PERIGEE_CHECK(bytes == out.envelope.data_bytes);
  out.envelope.head_bytes = 0;
  if (closing_ || failed_) return worker_->Defer([done = std::move(done)] { done(Lost()); });
  if (side_ == Side::kServer) {
    out.kind = Operation::Kind::kRead;
    out.local = to;
    out.done = std::move(done);
    return Enqueue(std::move(out));
  }
  auto exposure = device_->memory().Expose(to, bytes, Memory::Access::kRemoteWrite);
  if (!exposure.ok()) {
    FailSoon(exposure.status());
    worker_->Defer([done = std::move(done)] { done(Lost()); });
    return;
  }
  out.envelope.kind = EnvelopeKind::kGrant;
  out.envelope.addr = exposure->addr;
  out.envelope.key = exposure->key;
  granted_.emplace(out.envelope.token, Granted{std::move(*exposure), std::move(done)});
  Enqueue(std::move(out));
}

void OfiEndpoint::Release(uint64_t token) {
  if (!closing_ && !failed_) Control(EnvelopeKind::kRelease, token);
}

void OfiEndpoint::Control(EnvelopeKind kind, uint64_t token) {
  Outgoing out;
  out.envelope.kind = kind;
  out.envelope.token = token;
  Enqueue(std::move(out));
}

void OfiEndpoint::Enqueue(Outgoing out) {
  outgoing_.push_back(std::move(out));
  if (outgoing_.size() > kOutgoingMax) {
    return FailSoon(Status(Code::kUnavailable, "the peer does not take what is sent"));
  }
  if (!Flush()) worker_->RetryLater(shared_from_this());
}

bool OfiEndpoint::Flush() {
  while (up_ && !closing_ && !failed_ && !outgoing_.empty() && transmits_ < device_->transmits()) {
    auto posted = Post(&outgoing_.front());
    if (!posted.ok()) {
      FailSoon(posted.status());
      return true;
    }
    // With nothing on its way no completion will come to try again.
    if (!*posted) return transmits_ > 0;
    outgoing_.pop_front();
  }
  return true;
}

// False: libfabric has no room now.
Result<bool> OfiEndpoint::Post(Outgoing* out) {
  return out->kind == Operation::Kind::kSend ? PostMessage(out) : PostTransfer(out);
}

Result<bool> OfiEndpoint::PostMessage(Outgoing* out) {
  ConstBytes data;
  if (out->envelope.kind == EnvelopeKind::kMessage) data = out->sending->data;
  size_t bytes = kEnvelopeBytes + out->head.size() + data.size();
  PERIGEE_CHECK(bytes <= kBufferBytes);
  PERIGEE_ASSIGN(Buffer buffer, device_->memory().TakeBuffer());
  EncodeEnvelope(out->envelope, buffer.data);
  std::memcpy(buffer.data + kEnvelopeBytes, out->head.data(), out->head.size());
  if (!data.empty()) {
    std::memcpy(buffer.data + kEnvelopeBytes + out->head.size(), data.data(), data.size());
  }
  auto operation = std::make_unique<Operation>();
  // Never injected, however small: without completions nothing would bound what tcp queues for a
  // peer that does not read.
  ssize_t rc = fi_send(ep_, buffer.data, bytes, buffer.descriptor, 0, operation.get());
  if (rc != 0) device_->memory().GiveBuffer(buffer);
  if (rc == -FI_EAGAIN) return false;
  PERIGEE_TRY(FromFi(rc, "fi_send"));
  operation->endpoint = shared_from_this();
  operation->kind = Operation::Kind::kSend;
  operation->buffer = buffer;
  operation->sending = std::move(out->sending);
  ++posted_;
  ++transmits_;
  (void)operation.release();
  return true;
}

Result<bool> OfiEndpoint::PostTransfer(Outgoing* out) {
  const Envelope& e = out->envelope;
  auto operation = std::make_unique<Operation>();
  PERIGEE_ASSIGN(void* descriptor,
                 device_->memory().Local(out->local, e.data_bytes, &operation->registration));
  ssize_t rc =
      out->kind == Operation::Kind::kRead
          ? fi_read(ep_, out->local, e.data_bytes, descriptor, 0, e.addr, e.key, operation.get())
          : fi_write(ep_, out->local, e.data_bytes, descriptor, 0, e.addr, e.key, operation.get());
  if (rc == -FI_EAGAIN) return false;
  PERIGEE_TRY(FromFi(rc, out->kind == Operation::Kind::kRead ? "fi_read" : "fi_write"));
  operation->endpoint = shared_from_this();
  operation->kind = out->kind;
  operation->token = e.token;
  operation->done = std::move(out->done);
  ++posted_;
  ++transmits_;
  (void)operation.release();
  return true;
}

void OfiEndpoint::Finish(std::unique_ptr<Sending> sending, Status outcome) {
  outcome.Ignore();  // a lost connection shows by itself
  auto done = std::move(sending->done);
  sending.reset();
  if (!done) return;
  worker_->Defer([done = std::move(done), outcome = std::move(outcome)] { done(outcome); });
}

void OfiEndpoint::FinishOffered(uint64_t token, Status outcome) {
  outcome.Ignore();  // a lost connection shows by itself
  auto it = offered_.find(token);
  if (it == offered_.end()) return;
  auto sending = std::move(it->second.sending);
  offered_.erase(it);  // and with it the peer's access
  Finish(std::move(sending), std::move(outcome));
}

// ---------------------------------------------------------------- completions

void OfiEndpoint::OnCompletion(std::unique_ptr<Operation> operation, const Status& outcome,
                               size_t bytes) {
  outcome.Ignore();
  --posted_;
  if (operation->kind != Operation::Kind::kReceive) --transmits_;
  switch (operation->kind) {
    case Operation::Kind::kReceive: {
      if (!outcome.ok() || closing_ || failed_) {
        device_->memory().GiveBuffer(operation->buffer);
        if (outcome.code() == Code::kTooLarge && !closing_ && !failed_) Violation(outcome);
        break;
      }
      Status st = OnMessage({operation->buffer.data, bytes});
      if (!st.ok()) Violation(st);
      if (closing_ || failed_) {
        device_->memory().GiveBuffer(operation->buffer);
        break;
      }
      st = PostReceive(std::move(operation));
      if (!st.ok()) FailSoon(st);
      return;
    }
    case Operation::Kind::kSend:
      device_->memory().GiveBuffer(operation->buffer);
      if (operation->sending) Finish(std::move(operation->sending), outcome);
      break;
    case Operation::Kind::kRead:
      if (outcome.ok()) Release(operation->token);
      worker_->Defer([done = std::move(operation->done), outcome] { done(outcome); });
      break;
    case Operation::Kind::kWrite:
      if (outcome.ok() && !closing_ && !failed_) {
        Control(EnvelopeKind::kWritten, operation->token);
      }
      FinishOffered(operation->token, outcome);
      break;
  }
  if (!outcome.ok()) {
    FailSoon(outcome);
  } else if (!Flush()) {
    worker_->RetryLater(shared_from_this());
  }
}

Status OfiEndpoint::OnMessage(ConstBytes message) {
  PERIGEE_ASSIGN(Envelope e, DecodeEnvelope(message));
  ConstBytes head = message.subspan(kEnvelopeBytes, e.head_bytes);
  switch (e.kind) {
    case EnvelopeKind::kMessage: {
      Arrival arrival;
      arrival.head = AsView(head);
      arrival.data = AsView(message.subspan(kEnvelopeBytes + e.head_bytes));
      arrival.bytes = e.data_bytes;
      user_->OnArrival(std::move(arrival));
      return Status::Ok();
    }
    case EnvelopeKind::kAnnounce:
      return OnAnnounce(e, head);
    case EnvelopeKind::kGrant:
      return OnGrant(e);
    case EnvelopeKind::kWritten:
      return OnWritten(e.token);
    case EnvelopeKind::kRelease:
      return OnRelease(e.token);
  }
  return Status(Code::kCorrupt, "unknown kind");
}

Status OfiEndpoint::OnAnnounce(const Envelope& e, ConstBytes head) {
  if (side_ == Side::kClient && (e.addr != 0 || e.key != 0)) {
    return Status(Code::kCorrupt, "a server offers memory");
  }
  if (e.token <= last_peer_token_) return Status(Code::kCorrupt, "an announcement twice");
  last_peer_token_ = e.token;
  Arrival arrival;
  arrival.head = AsView(head);
  arrival.bytes = e.data_bytes;
  arrival.announced = std::make_unique<OfiAnnouncement>(weak_from_this(), e);
  user_->OnArrival(std::move(arrival));
  return Status::Ok();
}

Status OfiEndpoint::OnGrant(const Envelope& e) {
  auto it = offered_.find(e.token);
  if (side_ != Side::kServer || it == offered_.end() || it->second.writing ||
      it->second.sending->data.size() != e.data_bytes) {
    return Status(Code::kCorrupt, "memory for what was not announced");
  }
  it->second.writing = true;
  Outgoing out;
  out.kind = Operation::Kind::kWrite;
  out.envelope = e;
  out.local = const_cast<uint8_t*>(it->second.sending->data.data());  // fi_write reads it
  Enqueue(std::move(out));
  return Status::Ok();
}

Status OfiEndpoint::OnWritten(uint64_t token) {
  auto it = granted_.find(token);
  if (it == granted_.end()) return Status(Code::kCorrupt, "written where nothing was granted");
  auto done = std::move(it->second.done);
  granted_.erase(it);  // and with it the server's access
  worker_->Defer([done = std::move(done)] { done(Status::Ok()); });
  return Status::Ok();
}

Status OfiEndpoint::OnRelease(uint64_t token) {
  auto it = offered_.find(token);
  if (it == offered_.end() || it->second.writing) {
    return Status(Code::kCorrupt, "what was not announced is let go");
  }
  FinishOffered(token, Status::Ok());
  return Status::Ok();
}

// ---------------------------------------------------------------- failing and closing

void OfiEndpoint::Violation(const Status& why) {
  log::Warn("rdma_peer_violation", {{"why", why}, {"provider", "ofi"}});
  Fail(Status(Code::kUnavailable, why.message()));
}

void OfiEndpoint::FailSoon(Status why) {
  why.Ignore();
  worker_->Defer([self = shared_from_this(), why = std::move(why)] { self->Fail(why); });
}

void OfiEndpoint::Fail(Status why) {
  why.Ignore();  // whoever has closed meanwhile knows enough
  if (std::exchange(failed_, true) || user_ == nullptr) return;
  user_->OnFailure(why);
}

void OfiEndpoint::Close() {
  user_ = nullptr;
  if (std::exchange(closing_, true)) return;
  close_by_ = RealClock::Get().Monotonic() + kCloseMax;
  auto self = shared_from_this();
  if (connecting_) {
    // What is on its way ends with a failure, and is given back by the completion queue.
    fi_shutdown(ep_, 0);
  } else {
    CloseNow();
  }
  worker_->Retire(self);
}

void OfiEndpoint::CloseNow() {
  if (ep_ == nullptr) return;
  fi_close(&std::exchange(ep_, nullptr)->fid);
  device_->EndpointClosed();
  // From here on nobody else touches their memory.
  for (Outgoing& out : std::exchange(outgoing_, {})) {
    if (out.sending) Finish(std::move(out.sending), Lost());
    if (out.done) worker_->Defer([done = std::move(out.done)] { done(Lost()); });
  }
  while (!offered_.empty()) FinishOffered(offered_.begin()->first, Lost());
  for (auto& [token, granted] : std::exchange(granted_, {})) {
    worker_->Defer([done = std::move(granted.done)] { done(Lost()); });
  }
}

bool OfiEndpoint::Settle(Nanos now) {
  if (ep_ != nullptr && posted_ > 0 && now < close_by_) return false;
  CloseNow();
  return posted_ == 0;
}

}  // namespace perigee::rdma::ofi
