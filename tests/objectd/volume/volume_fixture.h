#pragma once
// A small cluster in one process: drives on a MemDisk, a MemStore, a ManualScheduler, and objects
// kept by commits.

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "objectd/kv/mem_store.h"
#include "objectd/volume/empty_dir.h"
#include "objectd/volume/liveness.h"
#include "objectd/volume/reference.h"
#include "objectd/volume/reference_keys.h"
#include "objectd/volume/volume_manager.h"

namespace perigee::objectd {

struct TestObject {
  std::string bytes;
  client::WrittenObject written;
  ContentOwner owner;
  wire::Layout layout() const {
    wire::Layout layout;
    layout.kind = wire::LayoutKind::kBlobs;
    layout.extents = written.extents;
    layout.list_id = written.list_id;
    return layout;
  }
};

struct Later {};  // the caller starts it

class TestVolumes {
 public:
  explicit TestVolumes(size_t drives = 6, uint32_t k = 4, uint32_t m = 2, uint64_t seed = 1)
      : TestVolumes(drives, k, m, seed, Later{}) {
    Start();
  }
  TestVolumes(size_t drives, uint32_t k, uint32_t m, uint64_t seed, Later)
      : scheduler_(ManualScheduler::Create(seed)) {
    MESSAGE("seed " << seed);
    for (size_t i = 1; i <= drives; i++) set_options.dirs.push_back("/d" + std::to_string(i));
    set_options.k = k;
    set_options.m = m;
    set_options.state_dir = "/state";
    set_options.drive.segment_bytes = 4 << 20;
    REQUIRE(disk->CreateDirs("/state").ok());
    auto pool = rdma::SlabPool::Create({.bytes_max = 128 << 20});
    REQUIRE(pool.ok());
    slabs = *pool;
  }
  ~TestVolumes() { Stop(); }

  Result<std::unique_ptr<DriveSet>> OpenSet() {
    return DriveSet::Open(
        set_options,
        {.disk = disk.get(), .pool = &scheduler(), .slabs = slabs, .metrics = metrics.get()});
  }
  void Start() {
    auto opened = OpenSet();
    REQUIRE_MESSAGE(opened.ok(), opened.status().ToString());
    drives = std::move(*opened);
    VolumeManagerDeps deps;
    if (transport != nullptr) {
      auto loaded = StorageNodes::Create(
          {},
          {.store = store.get(), .own = drives.get(), .transport = transport, .clock = &clock()});
      REQUIRE_MESSAGE(loaded.ok(), loaded.status().ToString());
      storage_nodes = std::move(*loaded);
      deps.nodes = storage_nodes.get();
      deps.node_name = "namespace";
    }
    deps.store = store.get();
    deps.drives = drives.get();
    deps.background = deps.shard_pool = &scheduler();
    deps.clock = &clock();
    deps.slabs = slabs;
    deps.metrics = metrics.get();
    auto created = VolumeManager::Create(options, deps);
    REQUIRE_MESSAGE(created.ok(), created.status().ToString());
    manager = std::move(*created);
    manager->Start();
  }
  void Stop() {
    if (storage_nodes) storage_nodes->Close();
    if (manager) manager->Stop();
    manager.reset();
    storage_nodes.reset();
    if (drives) drives->Stop();
    drives.reset();
  }
  void Restart() {
    Stop();
    Start();
  }

  ManualScheduler& scheduler() { return *scheduler_; }
  ManualClock& clock() { return scheduler_->manual_clock(); }
  client::Cluster& cluster() { return manager->cluster(); }
  VolumeTable& table() { return manager->table(); }

  client::BlobIoDeps Io() {
    client::BlobIoDeps io;
    io.cluster = &cluster();
    io.shard_pool = &scheduler();
    io.slabs = slabs;
    io.metrics = metrics.get();
    io.clock = &clock();
    io.node = node;
    io.incarnation = incarnation;
    return io;
  }
  // Blobs without a commit.
  Result<TestObject> WriteOnly(size_t bytes) {
    TestObject object;
    object.bytes.resize(bytes);
    random_.Fill(object.bytes.data(), bytes);
    object.owner = {next_file_++, 1};
    auto writer = client::BlobWriter::Create(Io(), {.size_hint = bytes});
    PERIGEE_TRY(writer->Append(AsBytes(object.bytes)));
    PERIGEE_ASSIGN(object.written, writer->Finish());
    return object;
  }
  Status Commit(const TestObject& object) {
    return store->RunDurable([&](kv::Transaction& txn) {
      return AcquireContent(txn, object.owner, object.written.extents, object.written.list_id,
                            object.written.intents);
    });
  }
  TestObject Write(size_t bytes) {
    auto object = WriteOnly(bytes);
    REQUIRE_MESSAGE(object.ok(), object.status().ToString());
    Status committed = Commit(*object);
    REQUIRE_MESSAGE(committed.ok(), committed.ToString());
    return std::move(*object);
  }
  void Release(const TestObject& object) {
    Status released = store->RunDurable([&](kv::Transaction& txn) {
      return ReleaseContent(txn, object.owner, object.written.extents, object.written.list_id,
                            clock().Wall());
    });
    REQUIRE_MESSAGE(released.ok(), released.ToString());
  }
  Status Read(const TestObject& object) {
    auto reader = client::BlobReader::Create(Io());
    std::string out(object.bytes.size(), '\0');
    PERIGEE_TRY(reader->Read(object.layout(), out.size(), 0,
                             {reinterpret_cast<uint8_t*>(out.data()), out.size()}));
    if (out != object.bytes) return Status(Code::kInternal, "WRONG BYTES");
    return Status::Ok();
  }
  bool Reads(const TestObject& object) {
    Status read = Read(object);
    if (!read.ok()) MESSAGE(read.ToString());
    return read.ok();
  }

  // Shards on all drives of one blob, as (drive id, index).
  std::set<std::pair<uint64_t, uint32_t>> ShardsOf(const wire::BlobId& blob) {
    std::set<std::pair<uint64_t, uint32_t>> found;
    for (const DriveSlot& slot : drives->Slots()) {
      if (!slot.drive || !slot.drive->online()) continue;
      auto shards = slot.drive->ListShards(blob, 64);
      REQUIRE(shards.ok());
      for (const auto& [id, index] : *shards)
        if (id == blob) found.insert({slot.drive_id, index});
    }
    return found;
  }
  static std::vector<wire::BlobId> BlobsOf(const TestObject& object) {
    std::vector<wire::BlobId> blobs;
    for (const wire::Extent& e : object.written.extents)
      for (uint64_t i = 0; i < e.count; i++) blobs.push_back({e.volume, e.first_seq + i});
    return blobs;
  }
  size_t ShardCount(const TestObject& object) {
    size_t n = 0;
    for (const wire::BlobId& blob : BlobsOf(object)) n += ShardsOf(blob).size();
    return n;
  }
  size_t DrivesOnline() {
    size_t n = 0;
    for (const DriveRecord& record : table().Drives())
      n += record.state == wire::DriveState::kOnline;
    return n;
  }
  bool RunUntilAllOnline(size_t n) {
    if (!scheduler().RunUntil([&] { return DrivesOnline() == n && table().Drives().size() == n; }))
      return false;
    // What a mirror keeper does; a MemStore has no mirrors to keep.
    auto slots = drives->Slots();
    for (size_t i = 0; i < drives->mirrors_wanted(); i++)
      REQUIRE(drives->Admit(slots[i].drive_id).ok());
    return true;
  }
  void Hide(size_t drive) {
    REQUIRE(disk->Rename(Dir(drive), "/hidden" + std::to_string(drive)).ok());
  }
  void Unhide(size_t drive) {
    REQUIRE(disk->Rename("/hidden" + std::to_string(drive), Dir(drive)).ok());
  }
  void Wipe(size_t drive) { REQUIRE(ClearTree(*disk, Dir(drive)).ok()); }
  static std::string Dir(size_t drive) { return "/d" + std::to_string(drive); }

  std::unique_ptr<MemDisk> disk = MemDisk::Create(1);
  std::unique_ptr<kv::MemStore> store = kv::MemStore::Create();
  std::unique_ptr<metrics::Registry> metrics = metrics::Registry::Create();
  std::shared_ptr<rdma::SlabPool> slabs;
  DriveSet::Options set_options;
  VolumeManagerOptions options;
  wire::NodeId node = 1;  // who writes
  uint64_t incarnation = 0;
  rdma::Transport* transport = nullptr;  // to other storage nodes
  std::unique_ptr<DriveSet> drives;
  std::unique_ptr<StorageNodes> storage_nodes;
  std::unique_ptr<VolumeManager> manager;

 private:
  std::unique_ptr<ManualScheduler> scheduler_;
  Random random_{42};
  uint64_t next_file_ = 100;
};

}  // namespace perigee::objectd
