#pragma once
// Device: one loop's domain of a fabric, with its queues and memory. A domain of its own for each
// loop: libfabric 1.17 locks registrations wrongly (fixed in 1.18.2), and no key is good for
// another loop's connections. Loop-bound.

#include <memory>
#include <string>

#include "rdma/ofi/fabric.h"
#include "rdma/ofi/memory.h"

struct fid_cq;
struct fid_domain;
struct fid_ep;
struct fid_eq;
struct fid_fabric;

namespace perigee::rdma::ofi {

class Device {
 public:
  static Result<std::unique_ptr<Device>> Open(fid_fabric* fabric, const fi_info& info,
                                              std::shared_ptr<SlabPool> pool);
  // Its endpoints are closed.
  ~Device();

  // A new endpoint that tells this device's queues. kBusy: as many as those have room for.
  Result<fid_ep*> NewEndpoint(fi_info& info);
  void EndpointClosed() { --endpoints_; }
  // Completions of one endpoint at a time that the queue has room for.
  size_t transmits() const { return transmits_; }
  size_t receives() const { return receives_; }

  const Terms& terms() const { return terms_; }
  Memory& memory() { return *memory_; }
  fid_fabric* fabric() const { return fabric_; }
  fid_cq* cq() const { return cq_; }
  fid_eq* eq() const { return eq_; }

 private:
  Device(fid_fabric* fabric, const fi_info& info);

  fid_fabric* const fabric_;
  const Terms terms_;
  const size_t transmits_, receives_;
  fid_domain* domain_ = nullptr;
  fid_cq* cq_ = nullptr;
  fid_eq* eq_ = nullptr;
  std::unique_ptr<Memory> memory_;
  size_t endpoints_ = 0;
};

// An event queue with a descriptor to wait for.
Result<fid_eq*> OpenEventQueue(fid_fabric* fabric);
// fi_eq_read.
long ReadEvent(fid_eq* queue, uint32_t* kind, void* out, size_t bytes);

}  // namespace perigee::rdma::ofi
