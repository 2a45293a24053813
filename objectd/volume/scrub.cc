#include "objectd/volume/scrub.h"

#include <algorithm>

#include "base/log.h"
#include "objectd/volume/liveness.h"
#include "objectd/volume/missing_shards.h"
#include "objectd/volume/shard_check.h"

namespace perigee::objectd {
namespace {

constexpr size_t kShardsPerPage = 64;
constexpr size_t kBlobsPerPage = 200;
constexpr uint64_t kBytesPerSlice = 4 << 20;
constexpr Nanos kSettleEvery = kSecond;
constexpr Nanos kRestMost = kSecond;

std::string NameOf(const wire::BlobId& blob, uint32_t index) {
  return "shard " + std::to_string(index) + " of blob " + std::to_string(blob.volume) + "/" +
         std::to_string(blob.seq);
}

}  // namespace

Scrub::Scrub(Options options, Deps deps)
    : options_(options), deps_(std::move(deps)), bucket_(options.rate) {
  if (metrics::Registry* r = deps_.metrics) {
    gauges_.bytes = r->GetCounter("perigee_scrub_bytes_total", "Shard bytes read by scrub");
    gauges_.damaged = r->GetCounter("perigee_scrub_damaged_total", "Bad shards found by scrub");
    gauges_.lost =
        r->GetGauge("perigee_scrub_lost", "Bad shards of the last scrub that could not be rebuilt");
    gauges_.running = r->GetGauge("perigee_scrub_running", "1 while a scrub reads");
    gauges_.completed =
        r->GetGauge("perigee_scrub_completed_seconds",
                    "When the last whole scrub ended; without one, since when there is none");
  }
}

Status Scrub::Load() {
  std::optional<std::string> value;
  auto read = deps_.store->Run([&](kv::Transaction& txn) -> Status {
    PERIGEE_ASSIGN(value, txn.Get(ScrubKey(), kv::ReadMode::kSnapshot));
    return Status::Ok();
  });
  if (!read.ok()) return std::move(read).TakeStatus();
  if (value) {
    std::lock_guard lock(mu_);
    PERIGEE_ASSIGN(row_, DecodeScrubRow(*value));
    if (row_.report.running) bucket_ = TokenBucket(row_.report.rate);
  } else {
    {
      std::lock_guard lock(mu_);
      row_.since = deps_.background->clock().Wall();
    }
    Save(Wait::kNo);
  }
  Expose();
  return Status::Ok();
}

void Scrub::Start() {
  {
    std::lock_guard lock(mu_);
    if (!row_.report.running) return;
  }
  Wake();
}

void Scrub::Tick() {
  if (options_.interval == 0) return;
  {
    std::lock_guard lock(mu_);
    const int64_t last = std::max({row_.since, row_.report.completed, row_.report.started});
    if (row_.report.running || deps_.background->clock().Wall() - last < options_.interval) return;
  }
  Begin(0);
}

wire::ScrubReport Scrub::Do(const wire::ScrubRequest& request) {
  if (request.action == wire::ScrubAction::kStart) Begin(request.rate);
  if (request.action == wire::ScrubAction::kStop) {
    bool stopped = false;
    {
      std::lock_guard lock(mu_);
      stopped = std::exchange(row_.report.running, false);
    }
    if (stopped) Save(Wait::kDurable);
  }
  Expose();
  std::lock_guard lock(mu_);
  return row_.report;
}

void Scrub::Begin(uint64_t rate) {
  const uint64_t total = BytesOnDrives();
  for (const DriveSlot& slot : deps_.drives->Slots()) deps_.repair->Clear(slot.drive_id);
  {
    std::lock_guard lock(mu_);
    if (!row_.report.running) {
      ScrubRow fresh;
      fresh.since = row_.since;
      fresh.report.running = true;
      fresh.report.rate = options_.rate;
      fresh.report.started = deps_.background->clock().Wall();
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
  Save(Wait::kDurable);
  Wake();
}

uint64_t Scrub::BytesOnDrives() const {
  uint64_t total = 0;
  for (const DriveSlot& slot : deps_.drives->Slots()) {
    if (!slot.drive || deps_.table->StateOf(slot.drive_id) != wire::DriveState::kOnline) continue;
    auto bytes = slot.drive->ShardBytes();
    // One that just failed is passed over by the pass, too.
    if (bytes.ok()) total += *bytes;
  }
  return total;
}

void Scrub::Wake() {
  {
    std::lock_guard lock(mu_);
    if (std::exchange(active_, true)) return;
  }
  Arm(0);
}

void Scrub::Arm(Nanos delay) {
  auto gate = deps_.gate;
  Scheduler::TimerId timer = deps_.background->PostAfter(delay, [this, gate] {
    if (!gate->Enter()) return;
    Slice();
    gate->Leave();
  });
  if (timer != 0) return;
  std::lock_guard lock(mu_);
  active_ = false;  // stopping; the next start goes on
}

void Scrub::Slice() {
  {
    std::lock_guard lock(mu_);
    if (slice_pass_ != pass_) settle_until_ = 0;
    slice_pass_ = pass_;
    active_ = row_.report.running;
    if (!active_) return;
  }
  Nanos rest = 0;
  {
    std::lock_guard lock(mu_);
    rest = rest_until_ - Now();
  }
  if (rest <= 0) {
    const uint64_t bytes = ReadSome();
    const bool more = bytes > 0 || CountSome();
    if (!more && Settle()) End();
    std::lock_guard lock(mu_);
    rest = more ? bucket_.Take(bytes, Now()) : kSettleEvery;
    if (GoesOnLocked()) rest_until_ = Now() + rest;
  }
  bool save = false;
  {
    std::lock_guard lock(mu_);
    save = row_.report.running && Now() - saved_at_ >= options_.save_every;
  }
  if (save) Save(Wait::kNo);
  Expose();
  // A long rest is cut, so that another rate or pass is noticed.
  Arm(std::clamp<Nanos>(rest, 0, kRestMost));
}

// The drive of the position, or the first one behind it.
std::shared_ptr<Drive> Scrub::NextDrive() {
  std::shared_ptr<Drive> next;
  std::lock_guard lock(mu_);
  for (const DriveSlot& slot : deps_.drives->Slots()) {
    if (!slot.drive || !slot.drive->online() || slot.drive_id < row_.drive) continue;
    if (deps_.table->StateOf(slot.drive_id) != wire::DriveState::kOnline) continue;
    if (!next || slot.drive_id < next->id()) next = slot.drive;
  }
  if (next && next->id() != row_.drive) {
    row_.drive = next->id();
    row_.blob = {};
    row_.index = 0;
  }
  return next;
}

uint64_t Scrub::ReadSome() {
  uint64_t before = 0, read = 0;
  {
    std::lock_guard lock(mu_);
    before = row_.report.bytes;
  }
  while (read == 0) {
    auto drive = NextDrive();
    if (!drive) return 0;
    wire::BlobId from;
    uint32_t from_index = 0;
    {
      std::lock_guard lock(mu_);
      from = row_.blob;
      from_index = row_.index;
    }
    if (from == wire::BlobId{} && from_index == 0) {
      // It went offline just now, where it fails.
      drive->MendHeaders().status().Ignore();
    }
    auto shards = drive->ListShards(from, kShardsPerPage);
    size_t looked = 0;
    if (shards.ok()) {
      for (const auto& [blob, index] : *shards) {
        if (read >= kBytesPerSlice) break;
        looked++;
        if (blob == from && index < from_index) continue;
        CheckOne(*drive, blob, index);
        std::lock_guard lock(mu_);
        if (!GoesOnLocked()) return 1;
        row_.blob = blob;
        row_.index = index + 1;
        read = row_.report.bytes - before;
      }
    } else {
      shards.status().Ignore();  // it went offline just now
    }
    if (!shards.ok() || (looked == shards->size() && looked < kShardsPerPage)) {
      std::lock_guard lock(mu_);
      if (!GoesOnLocked()) return 1;
      row_.drive = drive->id() + 1;
      row_.blob = {};
      row_.index = 0;
    }
  }
  return read;
}

// Order of the looks: liveness.h.
Scrub::Found Scrub::Look(Drive& drive, const wire::BlobId& blob, uint32_t index, uint64_t* bytes,
                         std::string* why) {
  auto volume = deps_.table->FindVolume(blob.volume);
  if (!volume || index >= volume->drives.size() || volume->drives[index] != drive.id())
    return Found::kUnwanted;  // garbage, which reconciling removes
  auto good = CheckShard(drive, *volume, blob, index);
  if (good.ok()) {
    *bytes = *good;
    return Found::kGood;
  }
  *why = good.status().message();
  if (good.code() == Code::kNotFound) {
    auto missing = MissingShards(*deps_.store, *deps_.drives, *deps_.table, *volume, blob.seq);
    const bool wanted =
        missing.ok() && std::find(missing->begin(), missing->end(), index) != missing->end();
    missing.status().Ignore();
    return wanted ? Found::kBad : Found::kUnwanted;
  }
  if (good.code() != Code::kCorrupt) return Found::kUnknown;
  auto wanted = IsReferenced(*deps_.store, blob.volume, blob.seq);
  if (!wanted.ok()) {
    wanted.status().Ignore();  // the store's own trouble; the next pass looks again
    return Found::kUnknown;
  }
  return *wanted ? Found::kBad : Found::kUnwanted;
}

void Scrub::CheckOne(Drive& drive, const wire::BlobId& blob, uint32_t index) {
  uint64_t bytes = 0;
  std::string why;
  const Found found = Look(drive, blob, index, &bytes, &why);
  {
    std::lock_guard lock(mu_);
    if (!GoesOnLocked()) return;
    row_.report.checked++;
    // What cannot be read costs something too, and moves the position.
    row_.report.bytes += std::max<uint64_t>(bytes, 1);
  }
  if (gauges_.bytes) gauges_.bytes->Add(static_cast<double>(bytes));
  if (found == Found::kBad) FoundBad(drive, blob, index, why);
}

void Scrub::FoundBad(const Drive& drive, const wire::BlobId& blob, uint32_t index,
                     const std::string& why) {
  {
    std::lock_guard lock(mu_);
    if (!GoesOnLocked()) return;
    // Repair takes a bad shard away before it writes the new one; that absence is no second damage.
    const bool known = std::any_of(row_.bad.begin(), row_.bad.end(), [&](const BadShard& shard) {
      return shard.drive == drive.id() && shard.blob == blob && shard.index == index;
    });
    if (known) return;
    row_.report.damaged++;
    if (row_.report.findings.size() < wire::kScrubFindingsMax)
      row_.report.findings.push_back(NameOf(blob, index) + " on " + drive.dir() + ": " + why);
    if (row_.bad.size() < kBadShardsMax)
      row_.bad.push_back({drive.id(), blob, index, {}});
    else
      row_.report.lost++;
  }
  if (gauges_.damaged) gauges_.damaged->Add();
  log::Warn("scrub_found_damage",
            {{"shard", NameOf(blob, index)}, {"dir", drive.dir()}, {"cause", why}});
  deps_.repair->Report({blob, {index}, "scrub: " + why, {}});
}

bool Scrub::CountSome() {
  std::optional<VolumeRecord> volume;
  uint64_t seq = 0;
  {
    std::lock_guard lock(mu_);
    for (const VolumeRecord& record : deps_.table->Volumes())
      if (record.volume >= row_.volume && (!volume || record.volume < volume->volume))
        volume = record;
    if (!volume) return false;
    if (volume->volume == row_.volume) seq = row_.seq;
  }
  auto page = ReferencedBlobs(*deps_.store, volume->volume, seq, kBlobsPerPage);
  if (!page.ok()) {
    page.status().Ignore();  // the store's own trouble: the next slice asks again
    return true;
  }
  for (uint64_t at : page->seqs) {
    auto missing = MissingShards(*deps_.store, *deps_.drives, *deps_.table, *volume, at);
    if (!missing.ok()) {
      missing.status().Ignore();
      return true;
    }
    for (uint32_t index : *missing)
      if (auto drive = deps_.drives->Find(volume->drives[index]))
        FoundBad(*drive, {volume->volume, at}, index, "is missing");
  }
  std::lock_guard lock(mu_);
  if (!GoesOnLocked()) return true;
  row_.volume = page->end ? volume->volume + 1 : volume->volume;
  row_.seq = page->end ? 0 : page->next;
  return true;
}

// Looks at what was bad, until repair has been through with it.
bool Scrub::Settle() {
  std::vector<BadShard> bad;
  {
    std::lock_guard lock(mu_);
    bad = row_.bad;
  }
  if (settle_until_ == 0) settle_until_ = Now() + options_.settle;
  std::vector<BadShard> left;
  uint64_t mended = 0, lost = 0;
  for (const BadShard& shard : bad) {
    auto drive = deps_.drives->Find(shard.drive);
    uint64_t bytes = 0;
    std::string why;
    // Of a drive that has gone, repair makes everything anew.
    const Found found = drive && deps_.table->StateOf(shard.drive) == wire::DriveState::kOnline
                            ? Look(*drive, shard.blob, shard.index, &bytes, &why)
                            : Found::kUnwanted;
    if (found == Found::kGood || found == Found::kUnwanted) {
      mended++;
    } else if (deps_.repair->Unrepairable(shard.blob) || Now() >= settle_until_) {
      lost++;
    } else {
      left.push_back(shard);
      deps_.repair->Report({shard.blob, {shard.index}, "scrub: " + why, {}});
    }
  }
  if (mended > 0) settle_until_ = Now() + options_.settle;
  std::lock_guard lock(mu_);
  if (!GoesOnLocked()) return false;
  row_.report.mended += mended;
  row_.report.lost += lost;
  row_.bad = std::move(left);
  return row_.bad.empty();
}

void Scrub::End() {
  {
    std::lock_guard lock(mu_);
    if (!GoesOnLocked()) return;
    row_.report.running = false;
    row_.report.ended = row_.report.completed = deps_.background->clock().Wall();
    row_.report.bytes_total = row_.report.bytes;
    log::Info("scrub_ended", {{"shards", row_.report.checked},
                              {"bytes", row_.report.bytes},
                              {"damaged", row_.report.damaged},
                              {"mended", row_.report.mended},
                              {"lost", row_.report.lost}});
  }
  Save(Wait::kDurable);
  Expose();
}

// A position need not be durable: what a power cut takes back is read again.
void Scrub::Save(Wait wait) {
  std::string value;
  {
    std::lock_guard lock(mu_);
    value = EncodeScrubRow(row_);
    saved_at_ = Now();
  }
  auto saved = deps_.store->Run([&](kv::Transaction& txn) -> Status {
    txn.Put(ScrubKey(), value);
    return Status::Ok();
  });
  Status outcome = saved.status();
  if (saved.ok() && wait == Wait::kDurable) outcome = deps_.store->WaitDurable(*saved);
  if (!outcome.ok()) log::Warn("scrub_position_not_saved", {{"cause", outcome}});
}

void Scrub::Expose() {
  if (gauges_.lost == nullptr) return;
  std::lock_guard lock(mu_);
  const wire::ScrubReport& r = row_.report;
  gauges_.lost->Set(static_cast<double>(r.lost));
  gauges_.running->Set(r.running);
  gauges_.completed->Set(static_cast<double>(std::max(row_.since, r.completed)) / kSecond);
}

}  // namespace perigee::objectd
