#include "rdma/ucx/listen_socket.h"

#include <ucp/api/ucp.h>

#include <cstring>
#include <deque>
#include <utility>

#include "rdma/ucx/ucx_status.h"

namespace perigee::rdma::ucx {

struct UcxListenSocket::Shared : std::enable_shared_from_this<Shared> {
  UcxWorker* worker = nullptr;
  std::function<void(std::shared_ptr<ConnectionRequest>)> on_request;
  ucp_listener* listener = nullptr;
  std::deque<ucp_conn_request*> arrived;

  void Tell() {
    if (listener == nullptr || arrived.empty()) return;
    ucp_conn_request* request = arrived.front();
    arrived.pop_front();
    on_request(std::make_shared<UcxConnectionRequest>(request));
  }
  static void OnRequest(ucp_conn_request* request, void* arg) {
    auto* shared = static_cast<Shared*>(arg);
    shared->arrived.push_back(request);
    shared->worker->Defer([self = shared->shared_from_this()] { self->Tell(); });
  }
};

Result<std::unique_ptr<UcxListenSocket>> UcxListenSocket::Create(
    UcxWorker* worker, const SocketAddress& address,
    std::function<void(std::shared_ptr<ConnectionRequest>)> on_request) {
  std::unique_ptr<UcxListenSocket> out(new UcxListenSocket());
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

UcxListenSocket::~UcxListenSocket() {
  if (shared_->listener == nullptr) return;
  for (ucp_conn_request* request : std::exchange(shared_->arrived, {})) RejectRaw(request);
  ucp_listener_destroy(std::exchange(shared_->listener, nullptr));
}

void UcxListenSocket::Reject(std::shared_ptr<ConnectionRequest> request) {
  RejectRaw(static_cast<const UcxConnectionRequest&>(*request).raw);
}

void UcxListenSocket::RejectRaw(ucp_conn_request* request) {
  // Fails only when the peer has gone, and then UCX has freed the request as well.
  (void)ucp_listener_reject(shared_->listener, request);
}

}  // namespace perigee::rdma::ucx
