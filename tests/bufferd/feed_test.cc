#include "bufferd/feed.h"

#include "world.h"

using namespace perigee;
using namespace perigee::bufferd;

TEST_CASE("a released burst file is freed once the release is durable, not before") {
  World w;
  w.Save("a", Bytes(1, kBig));
  w.RunFor(kSecond);
  w.objectd->hold_durable = true;
  w.objectd->Unlink("a");
  w.Settle();
  CHECK(w.FilesOnDisk() == 1);
  w.objectd->LetDurable();
  w.Settle();
  CHECK(w.FilesOnDisk() == 0);
  CHECK(w.Count("released_files") == 1);
}

TEST_CASE("a clean copy of what was removed elsewhere goes, too") {
  World w;
  w.Save("a", Bytes(1, kBig));
  w.Settle();
  REQUIRE(w.Count("files_flushed") == 1);
  w.objectd->hold_durable = true;
  w.objectd->Unlink("a");
  w.Settle();
  CHECK(w.FilesOnDisk() == 1);
  w.objectd->LetDurable();
  w.Settle();
  CHECK(w.FilesOnDisk() == 0);
}

TEST_CASE("a burst file that the namespace still names survives a release event") {
  World w;
  wire::FileId id = w.Save("a", Bytes(2, kBig));
  w.RunFor(kSecond);
  REQUIRE(w.engine->recovery().Released(w.Current(id), Recovery::Release::kDurable, *w.feed).ok());
  CHECK(w.FilesOnDisk() == 1);
  w.Settle();
  CHECK(w.Load(id) == Bytes(2, kBig));
}

TEST_CASE("a released burst file that is open goes with its last handle") {
  World w;
  wire::FileId id = w.Save("a", Bytes(3, kBig));
  w.RunFor(kSecond);
  Opened o = w.MustOpen(id);
  w.objectd->Unlink("a");
  w.Settle();
  CHECK(w.Read(o.file) == Bytes(3, kBig));
  w.Release(o);
  w.RunFor(kMillisecond);  // removed beside
  CHECK(w.FilesOnDisk() == 0);
}

TEST_CASE("the feed's position survives a restart, and releases made meanwhile are seen") {
  World w;
  w.Save("a", Bytes(4, kBig));
  w.Save("b", Bytes(5, kBig));
  w.RunFor(kSecond);
  w.objectd->Unlink("a");
  w.Settle();
  REQUIRE(w.FilesOnDisk() == 1);
  w.Kill();
  w.objectd->Unlink("b");
  w.Start();
  w.Settle();
  CHECK(w.FilesOnDisk() == 0);
}

TEST_CASE("a lost feed makes every file be asked about again") {
  World w;
  w.engine->flusher().Hold(true);
  w.Save("a", Bytes(6, kBig));
  wire::FileId kept = w.Save("b", Bytes(7, kBig));
  w.Save("c", Bytes(8, kBig));
  w.RunFor(kSecond);
  w.objectd->Unlink("c");  // so that there is a position to be too old
  w.Settle();
  w.objectd->away = true;
  w.RunFor(15 * kSecond);  // the poll under way ends
  w.objectd->Unlink("a");
  w.objectd->ForgetFeed();
  w.objectd->away = false;
  w.RunFor(60 * kSecond);
  CHECK(w.FilesOnDisk() == 1);
  CHECK(w.Load(kept) == Bytes(7, kBig));
}
