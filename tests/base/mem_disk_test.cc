#include <doctest/doctest.h>

#include <set>

#include "base/disk.h"
#include "base/random.h"

using namespace perigee;

static std::string Text(Disk& disk, const std::string& path) {
  auto r = ReadWholeFile(disk, path, 1 << 20);
  return r.ok() ? *r : "<" + std::string(CodeName(r.code())) + ">";
}

static void Put(Disk& disk, const std::string& path, std::string_view content) {
  auto file = disk.Open(path, OpenMode::kCreateOrOpen);
  REQUIRE(file.ok());
  REQUIRE((*file)->WriteAt(0, AsBytes(content)).ok());
  REQUIRE((*file)->SyncData().ok());
}

TEST_CASE("a crash drops names that no SyncDir made safe, and brings back those unlinked") {
  auto disk = MemDisk::Create(1);
  REQUIRE(disk->CreateDirs("/d").ok());
  Put(*disk, "/d/kept", "k");
  REQUIRE(disk->SyncDir("/d").ok());
  Put(*disk, "/d/lost", "l");
  REQUIRE(disk->Unlink("/d/kept").ok());
  REQUIRE(disk->CreateDir("/d/sub").ok());
  Put(*disk, "/d/sub/deep", "x");
  REQUIRE(disk->SyncDir("/d/sub").ok());
  disk->Crash();
  auto entries = *disk->List("/d");
  REQUIRE(entries.size() == 1);
  CHECK(Text(*disk, "/d/kept") == "k");
}

TEST_CASE("a crash undoes a rename that was not synced, with what it replaced") {
  auto disk = MemDisk::Create(1);
  REQUIRE(disk->CreateDirs("/d").ok());
  Put(*disk, "/d/a", "A");
  Put(*disk, "/d/b", "B");
  REQUIRE(disk->SyncDir("/d").ok());
  REQUIRE(disk->Rename("/d/a", "/d/b").ok());
  disk->Crash();
  CHECK(Text(*disk, "/d/a") == "A");
  CHECK(Text(*disk, "/d/b") == "B");
  REQUIRE(disk->Rename("/d/a", "/d/b").ok());
  REQUIRE(disk->SyncDir("/d").ok());
  disk->Crash();
  CHECK(Text(*disk, "/d/a") == "<not found>");
  CHECK(Text(*disk, "/d/b") == "A");
}

TEST_CASE("what was synced survives a crash, and each page written since is old or new") {
  std::set<std::string> outcomes;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    auto disk = MemDisk::Create(seed);
    REQUIRE(disk->CreateDirs("/d").ok());
    Put(*disk, "/d/f", std::string(3 * 4096, 'o'));
    REQUIRE(disk->SyncDir("/d").ok());
    {
      auto file = *disk->Open("/d/f", OpenMode::kReadWrite);
      REQUIRE(file->WriteAt(4096, AsBytes(std::string(2 * 4096, 'n'))).ok());
      disk->Crash();
      uint8_t byte;
      CHECK(file->ReadAt(0, {&byte, 1}).code() == Code::kIo);
      CHECK(file->WriteAt(0, AsBytes("x")).Is(Code::kIo));
      CHECK(file->SyncData().Is(Code::kIo));
    }
    std::string now = Text(*disk, "/d/f");
    REQUIRE(now.size() == 3 * 4096);
    std::string pages;
    for (int page = 0; page < 3; ++page) {
      std::string part = now.substr(page * 4096, 4096);
      REQUIRE((part == std::string(4096, 'o') || part == std::string(4096, 'n')));
      pages.push_back(part[0]);
    }
    outcomes.insert(pages);
    disk->Crash();
    CHECK(Text(*disk, "/d/f") == now);  // what a crash left is stable
  }
  CHECK(outcomes == std::set<std::string>{"ooo", "oon", "ono", "onn"});
}

TEST_CASE("a size that was not synced is old or new after a crash") {
  std::set<size_t> grown, cut;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    auto disk = MemDisk::Create(seed);
    REQUIRE(disk->CreateDirs("/d").ok());
    Put(*disk, "/d/grown", std::string(5000, 'a'));
    Put(*disk, "/d/cut", std::string(9000, 'a'));
    REQUIRE(disk->SyncDir("/d").ok());
    auto file = *disk->Open("/d/grown", OpenMode::kReadWrite);
    REQUIRE(file->WriteAt(5000, AsBytes(std::string(4000, 'b'))).ok());
    auto other = *disk->Open("/d/cut", OpenMode::kReadWrite);
    REQUIRE(other->Truncate(100).ok());
    disk->Crash();
    grown.insert(Text(*disk, "/d/grown").size());
    std::string now = Text(*disk, "/d/cut");
    cut.insert(now.size());
    CHECK(now == std::string(now.size(), 'a'));
    CHECK(Text(*disk, "/d/grown").substr(0, 4096) == std::string(4096, 'a'));
  }
  CHECK(grown == std::set<size_t>{5000, 9000});
  CHECK(cut == std::set<size_t>{100, 9000});
}

TEST_CASE("the same seed crashes the same way") {
  auto run = [](uint64_t seed) {
    auto disk = MemDisk::Create(seed);
    REQUIRE(disk->CreateDirs("/d").ok());
    Put(*disk, "/d/f", std::string(64 * 4096, 'o'));
    REQUIRE(disk->SyncDir("/d").ok());
    auto file = *disk->Open("/d/f", OpenMode::kReadWrite);
    REQUIRE(file->WriteAt(0, AsBytes(std::string(64 * 4096, 'n'))).ok());
    disk->Crash();
    return Text(*disk, "/d/f");
  };
  CHECK(run(4) == run(4));
  CHECK(run(4) != run(5));
}

TEST_CASE("a full disk refuses writes whole, and has room again after unlink and holes") {
  auto disk = MemDisk::Create(1);
  REQUIRE(disk->CreateDirs("/d").ok());
  disk->SetCapacity(10 * 4096);
  Put(*disk, "/d/a", std::string(6 * 4096, 'a'));
  auto file = *disk->Open("/d/b", OpenMode::kCreate);
  CHECK(file->WriteAt(0, AsBytes(std::string(5 * 4096, 'b'))).Is(Code::kNoSpace));
  CHECK(*file->Size() == 0);
  CHECK(file->Allocate(0, 5 * 4096).Is(Code::kNoSpace));
  CHECK(disk->Space("/d")->free_bytes == 4 * 4096);
  {
    auto open = *disk->Open("/d/a", OpenMode::kReadWrite);
    REQUIRE(open->WriteAt(0, AsBytes("over")).ok());  // takes no more
    REQUIRE(disk->Unlink("/d/a").ok());
    CHECK(disk->Space("/d")->free_bytes == 4 * 4096);  // open files count
  }
  CHECK(disk->Space("/d")->free_bytes == 10 * 4096);
  REQUIRE(file->WriteAt(0, AsBytes(std::string(10 * 4096, 'b'))).ok());
  REQUIRE(file->PunchHole(0, 4096).ok());
  CHECK(disk->Space("/d")->free_bytes == 4096);
  disk->Crash();
  CHECK(disk->Space("/d")->free_bytes == 10 * 4096);
}

TEST_CASE("the fault knob sees every operation with its path and decides its outcome") {
  auto disk = MemDisk::Create(1);
  REQUIRE(disk->CreateDirs("/d").ok());
  Put(*disk, "/d/f", "x");
  auto file = *disk->Open("/d/f", OpenMode::kReadWrite);
  std::vector<std::string> asked;
  disk->SetFault([&](std::string_view op, const std::string& path) {
    asked.push_back(std::string(op) + " " + path);
    return Status(Code::kIo, "bad drive");
  });
  uint8_t byte;
  CHECK(file->ReadAt(0, {&byte, 1}).code() == Code::kIo);
  CHECK(file->WriteAt(0, AsBytes("y")).Is(Code::kIo));
  CHECK(file->SyncData().Is(Code::kIo));
  CHECK(disk->Open("/d/g", OpenMode::kCreate).code() == Code::kIo);
  CHECK(disk->Rename("/d/f", "/d/g").Is(Code::kIo));
  CHECK(disk->Unlink("/d/f").Is(Code::kIo));
  CHECK(disk->SyncDir("/d").Is(Code::kIo));
  disk->SetFault(nullptr);
  CHECK(asked == std::vector<std::string>{"read /d/f", "write /d/f", "sync /d/f", "open /d/g",
                                          "rename /d/f", "unlink /d/f", "sync_dir /d"});
  CHECK(Text(*disk, "/d/f") == "x");
}

TEST_CASE("a flipped bit is one bit") {
  auto disk = MemDisk::Create(1);
  REQUIRE(disk->CreateDirs("/d").ok());
  Put(*disk, "/d/f", std::string(5000, '\0'));
  REQUIRE(disk->FlipBit("/d/f", 4999 * 8 + 3).ok());
  std::string now = Text(*disk, "/d/f");
  CHECK(now[4999] == 8);
  now[4999] = 0;
  CHECK(now == std::string(5000, '\0'));
  CHECK(disk->FlipBit("/d/f", 5000 * 8).Is(Code::kInvalidArgument));
  CHECK(disk->FlipBit("/d/none", 0).Is(Code::kNotFound));
}

TEST_CASE("direct files refuse what a drive would refuse") {
  auto disk = MemDisk::Create(1);
  REQUIRE(disk->CreateDirs("/d").ok());
  auto file = *disk->Open("/d/f", OpenMode::kCreate, Caching::kDirect);
  AlignedBuffer page(8192);
  std::memset(page.data(), 0, page.size());
  CHECK(file->WriteAt(0, page.span()).ok());
  CHECK(file->WriteAt(512, page.span()).Is(Code::kInvalidArgument));
  CHECK(file->WriteAt(0, page.span().subspan(0, 100)).Is(Code::kInvalidArgument));
  CHECK(file->WriteAt(0, page.span().subspan(8, 4096)).Is(Code::kInvalidArgument));
  CHECK(file->ReadAt(0, page.span().subspan(8, 4096)).code() == Code::kInvalidArgument);
}

TEST_CASE("a disk with a circle of synced and live directories crashes and goes without harm") {
  auto disk = MemDisk::Create(1);
  REQUIRE(disk->CreateDirs("/a/b").ok());
  REQUIRE(disk->Rename("/a/b", "/b").ok());
  REQUIRE(disk->Rename("/a", "/b/a").ok());
  REQUIRE(disk->SyncDir("/b").ok());
  disk->Crash();
  CHECK(disk->Stat("/a/b").ok());
}

TEST_CASE("random writes, syncs and crashes agree with a model of each page") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    auto disk = MemDisk::Create(seed);
    REQUIRE(disk->CreateDirs("/d").ok());
    Put(*disk, "/d/f", std::string(8 * 4096, '\1'));
    REQUIRE(disk->SyncDir("/d").ok());
    // By page: the byte it is filled with since the last sync, and those it may hold after a crash.
    uint8_t live[8], synced[8];
    std::fill(live, live + 8, 1);
    std::fill(synced, synced + 8, 1);
    auto file = *disk->Open("/d/f", OpenMode::kReadWrite);
    for (int step = 0; step < 200; ++step) {
      uint64_t what = random.Below(10);
      if (what == 0) {
        disk->Crash();
        file = *disk->Open("/d/f", OpenMode::kReadWrite);
        for (size_t page = 0; page < 8; ++page) {
          std::vector<uint8_t> data(4096);
          REQUIRE(*file->ReadAt(page * 4096, data) == 4096);
          REQUIRE((data[0] == live[page] || data[0] == synced[page]));
          REQUIRE(data == std::vector<uint8_t>(4096, data[0]));
          live[page] = synced[page] = data[0];
        }
      } else if (what <= 2) {
        REQUIRE(file->SyncData().ok());
        std::copy(live, live + 8, synced);
      } else {
        size_t page = random.Below(8);
        live[page] = static_cast<uint8_t>(random.Below(250) + 1);
        REQUIRE(file->WriteAt(page * 4096, std::vector<uint8_t>(4096, live[page])).ok());
      }
    }
  }
}
