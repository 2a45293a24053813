#include "bufferd/store_dir.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <set>

#include "temp_dir.h"

using namespace perigee;
using namespace perigee::bufferd;

namespace {

struct Fixture {
  TempDir dir;
  std::unique_ptr<Disk> disk = CreatePosixDisk();
  ManualClock clock;
  std::unique_ptr<StoreDir> store;
  Fixture() {
    auto s = StoreDir::Open(*disk, clock, dir.path());
    REQUIRE(s.ok());
    store = std::move(*s);
  }
};

}  // namespace

TEST_CASE("files are found again after a restart, by id, in whatever directory they were made") {
  Fixture f;
  for (uint64_t b = 1; b <= 20; ++b) REQUIRE(f.store->Create(b).ok());
  CHECK(f.store->Create(1).code() == Code::kAlreadyExists);
  f.clock.Advance(7 * kSecond);
  auto again = StoreDir::Open(*f.disk, f.clock, f.dir.path());
  REQUIRE(again.ok());
  auto found = (*again)->List();
  REQUIRE(found.ok());
  std::set<uint64_t> ids;
  for (auto& x : *found) ids.insert(x.burst);
  CHECK(ids.size() == 20);
  CHECK((*again)->Open((*found)[0].dir, (*found)[0].burst, OpenMode::kRead).ok());
}

TEST_CASE("new files move on from a directory in which many were unlinked") {
  Fixture f;
  auto first = f.store->Create(1);
  REQUIRE(first.ok());
  for (uint64_t b = 2; b < 300; ++b) {
    auto d = f.store->Create(b);
    REQUIRE(d.ok());
    REQUIRE(f.store->Unlink(*d, b).ok());
  }
  auto later = f.store->Create(1000);
  REQUIRE(later.ok());
  CHECK(*later != *first);
}

TEST_CASE(
    "a file is unwritten once no writable descriptor or mapping is left, whatever readers hold") {
  Fixture f;
  REQUIRE(f.store->leases());
  auto d = f.store->Create(5);
  REQUIRE(d.ok());
  CHECK(*f.store->Unwritten(*d, 5));
  auto writer = f.store->Descriptor(*d, 5, true);
  auto reader = f.store->Descriptor(*d, 5, false);
  REQUIRE(writer.ok());
  REQUIRE(::ftruncate(writer->get(), 4096) == 0);
  CHECK(!*f.store->Unwritten(*d, 5));
  void* map = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer->get(), 0);
  void* seen = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, reader->get(), 0);
  writer->Reset(-1);
  CHECK(!*f.store->Unwritten(*d, 5));
  ::munmap(map, 4096);
  CHECK(*f.store->Unwritten(*d, 5));
  CHECK(!*f.store->Unopened(*d, 5));
  reader->Reset(-1);
  CHECK(!*f.store->Unopened(*d, 5));
  ::munmap(seen, 4096);
  CHECK(*f.store->Unopened(*d, 5));
}

TEST_CASE("ballast can be given up once and is filled again") {
  Fixture f;
  CHECK(f.store->DropBallast());
  CHECK(!f.store->DropBallast());
  REQUIRE(f.store->FillBallast().ok());
  CHECK(f.store->DropBallast());
}

TEST_CASE("a read-only descriptor cannot write and a missing file is kNotFound") {
  Fixture f;
  auto d = f.store->Create(5);
  auto fd = f.store->Descriptor(*d, 5, false);
  CHECK(::write(fd->get(), "x", 1) == -1);
  CHECK(f.store->Descriptor(*d, 6, false).status().Is(Code::kNotFound));
  CHECK(f.store->Unlink(*d, 6).code() == Code::kNotFound);
}
