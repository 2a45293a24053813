#include "base/disk.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <thread>

#include "base/failpoint.h"
#include "base/random.h"
#include "temp_dir.h"

using namespace perigee;

namespace {

std::string Text(const std::string& path, Disk& disk) {
  auto r = ReadWholeFile(disk, path, 1 << 20);
  return r.ok() ? *r : "<" + r.status().ToString() + ">";
}

// Runs `body` against every implementation, in an empty directory.
void OnEveryDisk(const std::function<void(Disk&, const std::string& dir)>& body) {
  for (IoEngine engine : {IoEngine::kAuto, IoEngine::kPread}) {
    TempDir temp;
    auto disk = CreatePosixDisk(engine);
    INFO("engine " << disk->engine());
    body(*disk, temp.path());
  }
  auto disk = MemDisk::Create(1);
  INFO("engine " << disk->engine());
  REQUIRE(disk->CreateDirs("/d").ok());
  body(*disk, "/d");
}

std::vector<uint8_t> Pattern(uint64_t seed, size_t bytes) {
  std::vector<uint8_t> data(bytes);
  Random(seed).Fill(data.data(), bytes);
  return data;
}

}  // namespace

TEST_CASE("open modes: what must exist does, what must not does not") {
  OnEveryDisk([](Disk& disk, const std::string& dir) {
    std::string path = dir + "/f";
    CHECK(disk.Open(path, OpenMode::kRead).code() == Code::kNotFound);
    CHECK(disk.Open(path, OpenMode::kReadWrite).code() == Code::kNotFound);
    CHECK(disk.Open(path, OpenMode::kCreate).ok());
    CHECK(disk.Open(path, OpenMode::kCreate).code() == Code::kAlreadyExists);
    CHECK(disk.Open(path, OpenMode::kCreateOrOpen).ok());
    CHECK(disk.Open(dir + "/no/f", OpenMode::kCreate).code() == Code::kNotFound);
    CHECK(disk.Open(path + "/f", OpenMode::kCreate).code() == Code::kNotDirectory);
    CHECK(disk.Open(dir, OpenMode::kReadWrite).code() == Code::kIsDirectory);
    auto read_only = disk.Open(path, OpenMode::kRead);
    REQUIRE(read_only.ok());
    CHECK_FALSE((*read_only)->WriteAt(0, AsBytes("x")).ok());
  });
}

TEST_CASE("reads end at the end of the file, holes read as zeros") {
  OnEveryDisk([](Disk& disk, const std::string& dir) {
    auto file = *disk.Open(dir + "/f", OpenMode::kCreate);
    REQUIRE(file->WriteAt(10'000, AsBytes("end")).ok());
    CHECK(*file->Size() == 10'003);
    std::vector<uint8_t> data(20'000, 7);
    CHECK(*file->ReadAt(9'998, data) == 5);
    CHECK(AsView({data.data(), 5}) == std::string_view("\0\0end", 5));
    CHECK(data[5] == 7);
    CHECK(*file->ReadAt(10'003, data) == 0);
    CHECK(*file->ReadAt(1 << 30, data) == 0);
  });
}

TEST_CASE("truncate cuts and extends, and what was cut does not come back") {
  OnEveryDisk([](Disk& disk, const std::string& dir) {
    auto file = *disk.Open(dir + "/f", OpenMode::kCreate);
    REQUIRE(file->WriteAt(0, Pattern(1, 9000)).ok());
    REQUIRE(file->Truncate(4100).ok());
    REQUIRE(file->Truncate(9000).ok());
    std::vector<uint8_t> data(9000);
    CHECK(*file->ReadAt(0, data) == 9000);
    auto expected = Pattern(1, 9000);
    std::fill(expected.begin() + 4100, expected.end(), 0);
    CHECK(data == expected);
  });
}

TEST_CASE("allocated space is extended, counted, and given back by a hole") {
  OnEveryDisk([](Disk& disk, const std::string& dir) {
    auto file = *disk.Open(dir + "/f", OpenMode::kCreate);
    REQUIRE(file->Allocate(0, 1 << 20).ok());
    CHECK(*file->Size() == 1 << 20);
    CHECK(*file->AllocatedBytes() >= 1 << 20);
    REQUIRE(file->WriteAt(0, Pattern(2, 1 << 20)).ok());
    REQUIRE(file->PunchHole(4096, 512 << 10).ok());
    CHECK(*file->Size() == 1 << 20);
    CHECK(*file->AllocatedBytes() <= (512 << 10) + 8192);
    std::vector<uint8_t> data(1 << 20);
    CHECK(*file->ReadAt(0, data) == data.size());
    auto expected = Pattern(2, 1 << 20);
    std::fill(expected.begin() + 4096, expected.begin() + 4096 + (512 << 10), 0);
    CHECK(data == expected);
    REQUIRE(file->PunchHole(100, 50).ok());  // within a page: zeroes
    std::fill(expected.begin() + 100, expected.begin() + 150, 0);
    CHECK(*file->ReadAt(0, data) == data.size());
    CHECK(data == expected);
  });
}

TEST_CASE(
    "a batch larger than any queue writes and reads everything, and reports each outcome by "
    "itself") {
  OnEveryDisk([](Disk& disk, const std::string& dir) {
    auto file = *disk.Open(dir + "/f", OpenMode::kCreate);
    auto reader = *disk.Open(dir + "/f", OpenMode::kRead);
    constexpr size_t kOps = 700, kBytes = 3000;
    auto data = Pattern(3, kOps * kBytes);
    std::vector<IoOp> ops;
    for (size_t i = 0; i < kOps; ++i) {
      ops.push_back({IoOp::Kind::kWrite, file.get(), i * kBytes, data.data() + i * kBytes, kBytes});
    }
    ops.push_back({IoOp::Kind::kWrite, reader.get(), 0, data.data(), kBytes});
    ops.push_back({IoOp::Kind::kSyncData, file.get()});
    disk.Run(ops);
    for (size_t i = 0; i < kOps; ++i) REQUIRE((ops[i].status.ok() && ops[i].done == kBytes));
    CHECK_FALSE(ops[kOps].status.ok());
    CHECK(ops[kOps].done == 0);
    CHECK(ops[kOps + 1].status.ok());

    std::vector<uint8_t> back(data.size());
    ops.clear();
    for (size_t i = 0; i < kOps; ++i) {
      ops.push_back(
          {IoOp::Kind::kRead, reader.get(), i * kBytes, back.data() + i * kBytes, kBytes});
    }
    std::vector<uint8_t> tail(kBytes);
    ops.push_back({IoOp::Kind::kRead, reader.get(), data.size() - 10, tail.data(), kBytes});
    ops.push_back({IoOp::Kind::kRead, reader.get(), data.size() + 10, tail.data(), kBytes});
    disk.Run(ops);
    for (IoOp& op : ops) REQUIRE(op.status.ok());
    CHECK(back == data);
    CHECK(ops[kOps].done == 10);
    CHECK(ops[kOps + 1].done == 0);
    disk.Run({});
  });
}

TEST_CASE("batches of several threads do not mix") {
  OnEveryDisk([](Disk& disk, const std::string& dir) {
    std::atomic<int> right = 0;
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        auto file = disk.Open(dir + "/f" + std::to_string(t), OpenMode::kCreate);
        if (!file.ok()) return;
        auto data = Pattern(t, 64 << 10);
        std::vector<uint8_t> back(data.size());
        std::vector<IoOp> writes, reads;
        for (size_t at = 0; at < data.size(); at += 4096) {
          writes.push_back({IoOp::Kind::kWrite, file->get(), at, data.data() + at, 4096});
          reads.push_back({IoOp::Kind::kRead, file->get(), at, back.data() + at, 4096});
        }
        disk.Run(writes);
        disk.Run(reads);
        bool ok = back == data;
        for (auto* ops : {&writes, &reads}) {
          for (IoOp& op : *ops) ok = op.status.ok() && ok;
        }
        if (ok) ++right;
      });
    }
    for (auto& t : threads) t.join();
    CHECK(right == 4);
  });
}

TEST_CASE("direct files move aligned pages and end where the file ends") {
  OnEveryDisk([](Disk& disk, const std::string& dir) {
    auto file = *disk.Open(dir + "/f", OpenMode::kCreate, Caching::kDirect);
    AlignedBuffer out(16384), in(16384);
    Random(5).Fill(out.data(), out.size());
    REQUIRE(file->WriteAt(0, out.span()).ok());
    REQUIRE(file->Truncate(10'000).ok());
    CHECK(*file->ReadAt(0, in.span()) == 10'000);
    CHECK(std::memcmp(in.data(), out.data(), 10'000) == 0);
    std::vector<IoOp> ops;
    ops.push_back({IoOp::Kind::kRead, file.get(), 8192, in.data(), 8192});
    ops.push_back({IoOp::Kind::kRead, file.get(), 0, in.data() + 8192, 8192});
    disk.Run(ops);
    CHECK(ops[0].status.ok());
    CHECK(ops[0].done == 10'000 - 8192);
    CHECK(ops[1].done == 8192);
    CHECK(std::memcmp(in.data() + 8192, out.data(), 8192) == 0);
  });
}

TEST_CASE("a direct file is buffered where the file system has no direct I/O") {
  std::string dir = "/dev/shm/perigee-base-XXXXXX";
  if (mkdtemp(dir.data()) == nullptr) return;
  auto disk = CreatePosixDisk();
  {
    auto file = disk->Open(dir + "/f", OpenMode::kCreate, Caching::kDirect);
    REQUIRE(file.ok());
    AlignedBuffer out(4096);
    std::memset(out.data(), 'x', out.size());
    CHECK((*file)->WriteAt(0, out.span()).ok());
    CHECK(*(*file)->Size() == 4096);
  }
  std::filesystem::remove_all(dir);
}

TEST_CASE("directories: create, list in order, remove when empty") {
  OnEveryDisk([](Disk& disk, const std::string& dir) {
    CHECK(disk.CreateDir(dir + "/x/y").Is(Code::kNotFound));
    CHECK(disk.CreateDirs(dir + "/x/y").ok());
    CHECK(disk.CreateDirs(dir + "/x/y/").ok());
    CHECK(disk.CreateDir(dir + "/x").Is(Code::kAlreadyExists));
    CHECK(disk.Open(dir + "/b", OpenMode::kCreate).ok());
    CHECK(disk.Open(dir + "/a", OpenMode::kCreate).ok());
    CHECK(disk.CreateDirs(dir + "/a").Is(Code::kNotDirectory));
    CHECK(disk.CreateDirs(dir + "/a/z").Is(Code::kNotDirectory));
    auto entries = *disk.List(dir);
    REQUIRE(entries.size() == 3);
    CHECK((entries[0].name == "a" && !entries[0].is_directory));
    CHECK(entries[1].name == "b");
    CHECK((entries[2].name == "x" && entries[2].is_directory));
    CHECK(disk.RemoveDir(dir + "/x").Is(Code::kNotEmpty));
    CHECK(disk.RemoveDir(dir + "/a").Is(Code::kNotDirectory));
    CHECK(disk.Unlink(dir + "/x").Is(Code::kIsDirectory));
    CHECK(disk.RemoveDir(dir + "/x/y").ok());
    CHECK(disk.RemoveDir(dir + "/x").ok());
    CHECK(disk.List(dir + "/x").code() == Code::kNotFound);
    CHECK(disk.List(dir + "/a").code() == Code::kNotDirectory);
    CHECK(disk.SyncDir(dir + "/a").Is(Code::kNotDirectory));
    CHECK(disk.SyncDir(dir).ok());
  });
}

TEST_CASE("rename replaces files, keeps what is open, and refuses what cannot be") {
  OnEveryDisk([](Disk& disk, const std::string& dir) {
    REQUIRE(WriteFileAtomically(disk, dir + "/a", "A").ok());
    REQUIRE(WriteFileAtomically(disk, dir + "/b", "B").ok());
    auto old_b = *disk.Open(dir + "/b", OpenMode::kRead);
    uint64_t inode = disk.Stat(dir + "/a")->inode;
    CHECK(disk.Rename(dir + "/a", dir + "/b").ok());
    CHECK(Text(dir + "/b", disk) == "A");
    CHECK(disk.Stat(dir + "/b")->inode == inode);
    CHECK(disk.Stat(dir + "/a").code() == Code::kNotFound);
    uint8_t byte = 0;
    CHECK(*old_b->ReadAt(0, {&byte, 1}) == 1);
    CHECK(byte == 'B');
    CHECK(disk.Rename(dir + "/a", dir + "/c").Is(Code::kNotFound));
    REQUIRE(disk.CreateDirs(dir + "/x/y").ok());
    CHECK(disk.Rename(dir + "/b", dir + "/x").Is(Code::kIsDirectory));
    CHECK(disk.Rename(dir + "/x", dir + "/b").Is(Code::kNotDirectory));
    CHECK(disk.Rename(dir + "/x", dir + "/x/y/z").Is(Code::kInvalidArgument));
    CHECK(disk.Rename(dir + "/x", dir + "/z").ok());
    CHECK(disk.Stat(dir + "/z/y")->is_directory);
    CHECK(disk.Unlink(dir + "/b").ok());
    CHECK(disk.Unlink(dir + "/b").Is(Code::kNotFound));
  });
}

TEST_CASE("space is known, and paths of one file system say so") {
  OnEveryDisk([](Disk& disk, const std::string& dir) {
    REQUIRE(disk.CreateDirs(dir + "/x").ok());
    auto space = *disk.Space(dir);
    CHECK(space.total_bytes > 0);
    CHECK(space.free_bytes <= space.total_bytes);
    CHECK(disk.Space(dir + "/x")->file_system == space.file_system);
    CHECK(disk.Space(dir + "/none").code() == Code::kNotFound);
  });
}

TEST_CASE("whole files are replaced whole, over a leftover too, and bounded when read") {
  OnEveryDisk([](Disk& disk, const std::string& dir) {
    std::string path = dir + "/f";
    auto stale = *disk.Open(path + ".tmp", OpenMode::kCreate);
    REQUIRE(stale->WriteAt(0, AsBytes("a longer leftover of a crash")).ok());
    REQUIRE(WriteFileAtomically(disk, path, "one").ok());
    CHECK(Text(path, disk) == "one");
    REQUIRE(WriteFileAtomically(disk, path, "").ok());
    CHECK(Text(path, disk) == "");
    REQUIRE(WriteFileAtomically(disk, path, "123456").ok());
    CHECK(*ReadWholeFile(disk, path, 6) == "123456");
    CHECK(ReadWholeFile(disk, path, 5).code() == Code::kTooLarge);
    CHECK(disk.List(dir)->size() == 1);
    CHECK(WriteFileAtomically(disk, dir + "/no/f", "x").Is(Code::kNotFound));
  });
}

TEST_CASE("files without a size, as those of /proc, are read whole") {
  auto disk = CreatePosixDisk();
  auto text = ReadWholeFile(*disk, "/proc/self/status", 1 << 20);
  REQUIRE(text.ok());
  CHECK(text->find("VmPeak") != text->npos);
}

TEST_CASE("new files are private and close on exec") {
  TempDir temp;
  auto disk = CreatePosixDisk();
  auto file = *disk->Open(temp / "f", OpenMode::kCreate);
  struct stat st;
  REQUIRE(fstat(file->fd(), &st) == 0);
  CHECK((st.st_mode & 0777) == 0600);
  CHECK((fcntl(file->fd(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("the parent of a path") {
  CHECK(ParentDir("/a/b") == "/a");
  CHECK(ParentDir("/a") == "/");
  CHECK(ParentDir("/") == "/");
  CHECK(ParentDir("b") == ".");
  CHECK(ParentDir("a/b/") == "a");
  CHECK(ParentDir("/a//b") == "/a");
}

#ifdef PERIGEE_FAILPOINTS
TEST_CASE("a replacement that fails at any point leaves the old file or the new one") {
  using failpoint::Id;
  for (Id id : {Id::atomic_file_before_sync, Id::atomic_file_before_rename,
                Id::atomic_file_before_dir_sync, Id::atomic_file_after_dir_sync}) {
    std::string name = failpoint::Names()[static_cast<size_t>(id)];
    CAPTURE(name);
    OnEveryDisk([&](Disk& disk, const std::string& dir) {
      REQUIRE(WriteFileAtomically(disk, dir + "/f", "old").ok());
      uint64_t hits = failpoint::Hits(id);
      REQUIRE(failpoint::Arm(name + "=error").ok());
      CHECK(WriteFileAtomically(disk, dir + "/f", "new").Is(Code::kIo));
      failpoint::DisarmAll();
      CHECK(failpoint::Hits(id) == hits + 1);
      std::string now = Text(dir + "/f", disk);
      bool renamed = id == Id::atomic_file_before_dir_sync || id == Id::atomic_file_after_dir_sync;
      CHECK(now == (renamed ? "new" : "old"));
      CHECK(disk.List(dir)->size() == 1);
    });
  }
}
#endif
