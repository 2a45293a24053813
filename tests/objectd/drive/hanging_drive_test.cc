#include <atomic>
#include <optional>
#include <thread>

#include "base/event.h"
#include "objectd/drive/guarded_drive.h"
#include "tests/objectd/drive/drive_fixture.h"

namespace perigee::objectd {
namespace {

using Answers = DriveWatch::Answers;

struct Watched final : DriveWatch::Watched {
  explicit Watched(DriveWatch& watch) : watch(watch) { watch.Add(this); }
  ~Watched() override { watch.Remove(this); }
  uint64_t OldestCall() override { return oldest; }
  void Became(Answers now) override {
    answers = now;
    ++told;
  }
  DriveWatch& watch;
  uint64_t oldest = 0;
  Answers answers = Answers::kSoon;
  int told = 0;
};

void LookFor(DriveWatch& watch, Nanos time) {
  for (Nanos passed = 0; passed < time; passed += kSecond / 2) watch.Look(kSecond / 2);
}

// A drive whose segments, or what else, hang while `hanging`.
struct HangingDrive : MemDrive {
  HangingDrive() {
    watch = std::make_shared<DriveWatch>();
    other.emplace(*watch);
    third.emplace(*watch);
    Reopen();
    disk->SetFault([this](std::string_view, const std::string& path) {
      if (hanging && path.find(held_path) != std::string::npos) {
        ++held;
        let_go.Wait();
      }
      return Status::Ok();
    });
  }
  // The threads of tests that failed must end, too.
  ~HangingDrive() {
    let_go.Set();
    drive.reset();
  }

  void AwaitHeld(int count) {
    while (held < count) std::this_thread::yield();
  }
  void Answer() {
    hanging = false;
    let_go.Set();
  }

  std::atomic<bool> hanging = false;
  std::string held_path = "segments";  // changed before `hanging`
  std::atomic<int> held = 0;
  Event let_go;
  std::optional<Watched> other, third;
};

Status WriteOwned(Drive& drive, std::shared_ptr<const TestShard> shard) {
  return drive.WriteShard(shard->header, shard->bytes.span(), nullptr,
                          rdma::TrafficClass::kForeground, shard);
}

}  // namespace

TEST_CASE("a drive that does not answer is late, then hangs, and is back with its last call") {
  DriveWatch watch;
  Watched a(watch), b(watch), c(watch);
  a.oldest = 1;
  LookFor(watch, 2 * kSecond);
  CHECK(a.answers == Answers::kSoon);
  LookFor(watch, kSecond);
  CHECK(a.answers == Answers::kLate);
  LookFor(watch, 8 * kSecond);
  CHECK(a.answers == Answers::kNever);
  a.oldest = 2;  // one ended, another is left
  LookFor(watch, kSecond);
  CHECK(a.answers == Answers::kNever);
  a.oldest = 0;
  LookFor(watch, kSecond);
  CHECK(a.answers == Answers::kSoon);
  CHECK(a.told == 3);
  CHECK((b.told == 0 && c.told == 0));
}

TEST_CASE("a drive that ends its calls is never late, however many wait") {
  DriveWatch watch;
  Watched a(watch), b(watch);
  for (a.oldest = 1; a.oldest < 100; ++a.oldest) watch.Look(kSecond);
  CHECK(a.told == 0);
}

TEST_CASE("when most drives do not answer, it is not them") {
  DriveWatch watch;
  SUBCASE("the only one") {
    Watched a(watch);
    a.oldest = 1;
    LookFor(watch, 60 * kSecond);
    CHECK(a.told == 0);
  }
  SUBCASE("the only one of a node; others have what it has") {
    DriveWatch of_node(DriveWatch::Drives::kOfOneNode);
    Watched a(of_node);
    a.oldest = 1;
    LookFor(of_node, 19 * kSecond);
    CHECK(a.told == 0);
    LookFor(of_node, 2 * kSecond);
    CHECK(a.answers == Answers::kNever);
    a.oldest = 0;
    LookFor(of_node, kSecond);
    CHECK(a.answers == Answers::kSoon);
  }
  SUBCASE("two of four; one of them comes back") {
    Watched a(watch), b(watch), c(watch), d(watch);
    a.oldest = b.oldest = 1;
    LookFor(watch, 60 * kSecond);
    CHECK((a.told == 0 && b.told == 0));
    b.oldest = 0;
    LookFor(watch, kSecond);
    CHECK(a.answers == Answers::kNever);
  }
}

TEST_CASE("a write to a drive that hangs fails once the watch says so, and its bytes stay") {
  HangingDrive h;
  auto shard = std::make_shared<const TestShard>(MakeShard(1, 1, 0, 100 << 10));
  std::weak_ptr<const TestShard> bytes = shard;
  h.hanging = true;
  Status outcome;
  std::thread writer([&] { outcome = WriteOwned(*h.drive, std::exchange(shard, nullptr)); });
  h.AwaitHeld(1);
  LookFor(*h.watch, 12 * kSecond);
  writer.join();
  CHECK(outcome.Is(Code::kUnavailable));
  CHECK_FALSE(h.drive->online());
  CHECK(h.drive->offline_reason().find("hangs") != std::string::npos);
  CHECK_FALSE(bytes.expired());
  // It is offline to all.
  auto second = std::make_shared<const TestShard>(MakeShard(1, 2, 0, 100 << 10));
  CHECK(WriteOwned(*h.drive, second).Is(Code::kUnavailable));
  CHECK(h.drive->DeleteShard({1, 1}, 0).Is(Code::kUnavailable));
  CHECK(h.drive->ReadShard(ReadOf(*second)).code() == Code::kUnavailable);
  CHECK(h.drive->StoredSuperblock().code() == Code::kUnavailable);

  h.Answer();
  while (!bytes.expired()) std::this_thread::yield();
  while (!h.drive->online()) LookFor(*h.watch, kSecond);
  // What was begun was done.
  CHECK(Holds(*h.drive, MakeShard(1, 1, 0, 100 << 10)));
  CHECK(WriteOwned(*h.drive, second).ok());
  CHECK(Holds(*h.drive, *second));
}

TEST_CASE("what a drive had not begun when it hung is not done later") {
  HangingDrive h;
  h.hanging = true;
  constexpr int kWrites = 20;  // more than it has threads
  std::vector<std::thread> writers;
  std::atomic<int> failed = 0;
  for (int i = 0; i < kWrites; ++i) {
    writers.emplace_back([&, i] {
      // Half of them without an owner of their bytes.
      TestShard shard = MakeShard(1, static_cast<uint64_t>(i + 1), 0, 100 << 10);
      Status s = i % 2 == 0 ? WriteOwned(*h.drive, std::make_shared<TestShard>(std::move(shard)))
                            : h.drive->WriteShard(shard.header, shard.bytes.span());
      if (!s.ok()) ++failed;
    });
  }
  h.AwaitHeld(1);
  LookFor(*h.watch, 12 * kSecond);
  h.Answer();
  for (auto& w : writers) w.join();
  while (!h.drive->online()) LookFor(*h.watch, kSecond);
  int there = 0;
  for (int i = 0; i < kWrites; ++i)
    there += Holds(*h.drive, MakeShard(1, static_cast<uint64_t>(i + 1), 0, 100 << 10));
  CHECK(there <= 8);
  CHECK(failed >= kWrites - 8);
}

TEST_CASE("who asks all drives in turn does not wait for one that hangs") {
  HangingDrive h;
  h.held_path = "superblock";
  h.hanging = true;
  CHECK(h.drive->StoredSuperblock().code() == Code::kUnavailable);  // after a second
  CHECK(h.held == 1);
  LookFor(*h.watch, 3 * kSecond);
  CHECK(h.drive->StoredSuperblock().code() == Code::kUnavailable);
  CHECK(h.drive->Space().code() == Code::kUnavailable);
  CHECK(h.held == 1);
  CHECK(h.drive->online());
  h.Answer();
  while (!h.drive->StoredSuperblock().ok()) LookFor(*h.watch, kSecond);
  CHECK(h.drive->Space().ok());
}

TEST_CASE("reads of a drive that is late wait for no thread that others may need") {
  HangingDrive h;
  TestShard shard = MakeShard(1, 1, 0, 100 << 10);
  REQUIRE(h.drive->WriteShard(shard.header, shard.bytes.span()).ok());
  h.hanging = true;
  std::vector<std::thread> readers;
  std::atomic<int> ended = 0, refused = 0;
  for (uint32_t i = 0; i < kGuardedReadsMax + 5; ++i) {
    readers.emplace_back([&] {
      auto read = h.drive->ReadShard(ReadOf(shard));
      if (read.code() == Code::kUnavailable) ++refused;
      ++ended;
    });
  }
  h.AwaitHeld(kGuardedReadsMax);
  CHECK(ended == 0);
  LookFor(*h.watch, 3 * kSecond);
  while (ended < 5) std::this_thread::yield();
  CHECK(refused == 5);
  CHECK(h.drive->online());
  h.Answer();
  for (auto& r : readers) r.join();
  CHECK(ended == kGuardedReadsMax + 5);
  CHECK(refused == 5);
  LookFor(*h.watch, kSecond);
  CHECK(Holds(*h.drive, shard));
}

}  // namespace perigee::objectd
