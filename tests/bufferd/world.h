#pragma once
// World: an engine on a real directory, a fake namespace and object tier, and a manual scheduler;
// with the deaths it has to survive. Waits of the test thread run the scheduler's turns, in manual
// time.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/disk.h"
#include "base/random.h"
#include "base/scheduler.h"
#include "bufferd/batch.h"
#include "bufferd/engine.h"
#include "bufferd/remote_read.h"
#include "fake_objectd.h"
#include "temp_dir.h"

namespace perigee::bufferd {

inline constexpr wire::NodeId kNode = 42;
inline constexpr uint64_t kBig =
    3'000'001;  // beyond the inline limit, not a multiple of a checksum block

inline std::string Bytes(uint64_t seed, size_t n) {
  std::string s(n, '\0');
  Random(seed).Fill(s.data(), n);
  return s;
}

class World {
 public:
  struct Setup {
    uint64_t budget = 1 << 30;
    uint64_t reserve = 1;
    Nanos linger = 2 * kSecond;
    uint64_t seed = 1;
    bool names = false;  // files and names go on while objectd is away
    bool holds = false;  // and in directories that this node holds
  };
  World() : World(Setup{}) {}
  explicit World(Setup s) : setup(s) { Start(); }
  ~World() { Kill(); }

  void Start() {
    sched = ManualScheduler::Create(setup.seed);
    if (setup.names)
      names = std::make_unique<Names>(objectd, &index, sched.get(),
                                      NamesOptions{.node = setup.holds ? kNode : 0});
    meta = std::make_unique<client::MetaClient>(names ? names->guarded() : objectd);
    feed = std::make_unique<client::MetaClient>(objectd);
    registry = metrics::Registry::Create();
    EngineDeps deps{
        .disk = disk.get(),
        .clock = &sched->clock(),
        .work = sched.get(),
        .fill = sched.get(),
        .flush = sched.get(),
        .unlink = sched.get(),
        .poll = sched.get(),
        .index = &index,
        .meta = meta.get(),
        .feed = feed.get(),
        .names = names.get(),
        .blobs = &blobs,
        .make_writer =
            [this](client::BlobWriter::Options o) { return blobs.NewWriter(std::move(o)); },
        .peers = peers,
        .metrics = registry.get()};
    auto made = Engine::Create(
        deps, {.store_dir = dir.path(),
               .node = kNode,
               .boot_id = boot,
               .budget = {.budget_bytes = setup.budget, .reserve_bytes = setup.reserve},
               .flush = {.linger = setup.linger, .in_flight_max = 2}});
    REQUIRE(made.ok());
    engine = std::move(*made);
    REQUIRE(engine->Start().ok());
  }
  void Kill() {  // SIGKILL: nothing is tidied up
    if (!engine) return;
    engine->Stop();
    sched->Stop();
    engine.reset();
    meta.reset();
    feed.reset();
    names.reset();
    sched.reset();
    registry.reset();
  }
  void Restart() {
    Kill();
    Start();
  }
  void Reboot() {  // power loss: the journal's unsynced tail is gone
    Kill();
    index.Crash();
    boot += "'";
    Start();
  }
  void RunFor(Nanos by) { sched->RunFor(by); }
  void Settle() { RunFor(20 * kSecond); }  // seals, syncs, flushes

  Opened Create(const std::string& name) {
    auto o = engine->opener().Create(
        {.parent = wire::kRootId, .name = name, .mode = 0644, .deadline = Soon()});
    REQUIRE(o.ok());
    return std::move(*o);
  }
  Result<Opened> Open(wire::FileId id, wire::Access access = wire::Access::kRead,
                      bool truncate = false, Nanos wait = kSecond) {
    return engine->opener().Open(
        {.id = id, .access = access, .truncate = truncate, .wait_fill = wait, .deadline = Soon()});
  }
  Opened MustOpen(wire::FileId id, wire::Access access = wire::Access::kRead,
                  bool truncate = false) {
    auto o = Open(id, access, truncate);
    if (!o.ok()) FAIL(o.status().ToString());
    return std::move(*o);
  }
  void Release(const Opened& o) { engine->opener().Release(o.file, o.access); }
  void Write(const Opened& o, uint64_t offset, const std::string& bytes) {
    auto fd = engine->store().Descriptor(o.file->dir, o.file->burst, true);
    REQUIRE(fd.ok());
    REQUIRE(::pwrite(fd->get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
            static_cast<ssize_t>(bytes.size()));
  }
  std::string Read(const FilePtr& file) {
    auto fd = engine->store().Descriptor(file->dir, file->burst, false);
    REQUIRE(fd.ok());
    struct stat st;
    REQUIRE(::fstat(fd->get(), &st) == 0);
    std::string bytes(static_cast<size_t>(st.st_size), '\0');
    REQUIRE(::pread(fd->get(), bytes.data(), bytes.size(), 0) == st.st_size);
    return bytes;
  }
  // open, write, close, as a program does; the file's id.
  wire::FileId Save(const std::string& name, const std::string& bytes) {
    Opened o = Create(name);
    Write(o, 0, bytes);
    REQUIRE(engine->Publish(o.file).ok());
    Release(o);
    return o.record.id;
  }
  std::string Load(wire::FileId id) {
    Opened o = MustOpen(id);
    Status filled = engine->filler().Ensure(o.file, {0, UINT64_MAX}, Soon(), false);
    if (!filled.ok()) FAIL(filled.ToString());
    std::string bytes = Read(o.file);
    Release(o);
    return bytes;
  }
  FilePtr Current(wire::FileId id) { return engine->core().table->Current(id); }
  BurstRecord RecordOf(const FilePtr& f) {
    std::lock_guard lock(f->mu);
    return f->rec;
  }
  // What was done to `open` shows in no time, as when a drive flips a bit: the record agrees.
  void HideChange(const FilePtr& f, File& open) {
    auto stat = StoreDir::Stat(open);
    REQUIRE(stat.ok());
    std::lock_guard lock(f->mu);
    f->rec.mtime = stat->mtime;
    f->rec.ctime = stat->ctime;
  }
  wire::BurstState StateOf(wire::FileId id) {
    FilePtr f = Current(id);
    return f ? RecordOf(f).state : wire::BurstState::kAbsent;
  }
  size_t FilesOnDisk() {
    auto found = engine->store().List();
    REQUIRE(found.ok());
    return found->size();
  }
  uint64_t Count(const std::string& name) {
    for (const auto& c : engine->core().stats->Snapshot())
      if (c.name == name) return c.value;
    FAIL("no counter " << name);
    return 0;
  }
  Nanos Soon() { return sched->clock().Monotonic() + 30 * kSecond; }

  TempDir dir;
  Setup setup;
  std::unique_ptr<Disk> disk = CreatePosixDisk();
  MemIndex index;
  std::string boot = "boot";
  std::shared_ptr<FakeObjectd> objectd = std::make_shared<FakeObjectd>();
  FakeBlobs blobs;
  PeerPort* peers = nullptr;
  std::unique_ptr<ManualScheduler> sched;
  std::unique_ptr<Names> names;
  std::unique_ptr<client::MetaClient> meta, feed;
  std::unique_ptr<metrics::Registry> registry;
  std::unique_ptr<Engine> engine;
};

}  // namespace perigee::bufferd
