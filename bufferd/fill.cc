#include "bufferd/fill.h"

#include "base/checksum.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "bufferd/piece_crcs.h"

namespace perigee::bufferd {

using rdma::TrafficClass;
using wire::LayoutKind;

void Filler::Start(const FilePtr& file, ByteRange want, uint64_t piece, TrafficClass traffic) {
  for (const ByteRange& absent : file->residency.Find(want, RangeState::kAbsent)) {
    // Pieces end on multiples of their size, so that neighbouring demands do not leave slivers.
    for (uint64_t begin = absent.begin; begin < absent.end;) {
      if (file->fills_in_flight >= kInFlightMax || core_.stopping || file->gone) return;
      uint64_t end = std::min(absent.end, (begin / piece + 1) * piece);
      ByteRange range{begin, end};
      file->residency.Set(range, RangeState::kFilling);
      ++file->fills_in_flight;
      if (Status s =
              core_.fill->Post([this, file, range, traffic] { FillOne(file, range, traffic); });
          !s.ok()) {
        file->residency.Set(range, RangeState::kAbsent);
        --file->fills_in_flight;
        ++file->fill_failures;
        s.Ignore();  // kept for the waiters
        file->fill_error = s;
        file->fill_error.Ignore();
        return;
      }
      begin = end;
    }
  }
}

Status Filler::Ensure(const FilePtr& file, ByteRange range, Nanos deadline, bool ahead) {
  std::unique_lock lock(file->mu);
  if (file->Whole()) return Status::Ok();
  range.end = std::min(range.end, file->rec.size);
  range.begin = std::min(range.begin, range.end);
  if (ahead) {
    tiers::FetchRange want = file->readahead.Ask(range.begin, range.bytes(), file->rec.size);
    file->fill_goal = {want.begin, want.end};
  }
  uint64_t failures = file->fill_failures;
  uint64_t piece = range.bytes() <= kSmallRangeBytes ? kSmallRangeBytes : kRangeBytes;
  ++file->waiting;
  Status outcome;
  while (!file->residency.Readable(range)) {
    if (file->gone) {
      outcome = Status(Code::kStale, "burst file was dropped");
      break;
    }
    if (file->fill_failures != failures) {
      outcome = file->fill_error;
      break;
    }
    if (!file->source) {
      outcome = Status(Code::kInternal, "a copy without a source");
      break;
    }
    Start(file, range, piece, TrafficClass::kForeground);
    if (ahead) Start(file, file->fill_goal, kRangeBytes, TrafficClass::kPrefetch);
    Nanos left = deadline - core_.clock->Monotonic();
    if (left <= 0) {
      outcome = Status(Code::kDeadlineExceeded, "content did not arrive in time");
      break;
    }
    if (file->fill_failures != failures) continue;
    file->changed.WaitFor(lock, left);
  }
  if (outcome.ok() && ahead && !file->gone && file->source)
    Start(file, file->fill_goal, kRangeBytes, TrafficClass::kPrefetch);
  --file->waiting;
  return outcome;
}

void Filler::Prefetch(const FilePtr& file) {
  std::lock_guard lock(file->mu);
  if (file->Whole() || !file->source) return;
  file->fill_goal = {0, file->rec.size};
  Start(file, file->fill_goal, kRangeBytes, TrafficClass::kPrefetch);
}

// Into the burst file, as it comes.
Status Filler::Fetch(const wire::Version& source, wire::FileId id, ByteRange range,
                     TrafficClass traffic, const client::BlobSink& sink) {
  const bool ahead = traffic == TrafficClass::kPrefetch;
  switch (source.layout.kind) {
    case LayoutKind::kBlobs:
      PERIGEE_TRY((ahead ? core_.blobs_ahead : core_.blobs)
                      ->ReadTo(source.layout, source.size, range.begin, range.bytes(), sink));
      core_.stats->bytes_filled_blobs->Add(static_cast<double>(range.bytes()));
      return Status::Ok();
    case LayoutKind::kInline: {
      PERIGEE_ASSIGN(std::string bytes,
                     core_.meta->ReadInline({.id = id, .generation = source.generation}));
      if (bytes.size() != source.size)
        return Status(Code::kCorrupt, "inline content has another length than its record");
      PERIGEE_TRY(sink(range.begin, AsBytes(bytes).subspan(range.begin, range.bytes())));
      core_.stats->bytes_filled_inline->Add(static_cast<double>(range.bytes()));
      return Status::Ok();
    }
    case LayoutKind::kBurst: {
      if (core_.peers == nullptr)
        return Status(Code::kUnavailable, "content is in another node's buffer");
      AlignedBuffer buffer(std::min<uint64_t>(range.bytes(), rdma::kPieceBytesMax));
      for (uint64_t at = range.begin; at < range.end;) {
        MutableBytes piece = buffer.span().first(std::min(range.end - at, buffer.size()));
        wire::BurstReadRequest q{.burst = source.layout.burst,
                                 .id = id,
                                 .generation = source.generation,
                                 .offset = at,
                                 .length = static_cast<uint32_t>(piece.size())};
        PERIGEE_TRY(core_.peers->Read(source.layout.node, q, piece, traffic));
        PERIGEE_TRY(sink(at, piece));
        at += piece.size();
      }
      core_.stats->bytes_filled_peer->Add(static_cast<double>(range.bytes()));
      return Status::Ok();
    }
    case LayoutKind::kCold:
      return Status(Code::kUnimplemented, "content is in a cold tier");
    case LayoutKind::kNone:
      return Status(Code::kInternal, "an empty file needs no fill");
  }
  return Status(Code::kUnimplemented, "content has a layout this build does not know");
}

// The content is elsewhere by now: a burst buffer gave it to the object tier.
bool Filler::Moved(const FilePtr& file, wire::Version* source) {
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    id = file->rec.id;
  }
  auto now = core_.meta->GetAttr({.id = id});
  const bool moved = now.ok() && now->record.committed &&
                     now->record.committed->generation == source->generation &&
                     now->record.committed->layout.kind != source->layout.kind;
  if (!moved) return false;
  *source = *now->record.committed;
  std::lock_guard lock(file->mu);
  if (file->source) file->source = *source;
  return true;
}

void Filler::Measure(uint64_t bytes, Nanos took) {
  if (bytes < (1 << 20) || took <= 0) return;
  // What this range got, times those beside it: the rate a whole fill would see. Readers who go
  // along with a fill slow it down, so the faster ones count for more.
  double now = static_cast<double>(bytes) * 1e9 / static_cast<double>(took) *
               std::max<uint32_t>(1, running_);
  double before = static_cast<double>(rate_.load());
  rate_ = static_cast<uint64_t>(before + (now > before ? 0.5 : 0.02) * (now - before));
}

void Filler::FillOne(const FilePtr& file, ByteRange range, TrafficClass traffic) {
  ++running_;
  wire::Version source;
  wire::FileId id = 0;
  Status s;
  {
    std::lock_guard lock(file->mu);
    id = file->rec.id;
    if (file->gone || !file->source || core_.stopping)
      s = Status(Code::kCancelled, "burst file was dropped");
    else
      source = *file->source;
  }
  Nanos began = core_.clock->Monotonic();
  if (s.ok() && budget_ != nullptr) s = budget_->Admit(range.bytes(), began + 10 * kSecond);
  if (s.ok()) {
    PieceCrcs crcs;
    auto open = core_.store->Open(file->dir, file->burst, OpenMode::kReadWrite);
    auto write = [&](uint64_t offset, ConstBytes bytes) {
      crcs.Add(offset, bytes);
      std::lock_guard lock(file->fill_write);
      return (*open)->WriteAt(offset, bytes);
    };
    s = open.ok() ? Fetch(source, id, range, traffic, write) : open.status();
    if (open.ok() && !s.ok() && Moved(file, &source)) s = Fetch(source, id, range, traffic, write);
    if (s.ok()) {
      std::lock_guard lock(file->mu);
      file->fill_crcs.merge(crcs.Blocks(source.size));
    }
  }
  PERIGEE_FAILPOINT(burst_fill_after_write);
  bool whole = false;
  {
    std::lock_guard lock(file->mu);
    file->residency.Set(range, s.ok() ? RangeState::kResident : RangeState::kAbsent);
    // The last range stays in flight until Finish is through: a writer must not come between.
    whole = s.ok() && !file->gone && file->fills_in_flight == 1 &&
            file->residency.Readable({0, file->rec.size});
    if (!whole) --file->fills_in_flight;
    if (s.ok() && !whole) {
      Start(file, file->fill_goal, kRangeBytes, TrafficClass::kPrefetch);
    } else if (!s.ok()) {
      ++file->fill_failures;
      file->fill_error = s;
      file->fill_error.Ignore();  // kept for the waiters
      file->fill_goal = {};
    }
    file->changed.NotifyAll();
  }
  --running_;
  if (s.ok())
    Measure(range.bytes(), core_.clock->Monotonic() - began);
  else if (!core_.stopping)
    log::Warn("fill_failed",
              {{"burst", HexEncode64(file->burst)}, {"offset", range.begin}, {"error", s}});
  if (whole) {
    if (Status finished = Finish(file); !finished.ok()) {
      log::Error("fill_not_recorded", {{"burst", HexEncode64(file->burst)}, {"error", finished}});
    }
    {
      std::lock_guard lock(file->mu);
      --file->fills_in_flight;
      file->changed.NotifyAll();
    }
    on_whole_(file);
  }
  core_.RetireIfUnneeded(file);
}

// Blocks that came in several ranges are read back for theirs.
Status Filler::FinishCrcs(const FilePtr& file, File& open) {
  BurstCrcs out;
  std::map<uint64_t, uint32_t> known;
  {
    std::lock_guard lock(file->mu);
    known = std::exchange(file->fill_crcs, {});
    out.generation = file->rec.generation;
    out.size = file->rec.size;
  }
  AlignedBuffer block;
  for (uint64_t i = 0; i * kCrcBlockBytes < out.size; ++i) {
    if (auto it = known.find(i); it != known.end()) {
      out.crcs.push_back(it->second);
      continue;
    }
    if (block.size() == 0) block = AlignedBuffer(kCrcBlockBytes);
    const uint64_t at = i * kCrcBlockBytes;
    MutableBytes bytes = block.span().first(std::min<uint64_t>(kCrcBlockBytes, out.size - at));
    PERIGEE_ASSIGN(size_t got, open.ReadAt(at, bytes));
    if (got != bytes.size()) return Status(Code::kCorrupt, "burst file is cut off");
    out.crcs.push_back(Crc32c(bytes));
  }
  return core_.index->PutCrcs(file->burst, out);
}

Status Filler::Finish(const FilePtr& file) {
  PERIGEE_ASSIGN(auto open, core_.store->Open(file->dir, file->burst, OpenMode::kRead));
  int64_t mtime = 0;
  {
    std::lock_guard lock(file->mu);
    if (!file->source) return Status::Ok();
    mtime = file->source->mtime;
  }
  PERIGEE_TRY(FinishCrcs(file, *open));
  PERIGEE_TRY(StoreDir::SetMtime(*open, mtime));
  PERIGEE_ASSIGN(FileStat stat, StoreDir::Stat(*open));
  {
    std::lock_guard lock(file->mu);
    file->rec.mtime = stat.mtime;
    file->rec.ctime = stat.ctime;
    file->SetAllocated(stat.allocated);
    file->source.reset();
  }
  PERIGEE_TRY(core_.Save(file));
  PERIGEE_FAILPOINT(burst_fill_after_record);
  return Status::Ok();
}

}  // namespace perigee::bufferd
