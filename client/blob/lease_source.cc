#include "client/blob/lease_source.h"

#include <algorithm>

#include "client/ec/erasure_code.h"

namespace perigee::client {

namespace {

constexpr uint32_t kLeaseBlobsMax = 64;
constexpr Nanos kExpiryMargin = 60 * kSecond;  // a lease about to expire takes no more blobs
constexpr int kOtherVolumeTries = 4;
constexpr size_t kGivenUpPerLease = 128;

// splitmix64's mixing step: neighbouring seeds give unrelated volumes.
uint64_t Mix(uint64_t v) {
  v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9;
  v = (v ^ (v >> 27)) * 0x94d049bb133111eb;
  return v ^ (v >> 31);
}

}  // namespace

LeaseSource::LeaseSource(const BlobIoDeps& deps)
    : cluster_(deps.cluster),
      clock_(deps.clock),
      node_(deps.node),
      incarnation_(deps.incarnation),
      given_up_(deps.given_up),
      spread_(Mix(static_cast<uint64_t>(deps.clock->Monotonic()) ^ Mix(deps.node + 1))) {}

void LeaseSource::GiveUp() {
  if (given_up_) given_up_->Add(intents_);
  intents_.clear();
}

void LeaseSource::GiveUpBut(const std::vector<uint64_t>& used) {
  auto unused = std::partition(intents_.begin(), intents_.end(), [&](uint64_t intent) {
    return std::find(used.begin(), used.end(), intent) != used.end();
  });
  if (given_up_) given_up_->Add({unused, intents_.end()});
  intents_.erase(unused, intents_.end());
}

Result<wire::LeaseReply> LeaseSource::Lease(uint32_t count) {
  wire::LeaseRequest request;
  request.count = count;
  request.node = node_;
  request.spread = spread_ = Mix(spread_ + 1);
  request.incarnation = incarnation_;
  if (given_up_) request.given_up = given_up_->Take(kGivenUpPerLease);
  auto leased = cluster_->Lease(request);
  if (!leased.ok()) {
    if (given_up_) given_up_->Add(request.given_up);
    return std::move(leased).TakeStatus();
  }
  wire::LeaseReply lease = std::move(leased).value();
  intents_.push_back(lease.intent);
  const wire::VolumeInfo& v = lease.volume;
  bool sane = v.k >= 1 && v.k <= kDataShardsMax && v.m <= kParityShardsMax &&
              v.drives.size() == v.k + v.m && lease.count >= 1;
  if (!sane) return Status(Code::kCorrupt, "a lease without sequences or with an odd volume");
  return lease;
}

Status ReturnGivenUp(Cluster& cluster, GivenUpLeases& given_up, wire::NodeId node,
                     uint64_t incarnation) {
  while (true) {
    wire::LeaseRequest request;
    request.count = 0;
    request.node = node;
    request.incarnation = incarnation;
    request.given_up = given_up.Take(kGivenUpPerLease);
    if (request.given_up.empty()) return Status::Ok();
    auto returned = cluster.Lease(request);
    if (returned.ok()) continue;
    given_up.Add(request.given_up);
    return std::move(returned).TakeStatus();
  }
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
