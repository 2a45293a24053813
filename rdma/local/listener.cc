#include "rdma/local/listener.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "rdma/close_all.h"

namespace perigee::rdma::local {

namespace {

constexpr int kBacklog = 4096;
constexpr Nanos kAcceptPause = 100 * kMillisecond;  // when descriptors or memory ran out

// Ok when the path is free: nothing is there, or the socket of a process that is gone.
Status CheckFree(const std::string& path) {
  struct stat st {};
  if (lstat(path.c_str(), &st) != 0) {
    return errno == ENOENT ? Status::Ok() : Status::FromErrno(errno, "stat " + path);
  }
  if (!S_ISSOCK(st.st_mode)) {
    return Status(Code::kAlreadyExists, path + " exists and is not a socket");
  }
  PERIGEE_ASSIGN(SocketPath address, SocketPath::Of(path));
  OwnedFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (probe.get() < 0) return Status::FromErrno(errno, "socket");
  if (connect(probe.get(), static_cast<const sockaddr*>(address.address()), address.length()) ==
          0 ||
      errno == EAGAIN) {
    return Status(Code::kAlreadyExists, "another process listens on " + path);
  }
  if (errno == ECONNREFUSED || errno == ENOENT) return Status::Ok();
  return Status::FromErrno(errno, "connect " + path);
}

}  // namespace

Acceptor::Acceptor(std::shared_ptr<Core> core, std::string path, std::shared_ptr<Handler> handler)
    : core_(std::move(core)), path_(std::move(path)), handler_(std::move(handler)) {}

Acceptor::~Acceptor() = default;

Result<std::shared_ptr<Acceptor>> Acceptor::Start(std::shared_ptr<Core> core,
                                                  const std::string& path,
                                                  std::shared_ptr<Handler> handler) {
  std::shared_ptr<Acceptor> acceptor(new Acceptor(std::move(core), path, std::move(handler)));
  PERIGEE_ASSIGN(acceptor->loop_, acceptor->core_->NextLoop());
  PERIGEE_TRY(acceptor->Bind());
  Status st = acceptor->watch_.Begin(acceptor->loop_, acceptor->socket_.get(), EPOLLIN, acceptor);
  if (!st.ok()) {
    acceptor->RemoveFile();
    return st;
  }
  return acceptor;
}

// Under a name of this process first, so that the path never leads to a socket with the wrong mode
// or nobody behind it.
Status Acceptor::Bind() {
  PERIGEE_TRY(CheckFree(path_));
  std::string temporary = path_ + "." + std::to_string(getpid());
  PERIGEE_ASSIGN(SocketPath address, SocketPath::Of(temporary));
  socket_.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket_.get() < 0) return Status::FromErrno(errno, "socket");
  (void)unlink(temporary.c_str());  // of an earlier process with this pid
  if (bind(socket_.get(), static_cast<const sockaddr*>(address.address()), address.length()) != 0) {
    return Status::FromErrno(errno, "bind " + temporary);
  }
  Status st;
  struct stat info {};
  if (chmod(temporary.c_str(), core_->local().socket_mode) != 0) {
    st = Status::FromErrno(errno, "chmod " + temporary);
  } else if (core_->local().socket_group >= 0 &&
             chown(temporary.c_str(), static_cast<uid_t>(-1),
                   static_cast<gid_t>(core_->local().socket_group)) != 0) {
    st = Status::FromErrno(errno, "chgrp " + temporary);
  } else if (listen(socket_.get(), kBacklog) != 0) {
    st = Status::FromErrno(errno, "listen on " + path_);
  } else if (lstat(temporary.c_str(), &info) != 0) {
    st = Status::FromErrno(errno, "stat " + temporary);
  } else if (rename(temporary.c_str(), path_.c_str()) != 0) {
    st = Status::FromErrno(errno, "rename " + temporary);
  }
  if (!st.ok()) {
    (void)unlink(temporary.c_str());
    return st;
  }
  device_ = info.st_dev;
  inode_ = info.st_ino;
  return Status::Ok();
}

void Acceptor::RemoveFile() {
  struct stat st {};
  if (lstat(path_.c_str(), &st) != 0 || st.st_dev != device_ || st.st_ino != inode_) return;
  if (unlink(path_.c_str()) != 0) {
    log::Warn("rdma_socket_left", {{"path", path_}, {"why", Status::FromErrno(errno, "unlink")}});
  }
}

void Acceptor::OnReady(uint32_t) {
  // A few at a time: other connections of this loop wait meanwhile.
  for (int i = 0; i < 16; ++i) {
    OwnedFd fd(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd.get() >= 0) {
      AcceptOne(std::move(fd));
      continue;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      log::Warn("rdma_accept_paused",
                {{"path", path_}, {"why", Status::FromErrno(errno, "accept")}});
      watch_.Drop(EPOLLIN);
      loop_->At(RealClock::Get().Monotonic() + kAcceptPause, [weak = weak_from_this()] {
        if (auto self = weak.lock()) self->watch_.Add(EPOLLIN);
      });
    }
    return;
  }
}

void Acceptor::AcceptOne(OwnedFd fd) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return;
  if (!core_->TakePlace()) {
    log::Warn(
        "rdma_connection_refused",
        {{"why", "connections_max reached"}, {"pid", credentials.pid}, {"uid", credentials.uid}});
    return;
  }
  auto loop = core_->NextLoop();
  if (!loop.ok()) {
    core_->GivePlace();
    return;
  }
  Peer peer;
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  peer.pid = credentials.pid;
  peer.provider = "local";
  peer.connection = NextConnectionId();
  auto connection = std::make_shared<ServerConnection>(
      core_, *loop, std::move(fd), std::move(peer), handler_,
      [self = shared_from_this()](ServerConnection* closed) { self->Closed(closed); });
  {
    std::lock_guard lock(mu_);
    if (stopped_) {
      core_->GivePlace();
      return;
    }
    connections_.insert(connection);
  }
  connection->PostOpen();
}

void Acceptor::Closed(ServerConnection* connection) {
  core_->GivePlace();
  std::lock_guard lock(mu_);
  connections_.erase(connection->shared_from_this());
}

void Acceptor::Stop() {
  if (!core_->OwnProcess()) return;  // the socket and its file are the parent's
  {
    std::lock_guard lock(mu_);
    if (std::exchange(stopped_, true)) return;
  }
  PERIGEE_CHECK(!loop_->OnLoopThread());
  RemoveFile();
  // On the loop, so that no accept is running when the connections are counted.
  Event accepted_last;
  bool posted = loop_->Post([&] {
    watch_.End();
    accepted_last.Set();
  });
  if (posted) accepted_last.Wait();
  (void)shutdown(socket_.get(),
                 SHUT_RDWR);  // those in the backlog are refused now, not when this object goes
  CloseAll(mu_, connections_);
}

}  // namespace perigee::rdma::local
