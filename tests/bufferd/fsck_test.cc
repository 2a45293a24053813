// Burst files that nothing names, and burst files that are named and not here.

#include "bufferd/fsck.h"

#include "world.h"

using namespace perigee;
using namespace perigee::bufferd;
using wire::FsckKind;

namespace {

wire::BurstFsckReply Check(World& w, const wire::BurstFsckRequest& q = {}) {
  auto reply = CheckStore(w.engine->core(), w.engine->recovery(), q);
  REQUIRE_MESSAGE(reply.ok(), reply.status().ToString());
  return std::move(*reply);
}

wire::BurstFsckRequest Repair() {
  wire::BurstFsckRequest q;
  q.repair = true;
  return q;
}

}  // namespace

TEST_CASE("fsck finds nothing in a store where all is well, whatever state files are in") {
  World w;
  Opened being_written = w.Create("open");
  wire::FileId clean = w.Save("clean", Bytes(1, kBig));
  w.Settle();
  w.engine->flusher().Hold(true);
  wire::FileId dirty = w.Save("dirty", Bytes(2, kBig));
  wire::FileId fetched = w.objectd->Put("fetched", w.blobs.Store(Bytes(3, kBig)));
  REQUIRE(w.Load(fetched) == Bytes(3, kBig));
  wire::BurstFsckRequest q;
  q.named = {{kNode, being_written.file->burst, being_written.record.id, {}},
             {kNode, w.Current(dirty)->burst, dirty, {}},
             {kNode + 1, 999, dirty, {}}};
  const auto reply = Check(w, q);
  CHECK(reply.findings.empty());
  CHECK(reply.unrecorded.empty());
  CHECK(reply.looked == 4);
  CHECK(w.Current(clean) != nullptr);
}

TEST_CASE(
    "a file without a record is reported, and removed only when the caller knows it unnamed") {
  World w;
  auto dir = w.engine->store().Create(4321);
  REQUIRE(dir.ok());
  auto reply = Check(w);
  REQUIRE(reply.unrecorded.size() == 1);
  CHECK(reply.unrecorded[0] == 4321);
  CHECK(Check(w, Repair()).unrecorded.size() == 1);
  CHECK(w.FilesOnDisk() == 1);
  auto q = Repair();
  q.unnamed = {4321};
  reply = Check(w, q);
  CHECK(reply.unrecorded.empty());
  REQUIRE(reply.findings.size() == 1);
  CHECK(reply.findings[0].kind == FsckKind::kLeakedBurstFile);
  CHECK(reply.findings[0].mended);
  CHECK(w.FilesOnDisk() == 0);
}

TEST_CASE("a file whose record nothing in the namespace names any more is found and removed") {
  World w;
  w.engine->flusher().Hold(true);
  wire::FileId id = w.Save("a", Bytes(1, kBig)), kept = w.Save("b", Bytes(2, kBig));
  w.RunFor(5 * kSecond);
  // As if the event of its release had been lost.
  w.objectd->hold_durable = true;
  w.objectd->Unlink("a");
  auto reply = Check(w);
  REQUIRE(reply.findings.size() == 1);
  CHECK(reply.findings[0].kind == FsckKind::kLeakedBurstFile);
  CHECK(w.Current(id) != nullptr);
  CHECK(Check(w, Repair()).findings.size() == 1);
  CHECK(w.Current(id) == nullptr);
  CHECK(w.Current(kept) != nullptr);
  CHECK(w.FilesOnDisk() == 1);
  CHECK(Check(w).findings.empty());
  w.objectd->LetDurable();
}

TEST_CASE("content that the namespace says is here and is not is reported") {
  World w;
  w.engine->flusher().Hold(true);
  wire::FileId id = w.Save("a", Bytes(1, kBig));
  w.RunFor(5 * kSecond);
  const wire::BurstId burst = w.Current(id)->burst;
  w.engine->core().table->Remove(w.Current(id));
  wire::BurstFsckRequest q;
  q.named = {{kNode, burst, id, {}}};
  const auto reply = Check(w, q);
  REQUIRE(reply.findings.size() == 1);
  CHECK(reply.findings[0].kind == FsckKind::kDanglingReference);
  CHECK(reply.findings[0].remedy == "");
}

TEST_CASE("the namespace away is an error, not a finding") {
  World w;
  w.Save("a", Bytes(1, kBig));
  w.RunFor(5 * kSecond);
  w.objectd->away = true;
  CHECK(CheckStore(w.engine->core(), w.engine->recovery(), {}).code() == Code::kUnavailable);
  w.objectd->away = false;
}
