// Seeded flips and truncations of burst files and of their journal: detected or harmless, and
// nothing wrong reaches the object tier, a peer, or an open after a scrub or a reboot.
// PERIGEE_FLIPS is how many.

#include <filesystem>

#include "tests/flip_count.h"
#include "world.h"

using namespace perigee;
using namespace perigee::bufferd;
using wire::LayoutKind;

namespace {

namespace fs = std::filesystem;

struct Content {
  wire::FileId id;
  std::string bytes;
};

// Without moving times, as a drive does.
void Damage(World& w, wire::FileId id, Random& random) {
  FilePtr f = w.Current(id);
  REQUIRE(f);
  auto open = w.engine->store().Open(f->dir, f->burst, OpenMode::kReadWrite);
  REQUIRE(open.ok());
  const uint64_t size = *(*open)->Size();
  if (random.OneIn(6)) {
    REQUIRE((*open)->Truncate(random.Below(size)).ok());
  } else {
    const uint64_t at = random.Below(size);
    uint8_t byte = 0;
    REQUIRE((*open)->ReadAt(at, {&byte, 1}).ok());
    byte ^= static_cast<uint8_t>(1 << random.Below(8));
    REQUIRE((*open)->WriteAt(at, {&byte, 1}).ok());
  }
  w.HideChange(f, **open);
  REQUIRE(w.engine->core().Save(f).ok());
  REQUIRE(w.index.Sync().ok());
}

// The bytes, or an error.
void ReadsRightOrFails(World& w, const Content& c) {
  auto opened = w.Open(c.id);
  if (!opened.ok()) {
    CHECK(opened.code() == Code::kCorrupt);
    return;
  }
  Status filled = w.engine->filler().Ensure(opened->file, {0, UINT64_MAX}, w.Soon(), false);
  CHECK(filled.ok());
  CHECK(w.Read(opened->file) == c.bytes);
  w.Release(*opened);
}

void PeerReadsRightOrFails(World& w, const Content& c) {
  FilePtr f = w.Current(c.id);
  if (!f) return;
  const BurstRecord rec = w.RecordOf(f);
  std::string out(c.bytes.size(), '\0');
  Status read =
      ReadBurst(w.engine->core(), {.burst = rec.burst, .id = c.id, .generation = rec.generation},
                {reinterpret_cast<uint8_t*>(out.data()), out.size()});
  if (read.ok()) CHECK(out == c.bytes);
}

}  // namespace

TEST_CASE("flips of burst files never get anywhere") {
  const uint64_t count = FlipCount(40);
  uint64_t found = 0;
  for (uint64_t seed = 1; seed <= count; seed++) {
    CAPTURE(seed);
    Random random(seed);
    World w;
    std::vector<Content> files;
    for (int i = 0; i < 2; i++) {
      const std::string bytes = Bytes(seed * 10 + i, 100'000 + random.Below(1'100'000));
      files.push_back({w.Save("clean" + std::to_string(i), bytes), bytes});
    }
    w.Settle();
    const std::string other = Bytes(seed * 10 + 5, 20'000 + random.Below(1'500'000));
    files.push_back({w.objectd->Put("fetched", w.blobs.Store(other)), other});
    REQUIRE(w.Load(files.back().id) == other);
    w.engine->flusher().Hold(true);
    for (int i = 0; i < 2; i++) {
      const std::string bytes = Bytes(seed * 10 + 7 + i, 100'000 + random.Below(1'100'000));
      files.push_back({w.Save("dirty" + std::to_string(i), bytes), bytes});
    }
    w.Settle();
    Damage(w, files[random.Below(files.size())].id, random);
    switch (random.Below(4)) {
      case 0:  // the only copies go down
        w.engine->flusher().Hold(false);
        w.Settle();
        break;
      case 1:
        w.engine->scrub().Do({.action = wire::ScrubAction::kStart, .rate = 1 << 30});
        REQUIRE(w.sched->RunUntil([&] { return !w.engine->scrub().Do({}).running; }));
        for (const Content& c : files) ReadsRightOrFails(w, c);
        break;
      case 2:
        w.Reboot();
        w.engine->flusher().Hold(true);
        w.RunFor(10 * kSecond);
        for (const Content& c : files) ReadsRightOrFails(w, c);
        break;
      case 3:
        for (const Content& c : files) PeerReadsRightOrFails(w, c);
        w.Restart();
        w.Settle();
        for (const Content& c : files) PeerReadsRightOrFails(w, c);
        break;
    }
    found += w.Count("corrupt_files") + w.Count("evicted_files");
    for (const Content& c : files) {
      const wire::Version v = *w.objectd->Get(c.id).committed;
      if (v.layout.kind == LayoutKind::kBlobs) CHECK(w.blobs.BytesOf(v) == c.bytes);
    }
  }
  CHECK(found > count / 8);  // the others were harmless, or found by their length
}

TEST_CASE("flips of the journal of burst files never change what it says") {
  const uint64_t count = FlipCount(40);
  uint64_t refused = 0, shorter = 0, silent = 0;
  for (uint64_t seed = 1; seed <= count; seed++) {
    CAPTURE(seed);
    Random random(seed);
    TempDir dir;
    std::map<wire::BurstId, std::string> written;
    {
      auto index = OpenRocksIndex({.dir = dir.path() + "/index"});
      REQUIRE(index.ok());
      for (wire::BurstId b = 1; b <= 40; b++) {
        BurstRecord rec;
        rec.burst = b;
        rec.id = 100 + b;
        rec.generation = random.Next();
        rec.size = random.Next();
        rec.boot = "boot";
        written[b] = EncodeRecord(rec);
        REQUIRE((*index)->Put(rec, Durable::kNo).ok());
        REQUIRE((*index)->PutCrcs(b, {.generation = rec.generation, .crcs = {1, 2, 3}}).ok());
      }
      REQUIRE((*index)->Sync().ok());
    }
    std::vector<fs::path> paths;
    for (const auto& entry : fs::directory_iterator(dir.path() + "/index"))
      if (entry.is_regular_file() && entry.file_size() > 0 && entry.path().filename() != "LOG")
        paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    const fs::path path = paths[random.Below(paths.size())];
    auto disk = CreatePosixDisk();
    {
      auto file = disk->Open(path.string(), OpenMode::kReadWrite);
      REQUIRE(file.ok());
      const uint64_t at = random.Below(fs::file_size(path));
      uint8_t byte = 0;
      REQUIRE((*file)->ReadAt(at, {&byte, 1}).ok());
      byte ^= static_cast<uint8_t>(1 << random.Below(8));
      REQUIRE((*file)->WriteAt(at, {&byte, 1}).ok());
    }
    INFO(path.string());
    auto index = OpenRocksIndex({.dir = dir.path() + "/index"});
    if (!index.ok()) {
      index.status().Ignore();
      refused++;
      continue;
    }
    size_t seen = 0;
    Status all = (*index)->ForEach([&](BurstRecord rec) {
      seen++;
      CHECK(EncodeRecord(rec) == written[rec.burst]);
    });
    if (!all.ok()) {
      refused++;
      continue;
    }
    shorter += seen < written.size();
    silent += seen < written.size() && !(*index)->damaged();
  }
  MESSAGE(refused << " of " << count << " flips refused, " << shorter << " lost records");
  CHECK(refused > 0);
  CHECK(silent == 0);  // all of it was synced
}
