#include "rdma/ucx/listen_socket.h"

#include <ucp/api/ucp.h>

#include <cstring>
#include <deque>
#include <utility>

#include "rdma/ucx/ucx_status.h"

namespace perigee::rdma::ucx {

struct ListenSocket::Shared : std::enable_shared_from_this<Shared> {
  Worker* worker = nullptr;
  std::function<void(ucp_conn_request*)> on_request;
  ucp_listener* listener = nullptr;
  std::deque<ucp_conn_request*> arrived;

  void Tell() {
    if (listener == nullptr || arrived.empty()) return;
    ucp_conn_request* request = arrived.front();
    arrived.pop_front();
    on_request(request);
  }
  static void OnRequest(ucp_conn_request* request, void* arg) {
    auto* shared = static_cast<Shared*>(arg);
    shared->arrived.push_back(request);
    shared->worker->Defer([self = shared->shared_from_this()] { self->Tell(); });
  }
};

Result<std::unique_ptr<ListenSocket>> ListenSocket::Create(
    Worker* worker, const SocketAddress& address,
    std::function<void(ucp_conn_request*)> on_request) {
  std::unique_ptr<ListenSocket> out(new ListenSocket());
  out->shared_ = std::make_shared<Shared>();
  out->shared_->worker = worker;
  out->shared_->on_request = std::move(on_request);
  ucp_listener_params_t params{};
  params.field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER;
  params.sockaddr.addr = address.get();
  params.sockaddr.addrlen = address.length;
  params.conn_handler.cb = Shared::OnRequest;
  params.conn_handler.arg = out->shared_.get();
  PERIGEE_TRY(FromUcs(ucp_listener_create(worker->get(), &params, &out->shared_->listener),
                      "listen on " + address.ToString()));
  ucp_listener_attr_t attr{};
  attr.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR;
  PERIGEE_TRY(FromUcs(ucp_listener_query(out->shared_->listener, &attr), "ucp_listener_query"));
  std::memcpy(&out->address_.storage, &attr.sockaddr, sizeof attr.sockaddr);
  out->address_.length = address.length;
  return out;
}

ListenSocket::~ListenSocket() {
  if (shared_->listener == nullptr) return;
  for (ucp_conn_request* request : std::exchange(shared_->arrived, {})) Reject(request);
  ucp_listener_destroy(std::exchange(shared_->listener, nullptr));
}

void ListenSocket::Reject(ucp_conn_request* request) {
  // Fails only when the peer has gone, and then UCX has freed the request as well.
  (void)ucp_listener_reject(shared_->listener, request);
}

}  // namespace perigee::rdma::ucx
