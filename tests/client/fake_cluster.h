#pragma once
// FakeCluster: a Cluster in memory, with the faults that blob writers and readers must live with.
// Thread-safe, but for the knobs: set them while nothing runs.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "base/event.h"
#include "base/random.h"
#include "client/blob/shard_io.h"
#include "tests/rdma/lent_piece.h"

namespace perigee::client {

class FakeCluster final : public Cluster {
 public:
  struct Stored {
    wire::ShardHeader header;
    std::vector<uint8_t> bytes;
  };
  using ShardKey = std::tuple<uint64_t, uint32_t, uint64_t, uint32_t>;  // drive, volume, seq, index

  explicit FakeCluster(std::shared_ptr<rdma::SlabPool> slabs) : slabs_(std::move(slabs)) {}

  // Drive ids count from 1. Returns the volume's number.
  uint32_t AddVolume(uint32_t k, uint32_t m) {
    wire::VolumeInfo v;
    v.volume = static_cast<uint32_t>(map_.volumes.size()) + 1;
    v.k = k;
    v.m = m;
    for (uint32_t i = 0; i < k + m; ++i) {
      wire::DriveInfo d;
      d.drive_id = map_.drives.size() + 1;
      v.drives.push_back(d.drive_id);
      map_.drives.push_back(d);
    }
    map_.volumes.push_back(v);
    ++map_.epoch;
    return v.volume;
  }
  uint64_t DriveOf(uint32_t volume, uint32_t index) { return map_.Find(volume)->drives[index]; }
  void SetWritable(uint32_t volume, bool writable) {
    for (auto& v : map_.volumes) {
      if (v.volume == volume) v.writable = writable;
    }
  }

  // Faults. `recorded`: the map says so at once; else from the next time a newer map is asked for.
  enum class Notice { kRecorded, kOnRefresh, kNever };
  void LoseDrive(uint64_t drive, wire::DriveState state, Notice notice) {
    away_.insert(drive);
    if (notice == Notice::kRecorded) Record(drive, state);
    if (notice == Notice::kOnRefresh) unrecorded_.push_back({drive, state});
  }
  void SwapDrive(uint32_t volume, uint32_t index,
                 uint64_t to) {  // as repair does; unseen until refresh
    swaps_.push_back([this, volume, index, to] {
      for (auto& v : map_.volumes) {
        if (v.volume == volume) v.drives[index] = to;
      }
    });
  }
  uint64_t AddDrive() {
    wire::DriveInfo d;
    d.drive_id = map_.drives.size() + 1;
    map_.drives.push_back(d);
    return d.drive_id;
  }
  void RefuseWrites(uint64_t drive, Code code, int times) { refuse_[drive] = {code, times}; }
  void FailReads(uint64_t drive, Code code) { read_codes_[drive] = code; }
  void SlowReads(uint64_t drive, Nanos by) { read_delays_[drive] = by; }
  int ReadsUnderWay(uint64_t drive) {
    std::lock_guard lock(mu_);
    return reading_[drive];
  }
  Stored* Find(uint32_t volume, uint64_t seq, uint32_t index) {
    auto it = shards_.find({DriveOf(volume, index), volume, seq, index});
    return it == shards_.end() ? nullptr : &it->second;
  }
  void MoveShard(uint32_t volume, uint64_t seq, uint32_t index, uint64_t to) {
    auto node = shards_.extract(ShardKey{DriveOf(volume, index), volume, seq, index});
    node.key() = {to, volume, seq, index};
    shards_.insert(std::move(node));
  }
  void DropShard(uint32_t volume, uint64_t seq, uint32_t index) {
    shards_.erase({DriveOf(volume, index), volume, seq, index});
  }
  void FlipBit(uint32_t volume, uint64_t seq, uint32_t index, uint64_t byte) {
    Find(volume, seq, index)->bytes[byte] ^= 0x10;
  }
  // Writes wait until released.
  void HoldWrites(bool hold) {
    std::lock_guard lock(mu_);
    held_ = hold;
    released_.NotifyAll();
  }
  size_t WritesHeld() {
    std::lock_guard lock(mu_);
    return writes_held_;
  }
  void ForgetLists(bool begins_only) { begins_only_ = begins_only; }

  // What happened.
  struct Counts {
    int map_refreshes = 0, leases = 0, writes = 0, reads = 0, add_extents = 0;
    uint64_t bytes_read = 0;
    uint32_t lease_blobs = 0;
  };
  Counts counts;
  std::vector<wire::VolumeReportRequest> reports;
  std::vector<wire::ShardReadRequest> read_requests;
  std::set<uint64_t> withdrawn;  // drives whose bytes are lent, and taken back at once
  std::vector<wire::LeaseRequest> lease_requests;
  std::map<uint64_t, std::vector<wire::Extent>> lists;
  std::map<uint64_t, std::set<uint64_t>> list_intents;
  std::map<ShardKey, Stored> shards_;
  uint32_t lease_max = ~0u;
  int64_t lease_expires = 0;
  bool discard_writes = false;  // for benchmarks of what comes before the drive

  // Cluster.
  Result<std::shared_ptr<const VolumeMap>> Map(uint64_t not_older_than) override {
    std::lock_guard lock(mu_);
    if (not_older_than > map_.epoch) {
      ++counts.map_refreshes;
      for (auto& [drive, state] : unrecorded_) Record(drive, state);
      unrecorded_.clear();
      for (auto& swap : swaps_) {
        swap();
        ++map_.epoch;
      }
      swaps_.clear();
    }
    return std::make_shared<const VolumeMap>(map_);
  }
  Result<wire::LeaseReply> Lease(const wire::LeaseRequest& request) override {
    std::lock_guard lock(mu_);
    ++counts.leases;
    lease_requests.push_back(request);
    std::vector<wire::VolumeInfo*> writable;
    for (auto& v : map_.volumes) {
      if (v.writable) writable.push_back(&v);
    }
    if (writable.empty()) return Status(Code::kUnavailable, "no writable volume");
    wire::LeaseReply reply;
    reply.volume = *writable[request.spread % writable.size()];
    reply.count = std::min(request.count, lease_max);
    reply.intent = ++last_intent_;
    reply.first_seq = next_seq_[reply.volume.volume] + 1;
    reply.expires = lease_expires;
    next_seq_[reply.volume.volume] += reply.count;
    counts.lease_blobs += reply.count;
    return reply;
  }
  Result<uint64_t> AddExtents(const wire::AddExtentsRequest& request) override {
    std::lock_guard lock(mu_);
    ++counts.add_extents;
    uint64_t id = request.list_id ? request.list_id : ++last_list_;
    auto& list = lists[id];
    list.insert(list.end(), request.extents.begin(), request.extents.end());
    list_intents[id].insert(request.intents.begin(), request.intents.end());
    return id;
  }
  Result<wire::GetExtentsReply> GetExtents(const wire::GetExtentsRequest& request) override {
    std::lock_guard lock(mu_);
    wire::GetExtentsReply reply;
    for (const wire::Extent& e : lists[request.list_id]) {
      uint64_t key = begins_only_ ? e.offset : e.offset + e.length - 1;
      if (key < request.offset) continue;
      if (reply.extents.size() == std::min<size_t>(request.limit, 7)) return reply;
      reply.extents.push_back(e);
    }
    reply.end = true;
    return reply;
  }
  Status WriteShard(uint64_t drive, const wire::ShardHeader& header, ConstBytes bytes,
                    std::shared_ptr<const void> = nullptr) override {
    std::unique_lock lock(mu_);
    ++counts.writes;
    ++writes_held_;
    released_.Wait(lock, [&] { return !held_; });
    --writes_held_;
    auto refused = refuse_.find(drive);
    if (refused != refuse_.end() && refused->second.second > 0) {
      --refused->second.second;
      return Status(refused->second.first, "refused by the test");
    }
    if (away_.contains(drive)) return Status(Code::kUnavailable, "the drive is away");
    if (discard_writes) return Status::Ok();
    shards_[{drive, header.blob.volume, header.blob.seq, header.index}] = {
        header, {bytes.begin(), bytes.end()}};
    return Status::Ok();
  }
  Result<ShardData> ReadShard(const wire::ShardReadRequest& request) override {
    std::unique_lock lock(mu_);
    ++counts.reads;
    counts.bytes_read += request.length;
    read_requests.push_back(request);
    if (auto slow = read_delays_.find(request.drive_id); slow != read_delays_.end()) {
      const Nanos by = slow->second;
      ++reading_[request.drive_id];
      lock.unlock();
      Event().WaitFor(by);
      lock.lock();
      --reading_[request.drive_id];
    }
    auto code = read_codes_.find(request.drive_id);
    if (code != read_codes_.end()) return Status(code->second, "refused by the test");
    if (away_.contains(request.drive_id)) return Status(Code::kUnavailable, "the drive is away");
    auto it =
        shards_.find({request.drive_id, request.blob.volume, request.blob.seq, request.index});
    if (it == shards_.end()) return Status(Code::kNotFound, "no such shard");
    ShardData data;
    data.header = it->second.header;
    std::vector<uint8_t>& bytes = it->second.bytes;
    if (request.length == 0 || request.offset >= bytes.size()) return data;
    size_t n = std::min<size_t>(request.length, bytes.size() - request.offset);
    lock.unlock();
    if (withdrawn.contains(request.drive_id)) {
      auto lender = std::make_shared<rdma::TestLender>(std::vector<uint8_t>(n, 0xee));
      data.bytes = lender->Lend();
      lender->Withdraw();
      return data;
    }
    PERIGEE_ASSIGN(data.bytes, slabs_->Allocate(n, 10 * kSecond));
    std::memcpy(data.bytes.data(), bytes.data() + request.offset, n);
    return data;
  }
  void Report(const wire::VolumeReportRequest& request) override {
    std::lock_guard lock(mu_);
    reports.push_back(request);
  }

 private:
  void Record(uint64_t drive, wire::DriveState state) {
    for (auto& d : map_.drives) {
      if (d.drive_id == drive) d.state = state;
    }
    ++map_.epoch;
  }

  const std::shared_ptr<rdma::SlabPool> slabs_;
  std::mutex mu_;
  CondVar released_;
  bool held_ = false;
  size_t writes_held_ = 0;
  VolumeMap map_;
  std::set<uint64_t> away_;
  std::vector<std::pair<uint64_t, wire::DriveState>> unrecorded_;
  std::vector<std::function<void()>> swaps_;
  std::map<uint64_t, std::pair<Code, int>> refuse_;
  std::map<uint64_t, Code> read_codes_;
  std::map<uint64_t, Nanos> read_delays_;
  std::map<uint64_t, int> reading_;
  std::map<uint32_t, uint64_t> next_seq_;
  uint64_t last_intent_ = 100, last_list_ = 0;
  bool begins_only_ = false;
};

}  // namespace perigee::client
