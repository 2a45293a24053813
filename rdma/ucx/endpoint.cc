#include "rdma/ucx/endpoint.h"

#include <ucp/api/ucp.h>

#include <cstdio>
#include <cstdlib>
#include <set>
#include <utility>

#include "rdma/rendezvous/frame.h"
#include "rdma/ucx/ucx_status.h"

namespace perigee::rdma::ucx {

namespace {

using rendezvous::kEagerBytesMax;
using rendezvous::Sending;

struct Pulling {
  std::shared_ptr<UcxEndpoint> endpoint;
  std::function<void(Status)> done;
};

void OnError(void* arg, ucp_ep*, ucs_status_t status) {
  static_cast<UcxEndpoint*>(arg)->NoteFailure(FromUcs(status, "ucx"));
}

void FinishSending(Sending* raw, ucs_status_t status) {
  std::unique_ptr<Sending> sending(raw);
  auto endpoint = std::static_pointer_cast<UcxEndpoint>(std::move(sending->endpoint));
  auto done = std::move(sending->done);
  sending.reset();
  endpoint->OperationDone(std::move(done), FromUcs(status, "ucx send"));
}

void OnSent(void* request, ucs_status_t status, void* user_data) {
  ucp_request_free(request);
  FinishSending(static_cast<Sending*>(user_data), status);
}

void FinishPulling(Pulling* raw, ucs_status_t status) {
  std::unique_ptr<Pulling> pulling(raw);
  pulling->endpoint->OperationDone(std::move(pulling->done), FromUcs(status, "ucx receive"));
}

void OnPulled(void* request, ucs_status_t status, size_t, void* user_data) {
  ucp_request_free(request);
  FinishPulling(static_cast<Pulling*>(user_data), status);
}

// UCX's three ways to answer: done without a callback, failed without a callback, or a callback.
template <class Op>
void Started(ucs_status_ptr_t answer, Op* op, void (*finish)(Op*, ucs_status_t)) {
  if (answer == nullptr) return finish(op, UCS_OK);
  if (UCS_PTR_IS_ERR(answer)) finish(op, UCS_PTR_STATUS(answer));
}

}  // namespace

Result<std::shared_ptr<UcxEndpoint>> UcxEndpoint::Create(UcxWorker* worker, EndpointUser* user,
                                                         void* raw_params) {
  std::shared_ptr<UcxEndpoint> out(new UcxEndpoint(worker, user));
  auto* params = static_cast<ucp_ep_params_t*>(raw_params);
  params->field_mask |= UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params->err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params->err_handler.cb = OnError;
  params->err_handler.arg = out.get();
  PERIGEE_TRY(FromUcs(ucp_ep_create(worker->get(), params, &out->ep_), "ucp_ep_create"));
  worker->Add(out->ep_, out);
  return out;
}

Result<std::shared_ptr<UcxEndpoint>> UcxEndpoint::Connect(UcxWorker* worker,
                                                          const SocketAddress& address,
                                                          EndpointUser* user) {
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR;
  params.flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER;
  params.sockaddr.addr = address.get();
  params.sockaddr.addrlen = address.length;
  return Create(worker, user, &params);
}

Result<std::shared_ptr<UcxEndpoint>> UcxEndpoint::Accept(UcxWorker* worker,
                                                         ucp_conn_request* request,
                                                         EndpointUser* user) {
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST;
  params.conn_request = request;
  return Create(worker, user, &params);
}

void UcxEndpoint::Send(std::unique_ptr<Sending> sending) {
  sending->endpoint = shared_from_this();
  ++operations_;
  Sending* op = sending.release();
  if (ep_ == nullptr || failed_) return FinishSending(op, UCS_ERR_NOT_CONNECTED);
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                       UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  param.cb.send = OnSent;
  param.user_data = op;
  param.memory_type = UCS_MEMORY_TYPE_HOST;
  param.flags = UCP_AM_SEND_FLAG_REPLY |
                (op->data.size() > kEagerBytesMax ? UCP_AM_SEND_FLAG_RNDV : UCP_AM_SEND_FLAG_EAGER);
  Started(ucp_am_send_nbx(ep_, kActiveMessageId, op->head.data(), op->head.size(), op->data.data(),
                          op->data.size(), &param),
          op, FinishSending);
}

void UcxEndpoint::Pull(rendezvous::Announced what, uint8_t* to, size_t bytes,
                       std::function<void(Status)> done) {
  ++operations_;
  auto* op = new Pulling{shared_from_this(), std::move(done)};
  if (ep_ == nullptr || failed_) return FinishPulling(op, UCS_ERR_NOT_CONNECTED);
  ucp_request_param_t param{};
  // Not UCP_OP_ATTR_FIELD_MEMH: a registered receive buffer is taken for another in 1.13.1.
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                       UCP_OP_ATTR_FIELD_MEMORY_TYPE | UCP_OP_ATTR_FLAG_NO_IMM_CMPL;
  param.cb.recv_am = OnPulled;
  param.user_data = op;
  param.memory_type = UCS_MEMORY_TYPE_HOST;
  Started(ucp_am_recv_data_nbx(worker_->get(), static_cast<UcxAnnouncement&>(*what).Take(), to,
                               bytes, &param),
          op, FinishPulling);
}

void UcxEndpoint::OperationDone(std::function<void(Status)> done, Status outcome) {
  --operations_;
  if (done) {
    outcome.Ignore();
    worker_->Defer([done = std::move(done), outcome = std::move(outcome)] { done(outcome); });
  } else {
    outcome.Ignore();  // a lost connection shows by itself
  }
  CheckSettled();
}

void UcxEndpoint::Arrive(Arrival arrival) {
  if (user_ != nullptr && !failed_) user_->OnArrival(std::move(arrival));
}

void UcxEndpoint::Fail(Status why) {
  why.Ignore();  // whoever has closed meanwhile knows enough
  if (std::exchange(failed_, true) || user_ == nullptr) return;
  user_->OnFailure(why);
}

void UcxEndpoint::Close() {
  user_ = nullptr;
  ucp_ep* ep = std::exchange(ep_, nullptr);
  if (ep == nullptr) return;
  auto self = shared_from_this();
  worker_->Retire(ep, self);
  ucp_request_param_t param{};
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  param.cb.send = [](void* request, ucs_status_t, void* user_data) {
    ucp_request_free(request);
    auto* endpoint = static_cast<UcxEndpoint*>(user_data);
    endpoint->closing_ = false;
    endpoint->CheckSettled();
  };
  param.user_data = this;
  closing_ = true;
  ucs_status_ptr_t answer = ucp_ep_close_nbx(ep, &param);
  if (answer == nullptr || UCS_PTR_IS_ERR(answer)) {
    closing_ = false;
    CheckSettled();
  }
}

void UcxEndpoint::CheckSettled() {
  if (ep_ == nullptr && !closing_ && operations_ == 0) worker_->Settled(shared_from_this());
}

std::string UcxEndpoint::Transports() const {
  if (ep_ == nullptr) return "";
  char* text = nullptr;
  size_t bytes = 0;
  FILE* out = open_memstream(&text, &bytes);
  if (out == nullptr) return "";
  ucp_ep_print_info(ep_, out);
  std::fclose(out);
  std::string info(text, bytes);
  std::free(text);
  // "lane[1]:  0:tcp/lo.0 md[0] ...": resource number, transport, device, sub-device.
  std::set<std::string> names;
  for (size_t at = info.find("lane["); at != std::string::npos; at = info.find("lane[", at + 1)) {
    std::string line = info.substr(at, info.find('\n', at) - at);
    size_t slash = line.find('/');
    size_t colon = slash == std::string::npos ? slash : line.rfind(':', slash);
    if (colon == std::string::npos) continue;
    std::string name = line.substr(colon + 1, line.find_first_of(" .", slash) - colon - 1);
    names.insert(name.ends_with("/memory") ? name.substr(0, name.size() - 7) : name);
  }
  std::string joined;
  for (const auto& name : names) joined += (joined.empty() ? "" : ", ") + name;
  return joined;
}

}  // namespace perigee::rdma::ucx
