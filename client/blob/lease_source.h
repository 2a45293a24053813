#pragma once
// LeaseSource: places for an object's blobs, from leases of sequences that grow with the object.
// Belongs to one writer.

#include "base/clock.h"
#include "client/blob/blob_io.h"

namespace perigee::client {

struct BlobPlace {
  wire::VolumeInfo volume;
  uint64_t seq = 0;
  uint64_t intent = 0;
};

class LeaseSource {
 public:
  explicit LeaseSource(const BlobIoDeps& deps);
  // For the next blob in order. `blobs_left` is how many will follow with it; 0: unknown.
  Result<BlobPlace> Next(uint64_t blobs_left);
  // For one blob that `failed` could not take; another volume, where the cluster has one.
  Result<BlobPlace> Elsewhere(uint32_t failed);
  // All leases taken here: see GivenUpLeases.
  void GiveUp();
  // Those that are not among `used`: of blobs that went elsewhere.
  void GiveUpBut(const std::vector<uint64_t>& used);

 private:
  Result<wire::LeaseReply> Lease(uint32_t count);

  Cluster* const cluster_;
  Clock* const clock_;
  const wire::NodeId node_;
  const uint64_t incarnation_;
  const std::shared_ptr<GivenUpLeases> given_up_;
  std::vector<uint64_t> intents_;  // leased
  uint64_t spread_;
  uint32_t next_count_ = 1;
  wire::LeaseReply lease_;
  uint32_t used_ = 0;  // of lease_
};

// Those that wait in `given_up`, by lease requests for no blobs. Nothing is asked when there are
// none.
Status ReturnGivenUp(Cluster& cluster, GivenUpLeases& given_up, wire::NodeId node,
                     uint64_t incarnation);

}  // namespace perigee::client
