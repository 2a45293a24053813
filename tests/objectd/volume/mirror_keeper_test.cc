// Mirrors on a real file system: the namespace gets back to M + 1 of them without waiting for a new
// drive.

#include "objectd/volume/mirror_keeper.h"

#include <filesystem>

#include "tests/objectd/volume/volume_fixture.h"

namespace perigee::objectd {
namespace {

namespace fs = std::filesystem;

struct Mirrored {
  Mirrored() : disk(CreatePosixDisk()) {
    std::string pattern = (fs::temp_directory_path() / "perigee-mirrors-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    root = pattern;
    for (int i = 1; i <= 6; i++) set_options.dirs.push_back(root + "/d" + std::to_string(i));
    set_options.state_dir = root;
    set_options.drive.segment_bytes = 1 << 20;
    auto pool = rdma::SlabPool::Create({.bytes_max = 16 << 20});
    REQUIRE(pool.ok());
    slabs = *pool;
    Open();
  }
  ~Mirrored() {
    Close();
    fs::remove_all(root);
  }
  void Open() {
    auto opened = DriveSet::Open(set_options, {.disk = disk.get(), .slabs = slabs});
    REQUIRE_MESSAGE(opened.ok(), opened.status().ToString());
    set = std::move(*opened);
    kv::RocksStoreOptions o;
    o.mirrors = set->MirrorPlaces();
    o.membership = set.get();
    o.create = set->formed_now();
    o.memory_bytes = 8 << 20;
    o.clock = &RealClock::Get();
    auto rocks = kv::RocksStore::Open(std::move(o));
    REQUIRE_MESSAGE(rocks.ok(), rocks.status().ToString());
    store = std::move(*rocks);
    auto created = VolumeTable::Create({}, store.get(), set.get(), &RealClock::Get());
    REQUIRE_MESSAGE(created.ok(), created.status().ToString());
    table = std::move(*created);
    REQUIRE(set->ConfirmFormed().ok());
  }
  void Close() {
    table.reset();
    if (store) store->Stop();
    store.reset();
    if (set) set->Stop();
    set.reset();
  }

  std::unique_ptr<Disk> disk;
  std::string root;
  std::shared_ptr<rdma::SlabPool> slabs;
  DriveSet::Options set_options;
  std::unique_ptr<DriveSet> set;
  std::unique_ptr<kv::RocksStore> store;
  std::unique_ptr<VolumeTable> table;
};

}  // namespace

TEST_CASE(
    "when a mirror's drive goes, another drive gets the mirror, and a start without the first "
    "finds everything") {
  Mirrored m;
  MirrorKeeper keeper(m.store.get(), m.set.get(), m.table.get());
  REQUIRE(keeper.RunOnce().ok());
  CHECK(m.store->InSync().size() == 3);
  auto lease = m.table->Lease({});
  REQUIRE(lease.ok());

  const DriveSlot first = m.set->Slots()[0];
  first.drive->SetOffline("test");
  Status kept = keeper.RunOnce();
  REQUIRE_MESSAGE(kept.ok(), kept.ToString());
  std::vector<uint64_t> in_sync = m.store->InSync();
  CHECK(in_sync.size() == 3);
  CHECK(std::count(in_sync.begin(), in_sync.end(), first.drive_id) == 0);
  std::vector<uint64_t> recorded = m.set->MirrorIds();
  std::sort(recorded.begin(), recorded.end());
  std::sort(in_sync.begin(), in_sync.end());
  CHECK(recorded == in_sync);

  // The other two first mirrors go too: only the new one is left.
  const std::string second = m.set->Slots()[1].dir, third = m.set->Slots()[2].dir;
  m.Close();
  for (const std::string& dir : {second, third}) fs::rename(dir, dir + ".away");
  m.Open();
  auto rows = LeasedRanges::Read(*m.store);
  REQUIRE(rows.ok());
  CHECK(rows->Covers(lease->volume.volume, lease->first_seq));
  CHECK(m.table->Volumes().size() == 6);
}

}  // namespace perigee::objectd
