#include "client/blob/blob_fetch.h"

#include <algorithm>
#include <cstring>

#include "base/checksum.h"
#include "client/blob/busy_retry.h"

namespace perigee::client {

namespace {

// Failures after which the shard may still be there.
bool Away(Code code) { return code != Code::kNotFound && code != Code::kCorrupt; }

Status TakenBack() {
  return Status(Code::kUnavailable, "the server took a shard back while it was read");
}

// Online drives first, then those that may have come back, lost ones last.
int Rank(const VolumeMap& map, uint64_t drive_id) {
  const wire::DriveInfo* drive = map.FindDrive(drive_id);
  if (!drive) return 2;
  switch (drive->state) {
    case wire::DriveState::kOnline:
      return 0;
    case wire::DriveState::kRepairing:
      return 1;
    case wire::DriveState::kOffline:
      return 2;
    case wire::DriveState::kLost:
      break;
  }
  return 3;
}

}  // namespace

BlobFetch::BlobFetch(Deps deps, wire::BlobId blob, const Geometry& geometry,
                     std::vector<uint64_t> drives, std::shared_ptr<const VolumeMap> map,
                     std::shared_ptr<const ErasureCode> code)
    : deps_(std::move(deps)),
      blob_(std::move(blob)),
      geometry_(geometry),
      drives_(std::move(drives)),
      code_(std::move(code)),
      shards_(geometry.k + geometry.m),
      chunks_(size_t{geometry.stripes} * (geometry.k + geometry.m)),
      map_epoch_(map->epoch) {
  PERIGEE_CHECK(drives_.size() >= shards_.size() && code_->k() == geometry_.k);
  std::vector<std::pair<int, bool>> rank(shards_.size());
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    int state = Rank(*map, drives_[i]);
    shards_[i].online = state == 0;
    shards_[i].slow = deps_.pace->Slow(drives_[i]);
    rank[i] = {state, shards_[i].slow};
    preference_.push_back(i);
  }
  // Stable: data before parity, which needs no computing.
  std::stable_sort(preference_.begin(), preference_.end(),
                   [&](uint32_t a, uint32_t b) { return rank[a] < rank[b]; });
}

BlobFetch::~BlobFetch() {
  PERIGEE_CHECK(pending_ == 0);
  status_.Ignore();
  for (Shard& s : shards_) {
    if (s.late) {
      std::lock_guard lock(s.reading->mu);
      s.reading->state = Reading::State::kDropped;
    }
    s.status.Ignore();  // told by Shortage, or made good by other shards
    s.refused.Ignore();
  }
}

void BlobFetch::Want(uint32_t stripe, uint32_t shard, uint32_t begin, uint32_t end, uint8_t* to) {
  PERIGEE_CHECK(to);
  Want(stripe, shard, {.to = to, .begin = begin, .end = end});
}

void BlobFetch::Want(uint32_t stripe, uint32_t shard, uint32_t begin, uint32_t end,
                     uint64_t offset) {
  PERIGEE_CHECK(deps_.sink);
  Want(stripe, shard, {.offset = offset, .begin = begin, .end = end});
}

void BlobFetch::Want(uint32_t stripe, uint32_t shard, const Chunk& wanted) {
  PERIGEE_CHECK(stripe < geometry_.stripes && shard < shards_.size() && wanted.begin < wanted.end);
  At(stripe, shard) = wanted;
  first_stripe_ = std::min(first_stripe_, stripe);
  last_stripe_ = std::max(last_stripe_, stripe);
}

void BlobFetch::MarkForRead(uint32_t stripe, uint32_t shard) {
  Shard& s = shards_[shard];
  At(stripe, shard).state = ChunkState::kReading;
  s.first = std::min(s.first, stripe);
  s.last = std::max(s.last, stripe);
}

// Marks what has to be read for this stripe now; false when nothing is left to read for it, or
// only what is late.
bool BlobFetch::PlanStripe(uint32_t stripe) {
  bool marked = false;
  bool compute = false;
  uint32_t at_hand = 0;
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    Chunk& chunk = At(stripe, i);
    const Shard& shard = shards_[i];
    if (chunk.wanted() && chunk.state == ChunkState::kUnknown && shard.MayBeAsked() &&
        shard.online && !shard.slow) {
      MarkForRead(stripe, i);
      marked = true;
    }
    bool coming =
        chunk.state == ChunkState::kGood || (chunk.state == ChunkState::kReading && !shard.late);
    if (coming) ++at_hand;
    if (chunk.wanted() && !coming) compute = true;
  }
  if (!compute) return marked;
  for (uint32_t i : preference_) {
    if (at_hand >= geometry_.k) break;
    if (At(stripe, i).state != ChunkState::kUnknown || !shards_[i].MayBeAsked()) continue;
    MarkForRead(stripe, i);
    marked = true;
    ++at_hand;
  }
  return marked;
}

// What is wanted of a good chunk, to where it is wanted.
Status BlobFetch::GiveOut(const Chunk& chunk, const uint8_t* data) const {
  const size_t bytes = chunk.end - chunk.begin;
  if (!chunk.to) return (*deps_.sink)(chunk.offset, {data + chunk.begin, bytes});
  std::memcpy(chunk.to, data + chunk.begin, bytes);
  return Status::Ok();
}

BlobFetch::Step BlobFetch::Advance() {
  while (true) {
    TakeArrived();
    JudgeShards();
    for (Shard& s : shards_) {
      if (s.refused.ok()) continue;
      status_ = std::move(s.refused);
      return Step::kFailed;
    }
    if (ReadMore()) return Step::kReading;
    bool late = std::any_of(shards_.begin(), shards_.end(), [](const Shard& s) { return s.late; });
    bool lacks = false;  // what only they may have
    for (uint32_t s = first_stripe_; late && s <= last_stripe_ && !lacks; ++s) lacks = Lacks(s);
    if (!lacks) return Finish();
    if (AwaitLate()) return Step::kReading;
  }
}

// False when there is nothing to read that is not being read.
bool BlobFetch::ReadMore() {
  for (Shard& s : shards_) {
    if (s.late) continue;
    s.first = ~0u;
    s.last = 0;
  }
  bool reading = false;
  for (uint32_t s = first_stripe_; s <= last_stripe_ && first_stripe_ != ~0u; ++s) {
    reading |= PlanStripe(s);
  }
  if (!reading) return false;
  std::vector<uint32_t> to_read;
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    if (shards_[i].first != ~0u && !shards_[i].late) to_read.push_back(i);
  }
  late_at_ = deps_.clock->Monotonic() + deps_.pace->Patience();
  // One more than the reads: this call itself, so that the round cannot end while it still posts.
  pending_ = static_cast<uint32_t>(to_read.size()) + 1;
  for (uint32_t i : to_read) StartReading(i);
  ReadEnded();
  return true;
}

BlobFetch::Step BlobFetch::Finish() {
  for (uint32_t s = first_stripe_; s <= last_stripe_ && first_stripe_ != ~0u; ++s) {
    status_ = Reconstruct(s);
    if (!status_.ok()) return Step::kFailed;
  }
  for (const Shard& s : shards_) {
    for (const rdma::Piece& piece : s.pieces) {
      if (piece.Stands()) continue;
      map_suspect_ = true;  // whoever asks again may get it
      status_ = TakenBack();
      return Step::kFailed;
    }
  }
  return Step::kDone;
}

// Something wanted of the stripe is not there, and cannot be computed.
bool BlobFetch::Lacks(uint32_t stripe) const {
  uint32_t good = 0;
  bool wanted = false;
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    const Chunk& chunk = At(stripe, i);
    if (chunk.state == ChunkState::kGood)
      ++good;
    else
      wanted = wanted || chunk.wanted();
  }
  return wanted && good < geometry_.k;
}

void BlobFetch::StartReading(uint32_t index) {
  Shard& shard = shards_[index];
  wire::ShardReadRequest request;
  request.drive_id = drives_[index];
  request.blob = blob_;
  request.index = index;
  request.offset = geometry_.ChunkOffset(shard.first);
  request.length =
      geometry_.ChunkOffset(shard.last) + geometry_.ChunkBytes(shard.last) - request.offset;
  shard.reading = std::make_shared<Reading>(std::move(request));
  // Late, the task has only its reading and the cluster.
  deps_.pace->Post(drives_[index], [this, index, reading = shard.reading, cluster = deps_.cluster] {
    {
      std::lock_guard lock(reading->mu);
      if (reading->state == Reading::State::kDropped) return;
    }
    auto data = RetryBusy([&] { return cluster->ReadShard(reading->request); });
    {
      std::lock_guard lock(reading->mu);
      switch (reading->state) {
        case Reading::State::kAwaited:
          reading->state = Reading::State::kTaking;
          break;
        case Reading::State::kLate:
          reading->state = Reading::State::kArrived;
          reading->outcome = std::move(data);
          return;
        default:
          data.status().Ignore();
          return;
      }
    }
    Arrived(index, std::move(data));
    ReadEnded();
  });
}

void BlobFetch::Arrived(uint32_t index, Result<ShardData> data) {
  Status sane =
      data.ok() ? CheckReply(index, *data, shards_[index].reading->request.length) : data.status();
  if (sane.ok())
    TakeChunks(index, std::move(data->bytes), data->header.chunk_crcs);
  else
    GiveUpShard(index, std::move(sane));
}

void BlobFetch::LeaveLate() {
  late_at_ = kNever;
  uint32_t left = 0;
  for (Shard& s : shards_) {
    if (!s.reading || s.late) continue;
    std::lock_guard lock(s.reading->mu);
    if (s.reading->state != Reading::State::kAwaited) continue;
    s.reading->state = Reading::State::kLate;
    s.late = true;
    ++left;
  }
  deps_.metrics->LateReads(left);
  while (left-- > 0) ReadEnded();
}

void BlobFetch::TakeArrived() {
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    Shard& s = shards_[i];
    if (!s.late) continue;
    {
      std::lock_guard lock(s.reading->mu);
      if (s.reading->state != Reading::State::kArrived) continue;
    }
    s.late = false;
    Arrived(i, std::move(s.reading->outcome));
  }
}

// Nothing else is left to read. False when some have arrived.
bool BlobFetch::AwaitLate() {
  late_at_ = kNever;
  std::vector<Shard*> late;
  for (Shard& s : shards_) {
    if (!s.late) continue;
    std::lock_guard lock(s.reading->mu);
    if (s.reading->state == Reading::State::kArrived) return false;
    late.push_back(&s);
  }
  pending_ = 1;  // this call, which may find that they have all arrived
  for (Shard* s : late) {
    std::lock_guard lock(s->reading->mu);
    if (s->reading->state == Reading::State::kArrived) continue;
    ++pending_;
    s->reading->state = Reading::State::kAwaited;
    s->late = false;
  }
  ReadEnded();
  return true;
}

Status BlobFetch::CheckReply(uint32_t index, const ShardData& data, uint64_t bytes) const {
  const wire::ShardHeader& h = data.header;
  bool same = h.blob == blob_ && h.index == index && h.k == geometry_.k && h.m == geometry_.m &&
              h.blob_bytes == geometry_.blob_bytes && h.chunk_bytes == geometry_.chunk_bytes &&
              h.chunk_crcs.size() == geometry_.stripes;
  if (!same) return Status(Code::kCorrupt, "header does not fit the blob");
  if (data.bytes.size() != bytes) return Status(Code::kCorrupt, "too few bytes");
  return Status::Ok();
}

// Checks the chunks read and hands out what is wanted of them. Only this task touches this shard
// and its chunks until the round ends.
void BlobFetch::TakeChunks(uint32_t index, rdma::Piece piece, const std::vector<uint32_t>& crcs) {
  Shard& shard = shards_[index];
  const uint64_t begin = geometry_.ChunkOffset(shard.first);
  bool keep = false;
  uint32_t bad = 0;
  std::vector<Chunk*> taken;
  for (uint32_t s = shard.first; s <= shard.last; ++s) {
    Chunk& chunk = At(s, index);
    if (chunk.state != ChunkState::kReading) continue;  // had before, or not needed
    const uint8_t* data = piece.data() + (geometry_.ChunkOffset(s) - begin);
    const uint32_t bytes = geometry_.ChunkBytes(s);
    if (Crc32c({data, bytes}) != crcs[s]) {
      chunk.state = ChunkState::kBad;
      ++bad;
      continue;
    }
    chunk.state = ChunkState::kGood;
    chunk.data = data;
    taken.push_back(&chunk);
    if (chunk.wanted() && shard.refused.ok()) shard.refused = GiveOut(chunk, data);
    // What went out whole can be used from there, so that the piece is free again at once.
    if (chunk.to && chunk.begin == 0 && chunk.end == bytes)
      chunk.data = chunk.to;
    else
      keep = true;
  }
  if (!piece.Stands()) {
    for (Chunk* chunk : taken) chunk->state = ChunkState::kBad;
    return GiveUpShard(index, TakenBack());
  }
  if (bad > 0) {
    deps_.metrics->BadChunks(bad);
    shard.bad = true;
    shard.status = Status(Code::kCorrupt, std::to_string(bad) + " chunks fail their crc");
  }
  if (keep) shard.pieces.push_back(std::move(piece));
}

void BlobFetch::GiveUpShard(uint32_t index, Status status) {
  Shard& shard = shards_[index];
  if (status.Is(Code::kCorrupt)) deps_.metrics->BadChunks(shard.last - shard.first + 1);
  for (uint32_t s = shard.first; s <= shard.last; ++s) {
    Chunk& chunk = At(s, index);
    if (chunk.state == ChunkState::kReading) chunk.state = ChunkState::kBad;
  }
  shard.usable = false;
  shard.status = std::move(status);
}

void BlobFetch::ReadEnded() {
  // `this` may be gone as soon as the driver knows; the callback is a copy for that.
  std::function<void(BlobFetch*)> ended = deps_.round_ended;
  if (pending_.fetch_sub(1) == 1) ended(this);
}

void BlobFetch::JudgeShards() {
  for (Shard& s : shards_) {
    if (s.status.ok() || s.usable) continue;
    // What a drive that is away or being rebuilt lacks is known already.
    if (s.status.Is(Code::kCorrupt) || (s.online && s.status.Is(Code::kNotFound))) s.bad = true;
    // A bad record on a drive that the map knows well is no fault of the map.
    if (s.online && !s.status.Is(Code::kCorrupt)) map_suspect_ = true;
  }
}

Status BlobFetch::Reconstruct(uint32_t stripe) {
  std::vector<uint32_t> present, wanted;
  std::vector<const uint8_t*> chunks;
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    const Chunk& chunk = At(stripe, i);
    bool good = chunk.state == ChunkState::kGood;
    if (good && present.size() < geometry_.k) {
      present.push_back(i);
      chunks.push_back(chunk.data);
    }
    if (!good && chunk.wanted()) wanted.push_back(i);
  }
  if (wanted.empty()) return Status::Ok();
  if (present.size() < geometry_.k) {
    return Shortage(stripe, static_cast<uint32_t>(present.size()));
  }
  const uint32_t bytes = geometry_.ChunkBytes(stripe);
  computed_.resize(std::max(computed_.size(), wanted.size()));
  std::vector<uint8_t*> out(wanted.size());
  auto in_place = [&](const Chunk& chunk) {
    return chunk.to && chunk.begin == 0 && chunk.end == bytes;
  };
  for (size_t w = 0; w < wanted.size(); ++w) {
    const Chunk& chunk = At(stripe, wanted[w]);
    if (!in_place(chunk) && computed_[w].size() < bytes) computed_[w] = AlignedBuffer(bytes);
    out[w] = in_place(chunk) ? chunk.to : computed_[w].data();
  }
  PERIGEE_TRY(code_->Reconstruct(bytes, present, chunks, wanted, out));
  for (size_t w = 0; w < wanted.size(); ++w) {
    const Chunk& chunk = At(stripe, wanted[w]);
    if (!in_place(chunk)) PERIGEE_TRY(GiveOut(chunk, out[w]));
  }
  deps_.metrics->ChunksReconstructed(wanted.size());
  return Status::Ok();
}

Status BlobFetch::Shortage(uint32_t stripe, uint32_t good) {
  std::string what = "blob " + std::to_string(blob_.volume) + "/" + std::to_string(blob_.seq) +
                     ": stripe " + std::to_string(stripe) + " has " + std::to_string(good) +
                     " good chunks of " + std::to_string(geometry_.k) + " needed";
  bool away = false;
  bool all_absent = true;
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    const Status& st = shards_[i].status;
    if (st.ok()) {
      // Avoided, hence never asked; or good.
      all_absent = all_absent && !shards_[i].usable;
      continue;
    }
    what += "; shard " + std::to_string(i) + ": " + st.ToString();
    away = away || Away(st.code());
    all_absent = all_absent && st.Is(Code::kNotFound);
  }
  Code code = away ? Code::kUnavailable : all_absent ? Code::kNotFound : Code::kCorrupt;
  return Status(code, std::move(what));
}

void BlobFetch::Report() const {
  wire::VolumeReportRequest report;
  report.blob = blob_;
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    const Shard& s = shards_[i];
    if (!s.bad) continue;
    report.bad_shards.push_back(i);
    if (report.reason.empty()) report.reason = s.status.ToString();
  }
  if (!report.bad_shards.empty()) deps_.cluster->Report(report);
}

}  // namespace perigee::client
