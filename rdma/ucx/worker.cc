#include "rdma/ucx/worker.h"

#include <ucp/api/ucp.h>

#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "rdma/rendezvous/frame.h"
#include "rdma/ucx/endpoint.h"
#include "rdma/ucx/listen_socket.h"
#include "rdma/ucx/ucx_status.h"

namespace perigee::rdma::ucx {

namespace {

constexpr Nanos kTeardownMax = 2 * kSecond;

ucs_status_t OnActiveMessage(void* arg, const void* head, size_t head_bytes, void* data,
                             size_t bytes, const ucp_am_recv_param_t* param) {
  // Eager data must be answered with UCS_OK whatever it is: anything else is an assertion in UCX.
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) == 0) return UCS_OK;
  auto* worker = static_cast<UcxWorker*>(arg);
  Arrival arrival;
  arrival.head.assign(static_cast<const char*>(head), head_bytes);
  arrival.bytes = bytes;
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) {
    auto announcement = std::make_unique<UcxAnnouncement>(worker->get(), data);
    UcxAnnouncement* raw = announcement.get();
    arrival.announced = std::move(announcement);
    if (worker->Note(param->reply_ep, &arrival)) return UCS_INPROGRESS;
    // Nobody has this endpoint any more: UCX drops the data by this UCS_OK.
    (void)raw->Take();
    return UCS_OK;
  }
  if (bytes <= rendezvous::kEagerBytesMax)
    arrival.data.assign(static_cast<const char*>(data), bytes);
  (void)worker->Note(param->reply_ep, &arrival);
  return UCS_OK;
}

}  // namespace

UcxAnnouncement::~UcxAnnouncement() {
  if (descriptor_ != nullptr) ucp_am_data_release(worker_, descriptor_);
}

void* UcxAnnouncement::Take() { return std::exchange(descriptor_, nullptr); }

Result<std::unique_ptr<UcxWorker>> UcxWorker::Create(std::shared_ptr<Context> context) {
  std::unique_ptr<UcxWorker> out(new UcxWorker(std::move(context)));
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SINGLE;
  PERIGEE_TRY(FromUcs(ucp_worker_create(out->context_->get(), &params, &out->worker_),
                      "ucp_worker_create"));
  PERIGEE_TRY(FromUcs(ucp_worker_get_efd(out->worker_, &out->event_fd_), "ucp_worker_get_efd"));
  ucp_worker_attr_t attr{};
  attr.field_mask = UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER;
  PERIGEE_TRY(FromUcs(ucp_worker_query(out->worker_, &attr), "ucp_worker_query"));
  if (attr.max_am_header < rendezvous::kFrameBytes + rendezvous::kBodyInHeadMax) {
    return Status(Code::kUnimplemented,
                  "UCX's message headers end at " + std::to_string(attr.max_am_header) + " bytes");
  }
  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                       UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = kActiveMessageId;
  handler.flags = UCP_AM_FLAG_WHOLE_MSG;
  handler.cb = OnActiveMessage;
  handler.arg = out.get();
  PERIGEE_TRY(FromUcs(ucp_worker_set_am_recv_handler(out->worker_, &handler),
                      "ucp_worker_set_am_recv_handler"));
  return out;
}

UcxWorker::~UcxWorker() {
  if (worker_ == nullptr) return;
  while (!endpoints_.empty()) {
    auto endpoint = endpoints_.begin()->second;
    endpoint->Close();
  }
  Nanos limit = RealClock::Get().Monotonic() + kTeardownMax;
  while (Progress() || (!retired_.empty() && RealClock::Get().Monotonic() < limit)) {
  }
  if (!retired_.empty()) log::Error("rdma_ucx_teardown", {{"endpoints", retired_.size()}});
  ucp_worker_destroy(worker_);
}

Result<std::shared_ptr<rendezvous::Endpoint>> UcxWorker::Connect(const SocketAddress& address,
                                                                 EndpointUser* user) {
  PERIGEE_ASSIGN(std::shared_ptr<rendezvous::Endpoint> made,
                 UcxEndpoint::Connect(this, address, user));
  return made;
}

Result<std::shared_ptr<rendezvous::Endpoint>> UcxWorker::Accept(
    std::shared_ptr<ConnectionRequest> request, EndpointUser* user) {
  auto* raw = static_cast<const UcxConnectionRequest&>(*request).raw;
  PERIGEE_ASSIGN(std::shared_ptr<rendezvous::Endpoint> made, UcxEndpoint::Accept(this, raw, user));
  return made;
}

Result<std::unique_ptr<ListenSocket>> UcxWorker::Listen(
    const SocketAddress& address,
    std::function<void(std::shared_ptr<ConnectionRequest>)> on_request) {
  PERIGEE_ASSIGN(std::unique_ptr<ListenSocket> made,
                 UcxListenSocket::Create(this, address, std::move(on_request)));
  return made;
}

bool UcxWorker::Progress() {
  bool any = ucp_worker_progress(worker_) != 0;
  while (!events_.empty()) {
    any = true;
    Event event = std::move(events_.front());
    events_.pop_front();
    if (event.fn) {
      event.fn();
    } else if (!event.failure.ok()) {
      event.endpoint->Fail(std::move(event.failure));
    } else {
      event.endpoint->Arrive(std::move(event.arrival));
    }
  }
  return any;
}

bool UcxWorker::Arm() {
  if (!events_.empty()) return false;
  ucs_status_t status = ucp_worker_arm(worker_);
  if (status == UCS_ERR_BUSY) return false;
  PERIGEE_CHECK(status == UCS_OK);
  return true;
}

void UcxWorker::Signal() {
  ucs_status_t status = ucp_worker_signal(worker_);
  PERIGEE_CHECK(status == UCS_OK);
}

void UcxWorker::Defer(std::function<void()> fn) {
  Event event;
  event.fn = std::move(fn);
  events_.push_back(std::move(event));
}

void UcxWorker::Add(ucp_ep* ep, const std::shared_ptr<UcxEndpoint>& endpoint) {
  endpoints_.emplace(ep, endpoint);
}

void UcxWorker::Retire(ucp_ep* ep, const std::shared_ptr<UcxEndpoint>& endpoint) {
  retired_.insert(endpoint);
  endpoints_.erase(ep);
}

bool UcxWorker::Note(ucp_ep* ep, Arrival* arrival) {
  auto it = endpoints_.find(ep);
  if (it == endpoints_.end()) return false;
  Event event;
  event.endpoint = it->second;
  event.arrival = std::move(*arrival);
  events_.push_back(std::move(event));
  return true;
}

void UcxWorker::NoteFailure(std::shared_ptr<UcxEndpoint> endpoint, Status why) {
  Event event;
  event.endpoint = std::move(endpoint);
  event.failure = std::move(why);
  events_.push_back(std::move(event));
}

}  // namespace perigee::rdma::ucx
