#include "bufferd/budget.h"

#include "world.h"

using namespace perigee;
using namespace perigee::bufferd;
using wire::BurstState;

TEST_CASE(
    "above the high watermark the clean files used longest ago are evicted, never the dirty ones") {
  World w(World::Setup{.budget = 20'000'000});
  std::vector<wire::FileId> ids;
  for (int i = 0; i < 5; ++i) {
    ids.push_back(w.Save("f" + std::to_string(i), Bytes(100 + static_cast<uint64_t>(i), kBig)));
    w.Settle();
  }
  w.Load(ids[0]);  // used again
  wire::FileId dirty = w.Save("dirty", Bytes(200, 6'000'000));
  REQUIRE(w.engine->budget().Poll().ok());
  w.RunFor(100 * kMillisecond);
  CHECK(w.StateOf(dirty) != BurstState::kAbsent);
  CHECK(w.StateOf(ids[1]) == BurstState::kAbsent);
  CHECK(w.StateOf(ids[0]) == BurstState::kClean);
  CHECK(w.engine->budget().used_bytes() <= 17'000'000);
  CHECK(w.Load(ids[1]) == Bytes(101, kBig));
}

TEST_CASE(
    "a full buffer with nothing to evict refuses with kNoSpace after waiting, and takes writes "
    "when there is room") {
  World w(World::Setup{.budget = 4'000'000});
  w.engine->flusher().Hold(true);
  wire::FileId id = w.Save("a", Bytes(1, kBig));
  REQUIRE(w.engine->budget().Poll().ok());
  Opened o = w.Create("b");
  Nanos deadline = w.sched->clock().Monotonic() + kSecond;
  w.Write(o, 0, Bytes(2, 2'000'000));
  REQUIRE(w.engine->budget().Poll().ok());
  CHECK(w.engine->budget().Low());
  CHECK(w.engine->Write(o.file, 2'000'000, AsBytes(Bytes(3, 100'000)), deadline).code() ==
        Code::kNoSpace);
  CHECK(w.engine->opener()
            .Create({.parent = wire::kRootId, .name = "c", .deadline = w.Soon()})
            .code() == Code::kNoSpace);
  w.engine->flusher().Hold(false);
  w.Settle();
  CHECK(w.engine->Write(o.file, 2'000'000, AsBytes(Bytes(3, 100'000)), w.Soon()).ok());
  REQUIRE(w.engine->Publish(o.file).ok());
  w.Release(o);
  o = {};
  w.Settle();
  CHECK(w.Load(id) == Bytes(1, kBig));  // the other one makes room for it
}

TEST_CASE("a file system below the reserve makes space low") {
  World w(World::Setup{.reserve = uint64_t{1} << 60});
  CHECK(w.engine->budget().Low());
  CHECK(w.engine->budget().ShortBytes() > 0);
}

TEST_CASE("a file that a descriptor grew is counted when it is polled") {
  World w;
  Opened o = w.Create("a");
  w.Write(o, 0, Bytes(4, kBig));
  uint64_t before = w.engine->budget().used_bytes();
  REQUIRE(w.engine->budget().Poll().ok());
  CHECK(w.engine->budget().used_bytes() >= before + kBig - 4096);
  w.Release(o);
}

TEST_CASE("a removed file gives its space back") {
  World w;
  wire::FileId id = 0;
  SUBCASE("a big one") { id = w.Save("a", Bytes(5, kBig)); }
  SUBCASE("a small one, before the namespace was synced") {
    w.objectd->lose_reply = wire::Method::kMetaSync;
    id = w.Save("a", "small");
  }
  w.RunFor(500 * kMillisecond);
  REQUIRE(w.engine->budget().used_bytes() > 0);
  wire::Record record = w.objectd->Get(id);
  w.objectd->Unlink("a");
  w.engine->OnUnlinked(record);
  w.Settle();
  CHECK(w.engine->budget().used_bytes() == 0);
  CHECK(w.FilesOnDisk() == 0);
}

TEST_CASE("a file that was removed takes no space from those who do not have it open") {
  World w;
  wire::FileId id = w.Save("a", Bytes(6, kBig));
  w.Settle();
  FilePtr still_known = w.Current(id);
  wire::Record record = w.objectd->Get(id);
  w.objectd->Unlink("a");
  w.engine->OnUnlinked(record);
  w.RunFor(kMillisecond);  // removed beside
  CHECK(w.engine->budget().used_bytes() == 0);
}

TEST_CASE("an evicted but open file is counted until it is closed") {
  World w;
  wire::FileId id = w.Save("a", Bytes(5, kBig));
  w.Settle();
  Opened o = w.MustOpen(id);
  std::string why;
  REQUIRE(w.engine->evictor().Evict(o.file, &why));
  CHECK(w.engine->budget().used_bytes() >= kBig);
  w.Release(o);
  o = {};
  CHECK(w.engine->budget().used_bytes() < kBig);
}
