#include "bufferd/scrub.h"

#include <algorithm>

#include "base/log.h"
#include "bufferd/verify.h"

namespace perigee::bufferd {
namespace {

constexpr char kRowName[] = "scrub";
constexpr uint64_t kBlocksPerSlice = 4;
constexpr Nanos kRestMost = kSecond;
constexpr Nanos kTick = 60 * kSecond;

}  // namespace

Scrub::Scrub(Core& core, Sealer& sealer, ScrubOptions options, metrics::Registry* r)
    : core_(core),
      sealer_(sealer),
      options_(options),
      bytes_(r->GetCounter("perigee_bufferd_scrub_bytes_total", "Burst file bytes read by scrub")),
      damaged_(
          r->GetCounter("perigee_bufferd_scrub_damaged_total", "Bad burst files found by scrub")),
      lost_(r->GetGauge("perigee_bufferd_scrub_lost",
                        "Bad burst files of the last scrub that were the only copy")),
      running_(r->GetGauge("perigee_bufferd_scrub_running", "1 while a scrub reads")),
      completed_(
          r->GetGauge("perigee_bufferd_scrub_completed_seconds",
                      "When the last whole scrub ended; without one, since when there is none")),
      bucket_(options.rate) {}

Status Scrub::Start() {
  PERIGEE_ASSIGN(auto value, core_.index->GetValue(kRowName));
  bool resumes = false;
  {
    std::lock_guard lock(mu_);
    if (value) {
      PERIGEE_ASSIGN(row_, wire::Decode<ScrubRow>(*value));
    } else {
      row_.since = core_.clock->Wall();
    }
    resumes = row_.report.running;
    pass_++;
    if (resumes) bucket_ = TokenBucket(row_.report.rate);
  }
  if (!value) Save(Durable::kNo);
  Expose();
  if (resumes) Wake();
  if (options_.interval != 0) Tick();
  return Status::Ok();
}

void Scrub::Tick() {
  if (core_.stopping) return;
  bool due;
  {
    std::lock_guard lock(mu_);
    const int64_t last = std::max({row_.since, row_.report.completed, row_.report.started});
    due = !row_.report.running && core_.clock->Wall() - last >= options_.interval;
  }
  if (due) Begin(0);
  (void)core_.work->PostAfter(std::min(kTick, options_.interval), [this] { Tick(); });
}

wire::ScrubReport Scrub::Do(const wire::ScrubRequest& request) {
  if (request.action == wire::ScrubAction::kStart) Begin(request.rate);
  if (request.action == wire::ScrubAction::kStop) {
    bool stopped;
    {
      std::lock_guard lock(mu_);
      stopped = std::exchange(row_.report.running, false);
    }
    if (stopped) Save(Durable::kYes);
  }
  Expose();
  std::lock_guard lock(mu_);
  return row_.report;
}

void Scrub::Begin(uint64_t rate) {
  uint64_t total = 0;
  for (const FilePtr& file : core_.table->All()) {
    std::lock_guard lock(file->mu);
    if (!file->gone && !file->Unsealed()) total += file->rec.size;
  }
  {
    std::lock_guard lock(mu_);
    if (!row_.report.running) {
      ScrubRow fresh;
      fresh.since = row_.since;
      fresh.report.running = true;
      fresh.report.rate = options_.rate;
      fresh.report.started = core_.clock->Wall();
      fresh.report.completed = row_.report.completed;
      fresh.report.bytes_total = total;
      row_ = std::move(fresh);
      pass_++;
      log::Info("scrub_started", {{"bytes", total}});
    }
    if (rate != 0) row_.report.rate = rate;
    bucket_ = TokenBucket(row_.report.rate);
    rest_until_ = 0;
  }
  Save(Durable::kYes);
  Wake();
}

void Scrub::Wake() {
  {
    std::lock_guard lock(mu_);
    if (std::exchange(active_, true)) return;
  }
  Arm(0);
}

void Scrub::Arm(Nanos delay) {
  if (core_.work->PostAfter(delay, [this] { Slice(); }) != 0) return;
  std::lock_guard lock(mu_);
  active_ = false;  // stopping; the next start goes on
}

void Scrub::Slice() {
  if (core_.stopping) return;
  bool fresh;
  Nanos rest;
  {
    std::lock_guard lock(mu_);
    active_ = row_.report.running;
    if (!active_) return;
    fresh = std::exchange(slice_pass_, pass_) != pass_;
    rest = rest_until_ - Now();
  }
  if (fresh) List();
  if (rest <= 0) {
    const uint64_t bytes = ReadSome();
    if (bytes == 0) End();
    std::lock_guard lock(mu_);
    rest = bucket_.Take(bytes, Now());
    if (GoesOnLocked()) rest_until_ = Now() + rest;
  }
  bool save;
  {
    std::lock_guard lock(mu_);
    save = row_.report.running && Now() - saved_at_ >= options_.save_every;
  }
  if (save) Save(Durable::kNo);
  Expose();
  // A long rest is cut, so that another rate or pass is noticed.
  Arm(std::clamp<Nanos>(rest, 0, kRestMost));
}

// The files of this pass that are still to be read.
void Scrub::List() {
  wire::BurstId from;
  {
    std::lock_guard lock(mu_);
    from = row_.burst;
  }
  left_.clear();
  for (const FilePtr& file : core_.table->All())
    if (file->burst >= from) left_.push_back(file->burst);
  std::sort(left_.begin(), left_.end(), std::greater<>());
}

uint64_t Scrub::ReadSome() {
  while (!left_.empty()) {
    const wire::BurstId burst = left_.back();
    uint64_t block = 0, next = 0, bytes = 0;
    {
      std::lock_guard lock(mu_);
      if (!GoesOnLocked()) return 1;
      if (row_.burst == burst) block = row_.block;
    }
    if (FilePtr file = core_.table->Find(burst)) bytes = CheckSome(file, block, &next);
    if (next == 0) left_.pop_back();
    {
      std::lock_guard lock(mu_);
      if (!GoesOnLocked()) return 1;
      row_.burst = next == 0 ? burst + 1 : burst;
      row_.block = next;
    }
    if (bytes > 0) return bytes;
  }
  return 0;
}

uint64_t Scrub::CheckSome(const FilePtr& file, uint64_t block, uint64_t* next) {
  BurstRecord rec;
  std::string name;
  {
    std::lock_guard lock(file->mu);
    if (file->gone || file->lost || file->rec.writing || file->Unsealed() || !file->Whole() ||
        file->rec.generation == 0)
      return 0;
    rec = file->rec;
    name = Core::NameOf(*file);
    // Found before, by a flush or a read.
    if (file->corrupt) {
      if (block == 0) Note(0, true, true, name + " fails its checksums; it is the only copy");
      return 0;
    }
  }
  auto crcs = core_.index->GetCrcs(file->burst);
  if (!crcs.ok() || crcs->generation != rec.generation || crcs->size != rec.size) {
    crcs.status().Ignore();
    // kConflict: it is being opened for writing; its next seal makes them.
    Status made = sealer_.Checksum(file);
    if (!made.ok() && !made.Is(Code::kConflict))
      log::Warn("scrub_read_failed", {{"burst", HexEncode64(file->burst)}, {"cause", made}});
    Note(rec.size, false, false, "");
    return rec.size;
  }
  auto open = core_.store->Open(file->dir, file->burst, OpenMode::kRead);
  if (!open.ok()) {
    open.status().Ignore();  // evicted just now, or the start's scan will say that it is missing
    return 0;
  }
  auto stat = StoreDir::Stat(**open);
  const FileStat sealed{rec.size, rec.mtime, rec.ctime, 0};
  const uint64_t end = std::min(block + kBlocksPerSlice, BlockCount(*crcs));
  auto bad = FindBadBlock(**open, *crcs, block, end);
  const uint64_t bytes =
      std::min(end * kCrcBlockBytes, rec.size) - std::min(block * kCrcBlockBytes, rec.size);
  bool only_copy;
  {
    std::lock_guard lock(file->mu);
    only_copy = file->OnlyCopy();
  }
  // Times that moved mean a late writer, whose bytes are published anew by the flush; bits flip
  // without that.
  const bool rewritten =
      only_copy && core_.store->fine_timestamps() && stat.ok() && !stat->SameTimes(sealed);
  if ((!bad.ok() || *bad) && !rewritten) {
    const uint64_t at = bad.ok() ? **bad : block;
    const Outcome outcome = FoundCorrupt(core_, file, rec.generation, at);
    const bool kept = outcome == Outcome::kKept;
    Note(bytes, outcome != Outcome::kNothing, kept,
         name + ": block " + std::to_string(at) +
             (bad.ok() ? " fails its checksum; " : " cannot be read; ") +
             (kept ? "it is the only copy" : "the copy was dropped"));
    return bytes;
  }
  if (end < BlockCount(*crcs))
    *next = end;
  else
    Note(0, false, false, "");
  std::lock_guard lock(mu_);
  if (GoesOnLocked()) row_.report.bytes += bytes;
  bytes_->Add(static_cast<double>(bytes));
  return bytes;
}

// A file is through.
void Scrub::Note(uint64_t bytes, bool damaged, bool kept, const std::string& finding) {
  bytes_->Add(static_cast<double>(bytes));
  if (damaged) damaged_->Add();
  std::lock_guard lock(mu_);
  if (!GoesOnLocked()) return;
  wire::ScrubReport& r = row_.report;
  r.checked++;
  r.bytes += bytes;
  if (!damaged) return;
  r.damaged++;
  (kept ? r.lost : r.mended)++;
  if (r.findings.size() < wire::kScrubFindingsMax) r.findings.push_back(finding);
}

void Scrub::End() {
  {
    std::lock_guard lock(mu_);
    if (!GoesOnLocked()) return;
    wire::ScrubReport& r = row_.report;
    r.running = false;
    r.ended = r.completed = core_.clock->Wall();
    r.bytes_total = r.bytes;
    log::Info("scrub_ended",
              {{"files", r.checked}, {"bytes", r.bytes}, {"damaged", r.damaged}, {"lost", r.lost}});
  }
  Save(Durable::kYes);
}

// A position need not be synced: what a power cut takes back is read again.
void Scrub::Save(Durable durable) {
  std::string value;
  {
    std::lock_guard lock(mu_);
    value = wire::Encode(row_);
    saved_at_ = Now();
  }
  if (Status saved = core_.index->PutValue(kRowName, value, durable); !saved.ok())
    log::Warn("scrub_position_not_saved", {{"cause", saved}});
}

void Scrub::Expose() {
  std::lock_guard lock(mu_);
  const wire::ScrubReport& r = row_.report;
  lost_->Set(static_cast<double>(r.lost));
  running_->Set(r.running);
  completed_->Set(static_cast<double>(std::max(row_.since, r.completed)) / kSecond);
}

}  // namespace perigee::bufferd
