#include "objectd/volume/drive_set.h"

#include <future>

#include "base/checksum.h"
#include "base/event.h"
#include "base/failpoint.h"
#include "tests/objectd/volume/volume_fixture.h"

namespace perigee::objectd {
namespace {

struct Set {
  explicit Set(size_t n = 6) {
    for (size_t i = 1; i <= n; i++) options.dirs.push_back("/d" + std::to_string(i));
    options.state_dir = "/state";
    options.drive.segment_bytes = 1 << 20;
    REQUIRE(disk->CreateDirs("/state").ok());
    auto pool = rdma::SlabPool::Create({.bytes_max = 16 << 20});
    REQUIRE(pool.ok());
    slabs = *pool;
  }
  Result<std::unique_ptr<DriveSet>> TryOpen() {
    return DriveSet::Open(options, {.disk = disk.get(), .slabs = slabs, .watch = watch});
  }
  // From now on; to be let go before the set ends.
  void Hang(const std::vector<std::string>& dirs) {
    watch = std::make_shared<DriveWatch>();
    disk->SetFault([this, dirs](std::string_view, const std::string& path) {
      for (const std::string& dir : dirs)
        if (path.starts_with(dir)) let_go.Wait();
      return Status::Ok();
    });
  }
  ~Set() { let_go.Set(); }
  void Open() {
    set.reset();
    auto opened = TryOpen();
    REQUIRE_MESSAGE(opened.ok(), opened.status().ToString());
    set = std::move(*opened);
    REQUIRE(set->ConfirmFormed().ok());
  }
  Status OpenFails() {  // ok when it does not
    set.reset();
    auto opened = TryOpen();
    if (opened.ok()) return Status::Ok();
    return std::move(opened).TakeStatus();
  }
  std::unique_ptr<MemDisk> disk = MemDisk::Create(1);
  std::shared_ptr<rdma::SlabPool> slabs;
  DriveSet::Options options;
  std::shared_ptr<DriveWatch> watch;  // null: all is done on one thread
  Event let_go;
  std::unique_ptr<DriveSet> set;
};

}  // namespace

TEST_CASE("a new cluster is formed once, and found again") {
  Set s;
  s.Open();
  CHECK(s.set->formed_now());
  CHECK(s.set->k() == 4);
  CHECK(s.set->m() == 2);
  uint64_t cluster = s.set->cluster_id();
  CHECK(s.set->MirrorPlaces().size() == 3);
  CHECK(s.set->MirrorPlaces()[0].dir == "/d1/meta");
  s.Open();
  CHECK_FALSE(s.set->formed_now());
  CHECK(s.set->cluster_id() == cluster);
}

TEST_CASE("a directory that holds something is never formatted") {
  Set s;
  REQUIRE(s.disk->CreateDirs("/d4/photos").ok());
  Status refused = s.OpenFails();
  CHECK(refused.Is(Code::kPreconditionFailed));
  CHECK(refused.message().find("/d4") != std::string::npos);
  CHECK(ReadSuperblock(*s.disk, "/d1").code() == Code::kNotFound);
}

TEST_CASE("drives whose devices do not answer are lost until they do") {
  Set s;
  s.options.patience = {.superblock = kSecond, .open = kMillisecond, .again = kMillisecond};
  s.Open();
  s.set.reset();
  std::vector<std::string> hang = {"/d2", "/d5"};
  SUBCASE("at all") {}
  SUBCASE("when they are opened") { hang = {"/d2/segments", "/d5/segments"}; }
  s.Hang(hang);
  s.Open();
  for (size_t i : {1, 4}) {
    CHECK(s.set->Slots()[i].drive == nullptr);
    CHECK(s.set->Slots()[i].problem == "its device does not answer");
  }
  CHECK(s.set->MirrorPlaces().size() == 2);
  auto replaced = s.set->Replace("/d2");
  CHECK(replaced.code() == Code::kPreconditionFailed);
  CHECK(replaced.status().message().find("hangs") != std::string::npos);
  s.set->Probe();
  CHECK(s.set->Slots()[1].drive == nullptr);
  s.let_go.Set();
  while (!s.set->Slots()[1].drive || !s.set->Slots()[4].drive) s.set->Probe();
  for (const DriveSlot& slot : s.set->Slots()) CHECK(slot.drive->online());
  s.set.reset();
}

TEST_CASE("where most drives do not answer, all are waited for") {
  Set s;
  s.options.patience = {.superblock = 20 * kMillisecond, .open = kSecond};
  s.Open();
  s.set.reset();
  s.Hang({"/d1", "/d3", "/d6"});
  auto opened = std::async(std::launch::async, [&] { return s.TryOpen(); });
  CHECK(opened.wait_for(std::chrono::milliseconds(200)) == std::future_status::timeout);
  s.let_go.Set();
  auto set = opened.get();
  REQUIRE(set.ok());
  for (const DriveSlot& slot : (*set)->Slots()) CHECK(slot.drive != nullptr);
}

TEST_CASE("an interrupted formation is finished by the next start") {
  Set s;
  REQUIRE(failpoint::Arm("superblock_before_write=error@4").ok());
  CHECK(s.OpenFails().Is(Code::kIo));
  failpoint::DisarmAll();
  s.disk->Crash();
  s.Open();
  CHECK(s.set->formed_now());
  for (const DriveSlot& slot : s.set->Slots()) CHECK(slot.drive != nullptr);
}

TEST_CASE("an emptied drive is lost, by name, and stays empty") {
  Set s;
  s.Open();
  uint64_t id = s.set->Slots()[2].drive_id;
  s.set.reset();
  REQUIRE(ClearTree(*s.disk, "/d3").ok());
  s.Open();
  CHECK(s.set->Slots()[2].drive == nullptr);
  CHECK(s.set->Slots()[2].drive_id == id);
  CHECK(s.set->Slots()[2].problem.find("no drive") != std::string::npos);
  auto left = s.disk->List("/d3");
  REQUIRE(left.ok());
  CHECK(left->empty());
}

TEST_CASE("drives are found where they are, even if the directories changed places") {
  Set s;
  s.Open();
  uint64_t first = s.set->Slots()[0].drive_id;
  s.set.reset();
  REQUIRE(s.disk->Rename("/d1", "/x").ok());
  REQUIRE(s.disk->Rename("/d2", "/d1").ok());
  REQUIRE(s.disk->Rename("/x", "/d2").ok());
  s.Open();
  auto drive = s.set->Find(first);
  REQUIRE(drive);
  CHECK(drive->dir() == "/d2");
}

TEST_CASE("drives of another cluster or of a newer format are refused by name") {
  Set s;
  s.Open();
  s.set.reset();
  REQUIRE(ClearTree(*s.disk, "/d5").ok());
  Superblock other;
  SUBCASE("another cluster") {
    other.cluster_id = 99;
    REQUIRE(WriteSuperblock(*s.disk, "/d5", other).ok());
    Status refused = s.OpenFails();
    CHECK(refused.Is(Code::kPreconditionFailed));
    CHECK(refused.message().find("/d5") != std::string::npos);
  }
  SUBCASE("newer format") {
    std::string page = EncodeSuperblock(other);
    auto* p = reinterpret_cast<uint8_t*>(page.data());
    PutLe<uint32_t>(p + 8, 7);
    PutLe<uint32_t>(p + 12, 0);
    PutLe<uint32_t>(p + 12, Crc32c(AsBytes(page)));
    REQUIRE(WriteFileAtomically(*s.disk, "/d5/superblock", page).ok());
    Status refused = s.OpenFails();
    CHECK(refused.Is(Code::kUnimplemented));
    CHECK(refused.message().find("/d5") != std::string::npos);
  }
  SUBCASE("garbage: a lost drive") {
    REQUIRE(WriteFileAtomically(*s.disk, "/d5/superblock", std::string(4096, 'x')).ok());
    s.Open();
    CHECK(s.set->Slots()[4].drive == nullptr);
  }
}

TEST_CASE("with more than M drives missing the cluster refuses to start and lists them") {
  Set s;
  s.Open();
  s.set.reset();
  for (const char* dir : {"/d4", "/d5"}) REQUIRE(ClearTree(*s.disk, dir).ok());
  s.Open();
  s.set.reset();
  REQUIRE(ClearTree(*s.disk, "/d6").ok());
  Status refused = s.OpenFails();
  CHECK(refused.Is(Code::kUnavailable));
  for (const char* dir : {"/d4", "/d5", "/d6"})
    CHECK(refused.message().find(dir) != std::string::npos);
  CHECK(refused.message().find("/d3") == std::string::npos);
}

TEST_CASE(
    "a lost state directory is written again from the drives, and drives alone never become a new "
    "cluster") {
  Set s;
  s.Open();
  uint64_t cluster = s.set->cluster_id();
  s.set.reset();
  REQUIRE(ClearTree(*s.disk, "/state").ok());
  REQUIRE(ClearTree(*s.disk, "/d2").ok());
  s.Open();
  CHECK(s.set->cluster_id() == cluster);
  CHECK_FALSE(s.set->formed_now());
  CHECK(s.set->Slots()[1].drive == nullptr);
  CHECK(s.set->Slots()[1].dir == "/d2");
}

TEST_CASE("the profile of a cluster does not change by an option") {
  Set s;
  s.Open();
  s.options.k = 3;
  s.options.m = 2;
  CHECK(s.OpenFails().Is(Code::kPreconditionFailed));
}

TEST_CASE("a directory given twice, or one too many, is refused") {
  Set s;
  s.Open();
  s.options.dirs.push_back("/d7");
  CHECK(s.OpenFails().Is(Code::kPreconditionFailed));
  s.options.dirs.back() = "/d1/";
  CHECK(s.OpenFails().Is(Code::kInvalidArgument));
}

TEST_CASE("the mirror set is what the highest epoch says, also when the ejected drive missed it") {
  Set s;
  s.Open();
  uint64_t first = s.set->Slots()[0].drive_id, fourth = s.set->Slots()[3].drive_id;
  REQUIRE(s.set->Admit(fourth).ok());
  s.set->Find(first)->SetOffline("test");
  REQUIRE(s.set->Eject(first, "test").ok());
  CHECK(s.set->MirrorPlaces().size() == 3);
  s.set.reset();
  s.disk->Crash();
  s.Open();
  std::vector<uint64_t> mirrors = s.set->MirrorIds();
  CHECK(std::count(mirrors.begin(), mirrors.end(), first) == 0);
  CHECK(std::count(mirrors.begin(), mirrors.end(), fourth) == 1);
}

TEST_CASE(
    "a mirror that was away while the others went on is not taken for in sync when it returns "
    "alone") {
  Set s;
  s.Open();
  s.set.reset();
  REQUIRE(s.disk->Rename("/d1", "/away").ok());
  s.Open();  // from here on commits pass /d1 by
  CHECK(s.set->MirrorIds().size() == 2);
  s.set.reset();
  REQUIRE(s.disk->Rename("/away", "/d1").ok());
  for (const char* dir : {"/d2", "/d3"}) REQUIRE(ClearTree(*s.disk, dir).ok());
  CHECK(s.OpenFails().Is(Code::kUnavailable));
}

TEST_CASE("a cluster of two copies changes its mirrors with one drive left") {
  Set s(2);
  s.Open();
  CHECK(s.set->k() == 1);
  CHECK(s.set->m() == 1);
  s.set.reset();
  REQUIRE(ClearTree(*s.disk, "/d2").ok());
  s.Open();
  CHECK(s.set->MirrorPlaces().size() == 1);
  CHECK(s.set->MirrorIds().size() == 1);
}

TEST_CASE("a mirror change that reaches too few drives fails") {
  Set s;
  s.Open();
  for (size_t i = 0; i < 4; i++) s.set->Slots()[i].drive->SetOffline("test");
  CHECK(s.set->Eject(s.set->Slots()[0].drive_id, "test").Is(Code::kUnavailable));
  CHECK(s.set->MirrorIds().size() == 3);
}

TEST_CASE("without an in-sync mirror the cluster refuses to start") {
  Set s;
  s.Open();
  for (size_t i = 1; i < 3; i++) REQUIRE(s.set->Eject(s.set->Slots()[i].drive_id, "test").ok());
  s.set.reset();
  REQUIRE(ClearTree(*s.disk, "/d1").ok());
  Status refused = s.OpenFails();
  CHECK(refused.Is(Code::kUnavailable));
  CHECK(refused.message().find("/d1") != std::string::npos);
}

TEST_CASE("only a lost drive's empty directory is replaced") {
  Set s;
  s.Open();
  uint64_t old_id = s.set->Slots()[5].drive_id;
  auto refused = s.set->Replace("/d6");
  CHECK(refused.code() == Code::kPreconditionFailed);
  CHECK(s.set->Replace("/elsewhere").code() == Code::kNotFound);
  s.set->Find(old_id)->SetOffline("test");
  CHECK(s.set->Replace("/d6").code() ==
        Code::kPreconditionFailed);  // its superblock is still there
  REQUIRE(ClearTree(*s.disk, "/d6").ok());
  REQUIRE(s.disk->CreateDirs("/d6/other").ok());
  CHECK(s.set->Replace("/d6").code() == Code::kPreconditionFailed);
  REQUIRE(s.disk->RemoveDir("/d6/other").ok());
  auto replaced = s.set->Replace("/d6/");
  REQUIRE_MESSAGE(replaced.ok(), replaced.status().ToString());
  CHECK(replaced->drive_id != old_id);
  CHECK(s.set->Find(old_id) == nullptr);
  s.Open();
  CHECK(s.set->Slots()[5].drive_id == replaced->drive_id);
  CHECK(s.set->Slots()[5].drive != nullptr);
}

TEST_CASE("a replacement that was cut off leaves a lost drive that can be replaced again") {
  std::string failpoint;
  SUBCASE("before the format") { failpoint = "drive_replace_before_format"; }
  SUBCASE("before the superblock") { failpoint = "superblock_before_write"; }
  Set s;
  s.Open();
  s.set.reset();
  REQUIRE(ClearTree(*s.disk, "/d6").ok());
  s.Open();
  REQUIRE(failpoint::Arm(failpoint + "=error").ok());
  CHECK(s.set->Replace("/d6").code() == Code::kIo);
  failpoint::DisarmAll();
  s.disk->Crash();
  s.Open();
  CHECK(s.set->Slots()[5].drive == nullptr);
  auto replaced = s.set->Replace("/d6");
  CHECK_MESSAGE(replaced.ok(), replaced.status().ToString());
}

TEST_CASE("a drive emptied while it runs goes offline, one that returns is opened") {
  Set s;
  s.Open();
  REQUIRE(ClearTree(*s.disk, "/d2").ok());
  s.set->Probe();
  CHECK_FALSE(s.set->Slots()[1].drive->online());
  s.set.reset();
  REQUIRE(s.disk->Rename("/d3", "/away").ok());
  s.Open();
  CHECK(s.set->Slots()[2].drive == nullptr);
  s.set.get()->Probe();
  CHECK(s.set->Slots()[2].drive == nullptr);
  REQUIRE(s.disk->Rename("/away", "/d3").ok());
  s.set->Probe();
  CHECK(s.set->Slots()[2].drive != nullptr);
}

TEST_CASE("the default profile follows the number of drives") {
  CHECK(DefaultProfile(1).k == 1);
  CHECK(DefaultProfile(1).m == 0);
  CHECK(DefaultProfile(3).k == 2);
  CHECK(DefaultProfile(6).k == 4);
  CHECK(DefaultProfile(6).m == 2);
  CHECK(DefaultProfile(40).k == 8);
}

TEST_CASE("a superblock that rots while its drive is in use is written anew by the next probe") {
  Set s;
  s.Open();
  REQUIRE(s.disk->FlipBit("/d2/superblock", 8 * 50 + 3).ok());
  CHECK(ReadSuperblock(*s.disk, "/d2").code() == Code::kCorrupt);
  s.set->Probe();
  CHECK(s.set->Slots()[1].drive->online());
  s.disk->Crash();
  auto mended = ReadSuperblock(*s.disk, "/d2");
  REQUIRE(mended.ok());
  s.Open();
  CHECK(s.set->Slots()[1].drive != nullptr);
}

TEST_CASE(
    "a cluster file that rotted is written anew from the superblocks, and refused without any") {
  Set s;
  s.Open();
  const uint64_t cluster = s.set->cluster_id();
  std::vector<std::string> dirs;
  for (const DriveSlot& slot : s.set->Slots()) dirs.push_back(slot.dir);
  s.set.reset();
  REQUIRE(s.disk->FlipBit("/state/cluster", 8 * 30).ok());
  REQUIRE(ReadClusterFile(*s.disk, "/state").code() == Code::kCorrupt);
  s.Open();
  CHECK_FALSE(s.set->formed_now());
  CHECK(s.set->cluster_id() == cluster);
  for (size_t i = 0; i < dirs.size(); i++) CHECK(s.set->Slots()[i].dir == dirs[i]);
  CHECK(ReadClusterFile(*s.disk, "/state").ok());
  s.set.reset();
  REQUIRE(s.disk->FlipBit("/state/cluster", 8 * 30).ok());
  for (const std::string& dir : dirs) REQUIRE(ClearTree(*s.disk, dir).ok());
  CHECK(s.OpenFails().Is(Code::kCorrupt));
}

}  // namespace perigee::objectd
