#include "objectd/drive/segment_set.h"

#include <algorithm>
#include <utility>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/random.h"

namespace perigee::objectd {
namespace {

constexpr uint64_t kGrowBytes = 16 << 20;

// What stays free for the index and the namespace's mirrors: without it a delete could not be
// committed either.
uint64_t ReserveBytes(uint64_t total) {
  uint64_t least = std::min<uint64_t>(64 << 20, total / 8);
  return std::clamp<uint64_t>(total / 50, least, uint64_t{1} << 30);
}

uint64_t NewGeneration(uint64_t old) {
  return (((old >> 32) + 1) << 32) | (SecretU64() & 0xffffffff);
}

}  // namespace

Result<std::unique_ptr<SegmentSet>> SegmentSet::Open(Disk* disk, std::string dir, uint64_t drive_id,
                                                     Options options, metrics::Counter* syncs) {
  std::unique_ptr<SegmentSet> set(new SegmentSet(disk, dir, drive_id, options, syncs));
  PERIGEE_ASSIGN(std::vector<DirEntry> entries, disk->List(dir));
  for (const DirEntry& entry : entries) {
    auto number = ParseSegmentFileName(entry.name);
    if (!number.ok() || entry.is_directory || *number == 0) continue;
    set->next_ = std::max(set->next_, *number + 1);
    const std::string path = dir + "/" + entry.name;
    PERIGEE_ASSIGN(std::unique_ptr<File> file, disk->Open(path, OpenMode::kRead));
    AlignedBuffer page(kPageBytes);
    PERIGEE_ASSIGN(size_t got, file->ReadAt(0, page.span()));
    bool never_used = got < kPageBytes || std::all_of(page.data(), page.data() + kPageBytes,
                                                      [](uint8_t b) { return b == 0; });
    SegmentHeader header{drive_id, *number, 0};
    if (!never_used) {
      auto decoded = DecodeSegmentHeader(page.span());
      if (decoded.code() == Code::kUnimplemented) return decoded.status().With(path);
      if (!decoded.ok() || decoded->drive_id != drive_id || decoded->segment != *number) {
        // Its shards count as missing and are rebuilt elsewhere; the file stays for whoever wants
        // to look.
        log::Error("segment_unreadable",
                   {{"path", path},
                    {"cause", decoded.ok() ? "of another drive" : decoded.status().message()}});
        continue;
      }
      header = *decoded;
    }
    State state;
    state.file = std::make_shared<SegmentFile>(disk, path, header, syncs);
    PERIGEE_ASSIGN(state.allocated, file->Size());
    state.sealed = true;
    state.end = state.allocated;
    state.held = never_used ? 0 : kPageBytes;
    set->used_ += state.held;
    if (never_used) {
      state.closed = true;
      set->reusable_.push_back(*number);
    }
    set->segments_.emplace(*number, std::move(state));
  }
  return set;
}

std::vector<std::shared_ptr<SegmentFile>> SegmentSet::All() {
  std::lock_guard lock(mu_);
  std::vector<std::shared_ptr<SegmentFile>> all;
  for (const auto& [number, state] : segments_)
    if (state.file->header().generation != 0) all.push_back(state.file);
  return all;
}

void SegmentSet::AddLive(const ShardPlace& place) {
  std::lock_guard lock(mu_);
  auto it = segments_.find(place.segment);
  if (it == segments_.end() || it->second.file->header().generation != place.generation) return;
  it->second.live++;
  it->second.held += RecordBytes(place);
  used_ += RecordBytes(place);
}

Status SegmentSet::Close(const SegmentHeader& header, uint64_t end, bool has_footer) {
  std::unique_lock lock(mu_);
  State& state = segments_.at(header.segment);
  state.end = end;
  state.allocated = end + kPageBytes;
  state.held += kPageBytes;
  used_ += kPageBytes;
  if (!has_footer) {
    lock.unlock();
    return SealIfQuiet(header.segment);
  }
  state.closed = true;
  ReuseIfEmptyLocked(header.segment, state);
  return Status::Ok();
}

Result<SegmentSet::Slot> SegmentSet::Reserve(uint64_t bytes) {
  std::unique_lock lock(mu_);
  while (true) {
    if (active_ != 0) {
      State& state = segments_.at(active_);
      if (state.end + bytes <= state.allocated) {
        Slot slot{state.file, state.end, bytes};
        state.pending.insert(state.end);
        state.live++;  // from now on: a delete may come between its index entry and Finish
        state.end += bytes;
        return slot;
      }
    }
    if (changing_) {
      changed_.Wait(lock);
      continue;
    }
    changing_ = true;
    lock.unlock();
    Status outcome = MakeRoom(bytes);
    lock.lock();
    changing_ = false;
    changed_.NotifyAll();
    if (!outcome.ok()) return outcome;
  }
}

Status SegmentSet::MakeRoom(uint64_t bytes) {
  uint32_t active = 0;
  bool fits = false;
  uint64_t need = 0;
  {
    std::lock_guard lock(mu_);
    active = active_;
    if (active != 0) {
      const State& state = segments_.at(active);
      fits = state.end + bytes <= options_.segment_bytes;
      need = state.end + bytes - std::min(state.allocated, state.end + bytes);
    }
  }
  if (fits) return need == 0 ? Status::Ok() : Grow(active, need);
  return Roll(bytes);
}

// How many of the `wanted` bytes there are, at least `least`; `given_back` are freed by the same
// step.
Result<uint64_t> SegmentSet::RoomFor(uint64_t wanted, uint64_t least, uint64_t given_back) {
  uint64_t room = ~uint64_t{0};
  PERIGEE_ASSIGN(SpaceInfo space, disk_->Space(dir_));
  if (space.total_bytes > 0) {
    uint64_t reserve = ReserveBytes(space.total_bytes), have = space.free_bytes + given_back;
    room = have > reserve ? have - reserve : 0;
  }
  if (options_.capacity_bytes > 0) {
    std::lock_guard lock(mu_);
    uint64_t used = used_ - std::min(used_, given_back);
    room = std::min(room, options_.capacity_bytes - std::min(options_.capacity_bytes, used));
  }
  if (room < least) return Status(Code::kNoSpace, "the drive is full: " + dir_);
  return std::min(wanted, room / kPageBytes * kPageBytes);
}

Status SegmentSet::Grow(uint32_t segment, uint64_t need) {
  uint64_t from = 0;
  std::shared_ptr<SegmentFile> file;
  {
    std::lock_guard lock(mu_);
    from = segments_.at(segment).allocated;
    file = segments_.at(segment).file;
  }
  uint64_t wanted = std::max(
      need, std::min(kGrowBytes, options_.segment_bytes - std::min(options_.segment_bytes, from)));
  PERIGEE_ASSIGN(uint64_t step, RoomFor(wanted, need, 0));
  PERIGEE_ASSIGN(File * f, file->Buffered());
  Status outcome = f->Allocate(from, step);
  if (outcome.Is(Code::kNoSpace) && step > need) outcome = f->Allocate(from, step = need);
  if (!outcome.ok()) return outcome;
  std::lock_guard lock(mu_);
  State& state = segments_.at(segment);
  state.allocated = from + step;
  state.held += step;
  used_ += step;
  return Status::Ok();
}

Status SegmentSet::Roll(uint64_t bytes) {
  uint32_t old = 0;
  {
    std::lock_guard lock(mu_);
    old = std::exchange(active_, 0);
    if (old != 0) segments_.at(old).sealed = true;
  }
  if (old != 0) PERIGEE_TRY(SealIfQuiet(old));

  uint32_t number = 0;  // taken out of reusable_ at once: deletes may add to it meanwhile
  uint64_t generation = 0, given_back = 0;
  bool reuse = false;
  {
    std::lock_guard lock(mu_);
    reuse = !reusable_.empty();
    number = reuse ? reusable_.back() : next_;
    if (reuse) {
      reusable_.pop_back();
      generation = segments_.at(number).file->header().generation;
      given_back = segments_.at(number).held;
    }
  }
  const uint64_t need = kPageBytes + bytes;
  auto room =
      RoomFor(std::max(need, std::min(kGrowBytes, options_.segment_bytes)), need, given_back);
  if (!room.ok()) {
    std::lock_guard lock(mu_);
    if (reuse) reusable_.push_back(number);
    return std::move(room).TakeStatus();
  }

  SegmentHeader header{drive_id_, number, NewGeneration(generation)};
  auto file =
      std::make_shared<SegmentFile>(disk_, dir_ + "/" + SegmentFileName(number), header, syncs_);
  PERIGEE_ASSIGN(Made made, MakeFile(file->path(), header, *room, need));

  std::lock_guard lock(mu_);
  if (reuse) {
    used_ -= segments_.at(number).held;  // the old use is over: the file was cut to nothing
    segments_.erase(number);
  } else {
    next_++;
  }
  State state;
  state.file = file;
  state.allocated = state.held = made.bytes;
  state.end = kPageBytes;
  if (made.outcome.ok()) {
    active_ = number;
  } else {
    state.sealed = state.closed = true;
    reusable_.push_back(number);
  }
  used_ += state.held;
  segments_.emplace(number, std::move(state));
  return made.outcome;
}

// The file of a new use: preallocated, with its header. Running out of space is in `outcome`,
// anything else an error.
Result<SegmentSet::Made> SegmentSet::MakeFile(const std::string& path, const SegmentHeader& header,
                                              uint64_t wanted, uint64_t need) {
  PERIGEE_FAILPOINT_STATUS(segment_before_create);
  PERIGEE_ASSIGN(std::unique_ptr<File> file, disk_->Open(path, OpenMode::kCreateOrOpen));
  PERIGEE_TRY(file->Truncate(0));
  Made made;
  made.bytes = wanted;
  made.outcome = file->Allocate(0, wanted);
  if (made.outcome.Is(Code::kNoSpace) && wanted > need)
    made.outcome = file->Allocate(0, made.bytes = need);
  AlignedBuffer page(kPageBytes);
  EncodeSegmentHeader(header, page.span());
  if (made.outcome.ok()) made.outcome = file->WriteAt(0, page.span());
  if (made.outcome.Is(Code::kNoSpace)) {
    made.bytes = 0;
    PERIGEE_TRY(file->Truncate(0));
    return made;
  }
  PERIGEE_TRY(made.outcome);
  // Synced by itself: a record in it is then never without a header, whatever the order in which a
  // power cut keeps pages.
  PERIGEE_TRY(file->SyncData());
  PERIGEE_TRY(disk_->SyncDir(dir_));
  PERIGEE_FAILPOINT(segment_after_create);
  return made;
}

// Writes the footer of a sealed segment once its last writer is through; the rest of its
// preallocation goes back.
Status SegmentSet::SealIfQuiet(uint32_t segment) {
  std::shared_ptr<SegmentFile> file;
  uint64_t end = 0;
  {
    std::lock_guard lock(mu_);
    State& state = segments_.at(segment);
    if (!state.sealed || state.sealing || state.closed || !state.pending.empty())
      return Status::Ok();
    state.sealing = true;
    file = state.file;
    end = state.end;
  }
  AlignedBuffer page(kPageBytes);
  EncodeSegmentFooter(file->header(), end, page.span());
  PERIGEE_ASSIGN(File * f, file->Buffered());
  Status outcome = f->Truncate(end);
  if (outcome.ok()) outcome = f->WriteAt(end, page.span());
  // Not synced: without the footer the next scan checks payloads again, that is all.
  if (outcome.Is(Code::kNoSpace)) outcome = Status::Ok();
  std::lock_guard lock(mu_);
  State& state = segments_.at(segment);
  uint64_t now = end + kPageBytes;
  state.held = state.held + now - state.allocated;
  used_ = used_ + now - state.allocated;
  state.allocated = now;
  state.closed = outcome.ok();
  ReuseIfEmptyLocked(segment, state);
  return outcome;
}

void SegmentSet::ReuseIfEmptyLocked(uint32_t segment, State& state) {
  if (state.closed && state.live == 0 && state.pending.empty() && segment != active_)
    reusable_.push_back(segment);
}

SegmentMark SegmentSet::MarkWith(const Slot& slot) {
  std::lock_guard lock(mu_);
  const SegmentHeader& header = slot.segment->header();
  const State& state = segments_.at(header.segment);
  uint64_t scanned = state.end;
  for (uint64_t offset : state.pending) {
    if (offset == slot.offset) continue;
    scanned = offset;
    break;
  }
  return SegmentMark{header.segment, header.generation, scanned};
}

Status SegmentSet::Finish(const Slot& slot, Outcome outcome) {
  const uint32_t segment = slot.segment->header().segment;
  bool punched = false;
  Status failed;
  if (outcome == Outcome::kDead) {
    auto done = slot.segment->Punch(slot.offset, slot.bytes);
    if (done.ok())
      punched = *done;
    else
      failed = std::move(done).TakeStatus();
  }
  bool sealed = false;
  {
    std::lock_guard lock(mu_);
    State& state = segments_.at(segment);
    state.pending.erase(slot.offset);
    if (outcome == Outcome::kDead) state.live--;
    if (punched) {
      state.held -= slot.bytes;
      used_ -= slot.bytes;
    }
    sealed = state.sealed;
  }
  Status seal = sealed ? SealIfQuiet(segment) : Status::Ok();
  if (!failed.ok()) return failed;
  return seal;
}

Status SegmentSet::Free(const ShardPlace& place) {
  auto file = Find(place.segment, place.generation);
  if (!file) return Status::Ok();
  PERIGEE_ASSIGN(bool punched, file->Punch(place.offset, RecordBytes(place)));
  std::lock_guard lock(mu_);
  State& state = segments_.at(place.segment);
  PERIGEE_CHECK(state.live > 0);
  state.live--;
  if (punched) {
    state.held -= std::min(state.held, RecordBytes(place));
    used_ -= std::min(used_, RecordBytes(place));
  }
  ReuseIfEmptyLocked(place.segment, state);
  return Status::Ok();
}

std::shared_ptr<SegmentFile> SegmentSet::Find(uint32_t segment, uint64_t generation) {
  std::lock_guard lock(mu_);
  auto it = segments_.find(segment);
  if (it == segments_.end() || it->second.file->header().generation != generation) return nullptr;
  return it->second.file;
}

Result<uint32_t> SegmentSet::MendHeaders() {
  uint32_t mended = 0;
  for (const auto& segment : All()) {
    {
      std::unique_lock lock(mu_);
      while (changing_) changed_.Wait(lock);
      changing_ = true;  // no segment is used afresh meanwhile
    }
    Result<bool> outcome = MendHeader(segment);
    {
      std::lock_guard lock(mu_);
      changing_ = false;
      changed_.NotifyAll();
    }
    if (!outcome.ok()) return std::move(outcome).TakeStatus();
    mended += *outcome;
  }
  return mended;
}

Result<bool> SegmentSet::MendHeader(const std::shared_ptr<SegmentFile>& segment) {
  const SegmentHeader& header = segment->header();
  if (Find(header.segment, header.generation) != segment) return false;
  PERIGEE_ASSIGN(File * file, segment->Buffered());
  AlignedBuffer page(kPageBytes);
  PERIGEE_ASSIGN(size_t got, file->ReadAt(0, page.span()));
  if (got == kPageBytes) {
    auto read = DecodeSegmentHeader(page.span());
    if (read.ok() && *read == header) return false;
    read.status().Ignore();  // of whatever kind the damage is
  }
  log::Error("segment_header_mended", {{"path", segment->path()}});
  EncodeSegmentHeader(header, page.span());
  PERIGEE_TRY(file->WriteAt(0, page.span()));
  PERIGEE_TRY(segment->Sync());
  return true;
}

Result<SpaceInfo> SegmentSet::Space() {
  PERIGEE_ASSIGN(SpaceInfo space, disk_->Space(dir_));
  uint64_t reserve = ReserveBytes(space.total_bytes);
  // Preallocated room of the active segment is free room too.
  std::lock_guard lock(mu_);
  uint64_t ahead = active_ == 0 ? 0 : segments_.at(active_).allocated - segments_.at(active_).end;
  uint64_t free = (space.free_bytes > reserve ? space.free_bytes - reserve : 0) + ahead;
  if (options_.capacity_bytes > 0) {
    uint64_t used = used_ - std::min(used_, ahead);
    space.total_bytes = std::min(space.total_bytes, options_.capacity_bytes);
    free = std::min(free, options_.capacity_bytes - std::min(options_.capacity_bytes, used));
  }
  space.free_bytes = std::min(free, space.total_bytes);
  return space;
}

uint64_t SegmentSet::UsedBytes() {
  std::lock_guard lock(mu_);
  return used_;
}

Status SegmentSet::Stop() {
  uint32_t active = 0;
  {
    std::lock_guard lock(mu_);
    active = active_;
    active_ = 0;
    if (active == 0) return Status::Ok();
    segments_.at(active).sealed = true;
  }
  return SealIfQuiet(active);
}

}  // namespace perigee::objectd
