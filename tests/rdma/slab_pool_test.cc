#include "rdma/slab_pool.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <vector>

#include "base/event.h"
#include "base/random.h"
#include "base/scheduler.h"

using namespace perigee;
using namespace perigee::rdma;

static std::shared_ptr<SlabPool> Make(uint64_t bytes, Nanos idle = 0) {
  SlabPool::Options options;
  options.bytes_max = bytes;
  options.idle_release = idle;
  auto pool = SlabPool::Create(options);
  REQUIRE(pool.ok());
  return *pool;
}

TEST_CASE("pieces of all sizes never overlap and all memory comes back") {
  const uint64_t seed = 20;
  INFO("seed ", seed);
  Random random(seed);
  auto pool = Make(64 << 20);
  std::vector<std::pair<Piece, uint8_t>> held;
  for (int round = 0; round < 3000; ++round) {
    if (!held.empty() && random.OneIn(2)) {
      size_t i = random.Below(held.size());
      auto& [piece, fill] = held[i];
      CHECK(std::all_of(piece.data(), piece.data() + piece.size(),
                        [f = fill](uint8_t b) { return b == f; }));
      std::swap(held[i], held.back());
      held.pop_back();
      continue;
    }
    size_t bytes = random.Below(random.OneIn(8) ? kPieceBytesMax : 200'000) + 1;
    Piece piece = pool->TryAllocate(bytes);
    if (!piece) continue;
    REQUIRE(piece.size() == bytes);
    auto fill = static_cast<uint8_t>(random.Below(256));
    std::memset(piece.data(), fill, bytes);
    held.emplace_back(std::move(piece), fill);
    CHECK(pool->BytesInUse() <= pool->BytesMapped());
    CHECK(pool->BytesMapped() <= 64 << 20);
  }
  held.clear();
  CHECK(pool->BytesInUse() == 0);
  // Whole again: the largest pieces fit as often as in a new pool.
  std::vector<Piece> largest;
  while (Piece piece = pool->TryAllocate(kPieceBytesMax)) largest.push_back(std::move(piece));
  CHECK(largest.size() == 16);
}

TEST_CASE("the bound is hard, and what is too large for the pool is said at once") {
  auto pool = Make(1 << 20);
  CHECK(pool->Allocate(kPieceBytesMax + 1, kSecond).code() == Code::kTooLarge);
  CHECK(pool->Allocate(2 << 20, kSecond).code() == Code::kTooLarge);
  CHECK(!pool->TryAllocate(2 << 20));
  Piece all = pool->TryAllocate(1 << 20);
  REQUIRE(all);
  CHECK(pool->BytesInUse() == 1 << 20);
  CHECK(!pool->TryAllocate(1));
  CHECK(pool->Allocate(1, 0).code() == Code::kDeadlineExceeded);
  all.Release();
  CHECK(pool->TryAllocate(1));
  SlabPool::Options tiny;
  tiny.bytes_max = 1;
  CHECK(SlabPool::Create(tiny).code() == Code::kInvalidArgument);
}

TEST_CASE("waiting allocations are served in order, and none is passed by a later one") {
  auto scheduler = ManualScheduler::Create(3);
  auto pool = Make(1 << 20);
  Piece first = pool->TryAllocate(512 << 10);
  Piece second = pool->TryAllocate(512 << 10);
  std::vector<int> served;
  Event large_waits;
  REQUIRE(scheduler
              ->Post([&] {
                large_waits.Set();
                auto large = pool->Allocate(1 << 20, kSecond);
                served.push_back(large.ok() ? 1 : -1);
              })
              .ok());
  REQUIRE(scheduler
              ->Post([&] {
                large_waits.Wait();
                auto small = pool->Allocate(64 << 10, 2 * kSecond);
                served.push_back(small.ok() ? 2 : -2);
              })
              .ok());
  REQUIRE(scheduler
              ->Post([&] {
                large_waits.Wait();
                first.Release();
                CHECK(!pool->TryAllocate(64 << 10));  // room, but others came first
                second.Release();
              })
              .ok());
  CHECK(scheduler->RunUntil(nullptr));
  CHECK(served == std::vector<int>{1, 2});
}

TEST_CASE("an allocation that gives up lets those behind it through") {
  auto scheduler = ManualScheduler::Create(4);
  auto pool = Make(1 << 20);
  Piece held = pool->TryAllocate(512 << 10);
  int served = 0;
  bool told = false;
  Event large_waits;
  REQUIRE(scheduler
              ->Post([&] {
                large_waits.Set();
                CHECK(pool->Allocate(1 << 20, kMillisecond).code() == Code::kDeadlineExceeded);
              })
              .ok());
  REQUIRE(scheduler
              ->Post([&] {
                large_waits.Wait();
                pool->OnNextFree([&] { told = true; });
                if (pool->Allocate(64 << 10, kSecond).ok()) ++served;
              })
              .ok());
  CHECK(scheduler->RunUntil(nullptr));
  CHECK(served == 1);
  CHECK(told);
}

TEST_CASE("OnNextFree tells once, on each free after it") {
  auto pool = Make(256 << 10);
  Piece a = pool->TryAllocate(100), b = pool->TryAllocate(100);
  int told = 0;
  pool->OnNextFree([&] { ++told; });
  CHECK(told == 0);
  a.Release();
  CHECK(told == 1);
  b.Release();
  CHECK(told == 1);
}

TEST_CASE("idle slabs go back to the system, used ones stay, and ids are not used twice") {
  auto pool = Make(64 << 20);
  std::vector<Piece> pieces;
  for (int i = 0; i < 8; ++i) pieces.push_back(pool->TryAllocate(kPieceBytesMax));
  CHECK(pool->BytesMapped() == 2 * kSlabBytes);
  SlabPool::Location first{}, last{};
  REQUIRE(pool->Locate(pieces.front().data(), 1, &first));
  REQUIRE(pool->Locate(pieces.back().data(), kPieceBytesMax, &last));
  CHECK(first.slab != last.slab);
  pieces.resize(1);
  pool->Trim();
  CHECK(pool->BytesMapped() == kSlabBytes);
  CHECK(pool->GetSlab(first.slab).ok());
  CHECK(pool->GetSlab(last.slab).code() == Code::kNotFound);
  pieces.clear();
  pool->Trim();
  CHECK(pool->BytesMapped() == 0);
  SlabPool::Location next{};
  Piece piece = pool->TryAllocate(10);
  REQUIRE(pool->Locate(piece.data(), piece.size(), &next));
  CHECK(next.slab > last.slab);
}

TEST_CASE("slabs that were used a moment ago are kept") {
  auto pool = Make(64 << 20, 3600 * kSecond);
  pool->TryAllocate(10).Release();
  pool->Trim();
  CHECK(pool->BytesMapped() == kSlabBytes);
}

TEST_CASE("memory outside the pool is not located") {
  auto pool = Make(64 << 20);
  SlabPool::Location at{};
  uint8_t byte = 0;
  CHECK(!pool->Locate(&byte, 1, &at));
  Piece piece = pool->TryAllocate(kPieceBytesMax);
  CHECK(pool->Locate(piece.data() + 10, 100, &at));
  CHECK(at.offset == 10);
  CHECK(!pool->Locate(piece.data(), kSlabBytes + 1, &at));
  CHECK(!pool->Locate(piece.data() + kSlabBytes, 1, &at));
}

TEST_CASE("a slab's descriptor cannot be resized or written, and holds what the piece holds") {
  auto pool = Make(16 << 20);
  Piece piece = pool->TryAllocate(1000);
  std::memset(piece.data(), 'p', 1000);
  SlabPool::Location at{};
  REQUIRE(pool->Locate(piece.data(), 1000, &at));
  auto slab = pool->GetSlab(at.slab);
  REQUIRE(slab.ok());
  int seals = fcntl(slab->fd, F_GET_SEALS);
  CHECK((seals & (F_SEAL_SHRINK | F_SEAL_GROW)) == (F_SEAL_SHRINK | F_SEAL_GROW));
  char read_back[1000];
  CHECK(pread(slab->fd, read_back, sizeof read_back, static_cast<off_t>(at.offset)) == 1000);
  CHECK(std::string(read_back, 1000) == std::string(1000, 'p'));
  CHECK(pwrite(slab->fd, "x", 1, 0) < 0);
  CHECK(ftruncate(slab->fd, 0) < 0);
}

TEST_CASE("a piece outlives its pool's owner, moves, and trims") {
  auto pool = Make(16 << 20);
  Piece piece = pool->TryAllocate(1000);
  pool.reset();
  piece.Trim(10);
  CHECK(piece.size() == 10);
  std::memset(piece.data(), 1, 10);
  Piece other = std::move(piece);
  CHECK(!piece);
  CHECK(other.size() == 10);
  other = Piece();
  CHECK(!other);
}

TEST_CASE("a forked child may destroy what it inherited and make its own") {
  auto pool = Make(16 << 20);
  Piece piece = pool->TryAllocate(1000);
  std::memset(piece.data(), 'p', 1000);
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    piece.Release();
    pool.reset();
    SlabPool::Options options;
    auto own = SlabPool::Create(options);
    if (!own.ok()) _exit(1);
    Piece fresh = (*own)->TryAllocate(1000);
    if (!fresh) _exit(2);
    std::memset(fresh.data(), 'c', 1000);
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(std::all_of(piece.data(), piece.data() + 1000, [](uint8_t b) { return b == 'p'; }));
}
