#include "client/blob/lease_source.h"

#include <algorithm>

#include "client/ec/erasure_code.h"

namespace perigee::client {

namespace {

constexpr uint32_t kLeaseBlobsMax = 64;
constexpr Nanos kExpiryMargin = 60 * kSecond;  // a lease about to expire takes no more blobs
constexpr int kOtherVolumeTries = 4;

// splitmix64's mixing step: neighbouring seeds give unrelated volumes.
uint64_t Mix(uint64_t v) {
  v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9;
  v = (v ^ (v >> 27)) * 0x94d049bb133111eb;
  return v ^ (v >> 31);
}

}  // namespace

LeaseSource::LeaseSource(Cluster* cluster, Clock* clock, wire::NodeId node)
    : cluster_(cluster),
      clock_(clock),
      node_(node),
      spread_(Mix(static_cast<uint64_t>(clock->Monotonic()) ^ Mix(node + 1))) {}

Result<wire::LeaseReply> LeaseSource::Lease(uint32_t count) {
  wire::LeaseRequest request;
  request.count = count;
  request.node = node_;
  request.spread = spread_ = Mix(spread_ + 1);
  PERIGEE_ASSIGN(wire::LeaseReply lease, cluster_->Lease(request));
  const wire::VolumeInfo& v = lease.volume;
  bool sane = v.k >= 1 && v.k <= kDataShardsMax && v.m <= kParityShardsMax &&
              v.drives.size() == v.k + v.m && lease.count >= 1;
  if (!sane) return Status(Code::kCorrupt, "a lease without sequences or with an odd volume");
  return lease;
}

Result<BlobPlace> LeaseSource::Next(uint64_t blobs_left) {
  bool expiring = lease_.expires != 0 && lease_.expires - clock_->Wall() < kExpiryMargin;
  if (used_ == lease_.count || expiring) {
    uint64_t count = blobs_left > 0 ? blobs_left : next_count_;
    next_count_ = std::min(next_count_ * 2, kLeaseBlobsMax);
    PERIGEE_ASSIGN(lease_, Lease(static_cast<uint32_t>(std::min<uint64_t>(count, kLeaseBlobsMax))));
    used_ = 0;
  }
  return BlobPlace{lease_.volume, lease_.first_seq + used_++, lease_.intent};
}

Result<BlobPlace> LeaseSource::Elsewhere(uint32_t failed) {
  if (lease_.volume.volume == failed) used_ = lease_.count;
  wire::LeaseReply lease;
  for (int i = 0; i < kOtherVolumeTries; ++i) {
    PERIGEE_ASSIGN(lease, Lease(1));
    if (lease.volume.volume != failed) break;
  }
  return BlobPlace{lease.volume, lease.first_seq, lease.intent};
}

}  // namespace perigee::client
