#include "rdma/tls/listener.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "rdma/close_all.h"

namespace perigee::rdma::tls {

namespace {
constexpr int kBacklog = 1024;
constexpr Nanos kAcceptPause = 100 * kMillisecond;  // when descriptors or memory ran out
}  // namespace

Result<std::shared_ptr<Acceptor>> Acceptor::Start(std::shared_ptr<Core> core,
                                                  const Endpoint& endpoint,
                                                  std::shared_ptr<Handler> handler) {
  std::shared_ptr<Acceptor> acceptor(new Acceptor(std::move(core), std::move(handler)));
  PERIGEE_ASSIGN(acceptor->loop_, acceptor->core_->NextLoop());
  PERIGEE_TRY(acceptor->Bind(endpoint));
  PERIGEE_TRY(acceptor->watch_.Begin(acceptor->loop_, acceptor->socket_.get(), EPOLLIN, acceptor));
  return acceptor;
}

Status Acceptor::Bind(const Endpoint& endpoint) {
  PERIGEE_ASSIGN(auto addresses, Resolve(endpoint, Lookup::kNames));
  const SocketAddress& address = addresses.front();
  socket_.Reset(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket_.get() < 0) return Status::FromErrno(errno, "socket");
  int on = 1;  // connections of an earlier process may linger
  if (setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) {
    return Status::FromErrno(errno, "SO_REUSEADDR");
  }
  if (bind(socket_.get(), static_cast<const sockaddr*>(address.data()), address.length()) != 0 ||
      listen(socket_.get(), kBacklog) != 0) {
    if (errno == EADDRINUSE) {
      return Status(Code::kAlreadyExists, "another process listens on " + endpoint.text);
    }
    return Status::FromErrno(errno, "listen on " + endpoint.text);
  }
  SocketAddress bound = address;
  socklen_t length = bound.length();
  if (getsockname(socket_.get(), reinterpret_cast<sockaddr*>(bound.bytes.data()), &length) != 0) {
    return Status::FromErrno(errno, "getsockname");
  }
  std::string text = bound.Text();
  address_ =
      "tls:" + endpoint.text.substr(0, endpoint.text.rfind(':')) + text.substr(text.rfind(':'));
  return Status::Ok();
}

void Acceptor::OnReady(uint32_t) {
  // A few at a time: other connections of this loop wait meanwhile.
  for (int i = 0; i < 16; ++i) {
    SocketAddress from{std::string(sizeof(sockaddr_storage), '\0')};
    socklen_t length = from.length();
    OwnedFd fd(accept4(socket_.get(), reinterpret_cast<sockaddr*>(from.bytes.data()), &length,
                       SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.get() >= 0) {
      from.bytes.resize(length);
      AcceptOne(std::move(fd), from.Text());
      continue;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      log::Warn("rdma_accept_paused",
                {{"address", address_}, {"why", Status::FromErrno(errno, "accept")}});
      watch_.Drop(EPOLLIN);
      loop_->At(RealClock::Get().Monotonic() + kAcceptPause, [weak = weak_from_this()] {
        if (auto self = weak.lock()) self->watch_.Add(EPOLLIN);
      });
    }
    return;
  }
}

void Acceptor::AcceptOne(OwnedFd fd, std::string from) {
  Status tuned = TuneSocket(fd.get());
  auto loop = core_->NextLoop();
  if (!tuned.ok() || !loop.ok()) {
    tuned.Ignore();  // the peer is gone, or this process about to be
    return loop.status().Ignore();
  }
  DropOldestStranger();
  auto connection = std::make_shared<ServerConnection>(
      core_, *loop, std::move(fd), std::move(from), handler_,
      [self = shared_from_this()](ServerConnection* closed) { self->Closed(closed); });
  {
    std::lock_guard lock(mu_);
    if (stopped_) return;
    connections_.insert(connection);
  }
  strangers_.push_back(connection);
  connection->PostOpen();
}

void Acceptor::DropOldestStranger() {
  std::erase_if(strangers_, [](const auto& weak) {
    auto connection = weak.lock();
    return !connection || connection->served();
  });
  if (strangers_.size() < kStrangersMax) return;
  if (auto oldest = strangers_.front().lock()) oldest->PostClose(nullptr);
  strangers_.pop_front();
}

void Acceptor::Closed(ServerConnection* connection) {
  if (connection->served()) core_->GivePlace();
  std::lock_guard lock(mu_);
  connections_.erase(std::static_pointer_cast<ServerConnection>(connection->shared_from_this()));
}

void Acceptor::Stop() {
  if (!core_->OwnProcess()) return;  // the socket is the parent's
  {
    std::lock_guard lock(mu_);
    if (std::exchange(stopped_, true)) return;
  }
  PERIGEE_CHECK(!loop_->OnLoopThread());
  // On the loop, so that no accept is running when the connections are counted.
  Event accepted_last;
  bool posted = loop_->Post([&] {
    watch_.End();
    socket_.Reset(-1);
    accepted_last.Set();
  });
  if (posted) accepted_last.Wait();
  CloseAll(mu_, connections_);
}

}  // namespace perigee::rdma::tls
