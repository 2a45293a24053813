#include "rdma/ofi/device.h"

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "rdma/ofi/ofi_status.h"

namespace perigee::rdma::ofi {

namespace {
constexpr size_t kTransmitsMax = 32;  // of one endpoint on their way
constexpr size_t kReceivesMax = 8;
// verbs does not notice when its queue overflows; tcp's grows.
constexpr size_t kQueueEntries = 1 << 15;
}  // namespace

Result<fid_eq*> OpenEventQueue(fid_fabric* fabric) {
  fi_eq_attr attr{};
  attr.wait_obj = FI_WAIT_FD;
  fid_eq* out = nullptr;
  PERIGEE_TRY(FromFi(fi_eq_open(fabric, &attr, &out, nullptr), "fi_eq_open"));
  return out;
}

long ReadEvent(fid_eq* queue, uint32_t* kind, void* out, size_t bytes) {
  // 1.17's tcp looks at errno also when a peer has closed, which sets none. An EAGAIN of somebody
  // else would make it wait for the peer's request for ever, and the queue be ready as long.
  errno = 0;
  return fi_eq_read(queue, kind, out, bytes, 0);
}

Device::Device(fid_fabric* fabric, const fi_info& info)
    : fabric_(fabric),
      terms_(info),
      transmits_(std::clamp<size_t>(terms_.transmits_max, 1, kTransmitsMax)),
      receives_(std::clamp<size_t>(terms_.receives_max, 1, kReceivesMax)) {}

Result<std::unique_ptr<Device>> Device::Open(fid_fabric* fabric, const fi_info& info,
                                             std::shared_ptr<SlabPool> pool) {
  std::unique_ptr<Device> out(new Device(fabric, info));
  InfoPtr copy(fi_dupinfo(&info));
  PERIGEE_TRY(FromFi(fi_domain(fabric, copy.get(), &out->domain_, nullptr), "fi_domain"));
  fi_cq_attr attr{};
  attr.size = kQueueEntries;
  attr.format = FI_CQ_FORMAT_MSG;
  attr.wait_obj = FI_WAIT_FD;
  PERIGEE_TRY(FromFi(fi_cq_open(out->domain_, &attr, &out->cq_, nullptr), "fi_cq_open"));
  PERIGEE_ASSIGN(out->eq_, OpenEventQueue(fabric));
  out->memory_ = std::make_unique<Memory>(out->domain_, out->terms_, std::move(pool));
  return out;
}

Device::~Device() {
  memory_.reset();
  if (cq_ != nullptr) fi_close(&cq_->fid);
  if (eq_ != nullptr) fi_close(&eq_->fid);
  if (domain_ != nullptr) fi_close(&domain_->fid);
}

Result<fid_ep*> Device::NewEndpoint(fi_info& info) {
  size_t needed = (endpoints_ + 1) * (transmits_ + receives_);
  if (terms_.provider != "tcp" && needed > kQueueEntries) {
    return Status(Code::kBusy, "as many connections as a completion queue has room for");
  }
  fid_ep* ep = nullptr;
  PERIGEE_TRY(FromFi(fi_endpoint(domain_, &info, &ep, nullptr), "fi_endpoint"));
  Status st = FromFi(fi_ep_bind(ep, &eq_->fid, 0), "fi_ep_bind");
  if (st.ok()) st = FromFi(fi_ep_bind(ep, &cq_->fid, FI_TRANSMIT | FI_RECV), "fi_ep_bind");
  if (st.ok()) st = FromFi(fi_enable(ep), "fi_enable");
  if (!st.ok()) {
    fi_close(&ep->fid);
    return st;
  }
  ++endpoints_;
  return ep;
}

}  // namespace perigee::rdma::ofi
