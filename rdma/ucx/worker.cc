#include "rdma/ucx/worker.h"

#include <ucp/api/ucp.h>

#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "rdma/ucx/endpoint.h"
#include "rdma/ucx/frame.h"
#include "rdma/ucx/ucx_status.h"

namespace perigee::rdma::ucx {

namespace {

constexpr Nanos kTeardownMax = 2 * kSecond;

ucs_status_t OnActiveMessage(void* arg, const void* head, size_t head_bytes, void* data,
                             size_t bytes, const ucp_am_recv_param_t* param) {
  // Eager data must be answered with UCS_OK whatever it is: anything else is an assertion in UCX.
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) == 0) return UCS_OK;
  auto* worker = static_cast<Worker*>(arg);
  Arrival arrival;
  arrival.head.assign(static_cast<const char*>(head), head_bytes);
  arrival.bytes = bytes;
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) {
    arrival.announced = Announced(worker->get(), data);
    // Unknown endpoint: `arrival` still owns the descriptor, and UCX drops it by this UCS_OK.
    if (worker->Note(param->reply_ep, std::move(arrival))) return UCS_INPROGRESS;
    return UCS_OK;
  }
  if (bytes <= kEagerBytesMax) arrival.data.assign(static_cast<const char*>(data), bytes);
  (void)worker->Note(param->reply_ep, std::move(arrival));
  return UCS_OK;
}

}  // namespace

Announced::Announced(Announced&& o) noexcept
    : worker_(o.worker_), descriptor_(std::exchange(o.descriptor_, nullptr)) {}

Announced& Announced::operator=(Announced&& o) noexcept {
  if (this != &o) {
    Release();
    worker_ = o.worker_;
    descriptor_ = std::exchange(o.descriptor_, nullptr);
  }
  return *this;
}

void Announced::Release() {
  if (void* descriptor = Take()) ucp_am_data_release(worker_, descriptor);
}

void* Announced::Take() { return std::exchange(descriptor_, nullptr); }

Result<std::unique_ptr<Worker>> Worker::Create(std::shared_ptr<Context> context) {
  std::unique_ptr<Worker> out(new Worker(std::move(context)));
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SINGLE;
  PERIGEE_TRY(FromUcs(ucp_worker_create(out->context_->get(), &params, &out->worker_),
                      "ucp_worker_create"));
  PERIGEE_TRY(FromUcs(ucp_worker_get_efd(out->worker_, &out->event_fd_), "ucp_worker_get_efd"));
  ucp_worker_attr_t attr{};
  attr.field_mask = UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER;
  PERIGEE_TRY(FromUcs(ucp_worker_query(out->worker_, &attr), "ucp_worker_query"));
  if (attr.max_am_header < kFrameBytes + kBodyInHeadMax) {
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

Worker::~Worker() {
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

bool Worker::Progress() {
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

bool Worker::Arm() {
  if (!events_.empty()) return false;
  ucs_status_t status = ucp_worker_arm(worker_);
  if (status == UCS_ERR_BUSY) return false;
  PERIGEE_CHECK(status == UCS_OK);
  return true;
}

void Worker::Signal() {
  ucs_status_t status = ucp_worker_signal(worker_);
  PERIGEE_CHECK(status == UCS_OK);
}

void Worker::Defer(std::function<void()> fn) {
  Event event;
  event.fn = std::move(fn);
  events_.push_back(std::move(event));
}

void Worker::Add(ucp_ep* ep, const std::shared_ptr<Endpoint>& endpoint) {
  endpoints_.emplace(ep, endpoint);
}

void Worker::Retire(ucp_ep* ep, const std::shared_ptr<Endpoint>& endpoint) {
  retired_.insert(endpoint);
  endpoints_.erase(ep);
}

bool Worker::Note(ucp_ep* ep, Arrival arrival) {
  auto it = endpoints_.find(ep);
  if (it == endpoints_.end()) {
    (void)arrival.announced.Take();
    return false;
  }
  Event event;
  event.endpoint = it->second;
  event.arrival = std::move(arrival);
  events_.push_back(std::move(event));
  return true;
}

void Worker::NoteFailure(std::shared_ptr<Endpoint> endpoint, Status why) {
  Event event;
  event.endpoint = std::move(endpoint);
  event.failure = std::move(why);
  events_.push_back(std::move(event));
}

}  // namespace perigee::rdma::ucx
