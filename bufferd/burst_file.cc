#include "bufferd/burst_file.h"

namespace perigee::bufferd {

using wire::BurstState;
using wire::Durability;

BurstFile::BurstFile(BurstRecord record, std::shared_ptr<std::atomic<uint64_t>> allocated_total)
    : burst(record.burst),
      dir(record.dir),
      rec(std::move(record)),
      allocated_total_(std::move(allocated_total)) {
  if (rec.whole) {
    residency.Set({0, rec.size},
                  rec.home == Home::kBurst ? RangeState::kDirty : RangeState::kResident);
  } else {
    for (size_t i = 0; i + 1 < rec.resident.size(); i += 2) {
      residency.Set({rec.resident[i], rec.resident[i + 1]}, RangeState::kResident);
    }
  }
}

BurstFile::~BurstFile() { allocated_total_->fetch_sub(allocated_); }

void BurstFile::OnlyHere(uint64_t generation, bool synced) {
  rec.registered = false;
  rec.generation = rec.writer_generation = generation;
  rec.home = Home::kBurst;
  rec.durability = synced ? wire::Durability::kLocal : wire::Durability::kUnsynced;
  rec.synced_generation = synced ? generation : 0;
  source.reset();
  residency.Change(RangeState::kResident, RangeState::kDirty);
}

void BurstFile::SetAllocated(uint64_t bytes) {
  allocated_total_->fetch_add(bytes - allocated_);  // wraps correctly when it shrinks
  allocated_ = bytes;
}

bool BurstFile::Whole() const {
  if (rec.writing || rec.home == Home::kNone || rec.home == Home::kBurst) return true;
  return residency.Readable({0, rec.size});
}

bool BurstFile::OnlyCopy() const {
  if (rec.home == Home::kBurst) return true;
  return rec.home == Home::kInline && rec.durability != Durability::kObject;
}

BurstState BurstFile::Settled() const {
  return OnlyCopy() ? BurstState::kSealed : BurstState::kClean;
}

bool BurstFile::Evictable(std::string* why) const {
  auto no = [&](const char* reason) {
    if (why != nullptr) *why = reason;
    return false;
  };
  if (gone) return no("already gone");
  if (writers > 0) return no("open for writing");
  if (Unsealed()) return no("not sealed yet: something may still write to it");
  if (rec.state == BurstState::kFlushing) return no("being flushed");
  if (rec.state != BurstState::kClean || OnlyCopy()) return no("not in the object tier yet");
  if (busy) return no("busy");
  if (rec.pinned) return no("pinned");
  if (waiting > 0 || fills_in_flight > 0) return no("being filled");
  if (readers > 0 && !Whole()) return no("open for reading, not wholly fetched");
  return true;
}

bool BurstFile::Flushable() const {
  return !gone && !busy && writers == 0 && rec.state == BurstState::kSealed &&
         rec.home == Home::kBurst && rec.registered && !superseded && !orphan && !corrupt &&
         !needs_reconcile;
}

wire::BurstStatReply BurstFile::Describe() const {
  wire::BurstStatReply r;
  r.id = rec.id;
  r.burst = burst;
  r.state = rec.state;
  r.durability = rec.durability;
  r.size = rec.size;
  r.resident_bytes = residency.Bytes(RangeState::kResident) + residency.Bytes(RangeState::kDirty);
  r.dirty_bytes = OnlyCopy() || rec.writing ? rec.size : 0;
  r.allocated_bytes = allocated_;
  r.mtime = rec.mtime;
  r.pinned = rec.pinned;
  r.readers = readers;
  r.writers = writers;
  r.generation = rec.generation;
  return r;
}

BurstRecord BurstFile::ToStore() const {
  BurstRecord out = rec;
  out.resident.clear();
  out.whole = Whole();
  if (!out.whole) {
    for (const ByteRange& r : residency.Find({0, rec.size}, RangeState::kResident)) {
      out.resident.push_back(r.begin);
      out.resident.push_back(r.end);
    }
  }
  return out;
}

BusyHold::BusyHold(FilePtr file) : file_(std::move(file)) {
  std::unique_lock lock(file_->mu);
  file_->changed.Wait(lock, [&] { return !file_->busy || file_->gone; });
  if (file_->gone) return;
  file_->busy = true;
  held_ = true;
}

BusyHold::BusyHold(FilePtr file, Try) : file_(std::move(file)) {
  std::lock_guard lock(file_->mu);
  if (file_->gone || file_->busy) return;
  file_->busy = true;
  held_ = true;
}

BusyHold::~BusyHold() {
  if (!held_) return;
  std::lock_guard lock(file_->mu);
  file_->busy = false;
  file_->changed.NotifyAll();
}

}  // namespace perigee::bufferd
