#include "rdma/rendezvous/acceptor.h"

#include <optional>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "rdma/close_all.h"

namespace perigee::rdma::rendezvous {

Result<std::shared_ptr<Acceptor>> Acceptor::Start(std::shared_ptr<Core> core,
                                                  const SocketAddress& address,
                                                  std::shared_ptr<Handler> handler) {
  std::shared_ptr<Acceptor> acceptor(new Acceptor(std::move(core), std::move(handler)));
  PERIGEE_ASSIGN(acceptor->loop_, acceptor->core_->NextLoop());
  PERIGEE_TRY(acceptor->Bind(address));
  return acceptor;
}

Status Acceptor::Bind(const SocketAddress& address) {
  struct Bound {
    Event done;
    std::optional<Status> status;
  };
  auto bound = std::make_shared<Bound>();
  bool posted = loop_->Post([self = shared_from_this(), address, bound] {
    auto on_request = [raw = self.get()](std::shared_ptr<ConnectionRequest> request) {
      raw->OnRequest(std::move(request));
    };
    auto socket = self->loop_->worker().Listen(address, on_request);
    bound->status = socket.status();
    if (socket.ok()) {
      self->socket_ = std::move(*socket);
      self->address_ = self->core_->provider() + ":" + self->socket_->address().ToString();
    }
    bound->done.Set();
  });
  if (!posted) return Status(Code::kCancelled, "the transport has stopped");
  bound->done.Wait();
  return *bound->status;
}

void Acceptor::OnRequest(std::shared_ptr<ConnectionRequest> request) {
  if (!core_->TakePlace()) {
    log::Warn("rdma_connection_refused",
              {{"why", "connections_max reached"}, {"provider", core_->provider()}});
    return socket_->Reject(request);
  }
  auto loop = core_->NextLoop();
  if (!loop.ok()) {
    core_->GivePlace();
    return socket_->Reject(request);
  }
  auto connection = std::make_shared<ServerConnection>(
      core_, *loop, handler_,
      [self = shared_from_this()](ServerConnection* closed) { self->Closed(closed); });
  {
    std::lock_guard lock(mu_);
    if (stopped_) {
      core_->GivePlace();
      return socket_->Reject(request);
    }
    connections_.insert(connection);
  }
  // A loop that has stopped took its worker, and the request, with it.
  (void)(*loop)->Run([connection, request] { connection->Open(request); });
}

void Acceptor::Closed(ServerConnection* connection) {
  core_->GivePlace();
  std::lock_guard lock(mu_);
  connections_.erase(connection->shared_from_this());
}

void Acceptor::Stop() {
  if (!core_->OwnProcess()) return;
  {
    std::lock_guard lock(mu_);
    if (std::exchange(stopped_, true)) return;
  }
  PERIGEE_CHECK(!loop_->OnLoopThread());
  // Requests on their way to other loops refer to the listener: they arrive first.
  core_->WaitForLoops();
  Event unbound;
  if (loop_->Post([&] {
        socket_.reset();
        unbound.Set();
      })) {
    unbound.Wait();
  }
  CloseAll(mu_, connections_);
}

}  // namespace perigee::rdma::rendezvous
