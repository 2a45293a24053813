// BlobReader. The caller's thread keeps a few BlobFetches going, reconstructs for those whose reads
// have ended, and waits for the rest; the pool reads shards, checks them and copies them out.

#include <algorithm>
#include <list>
#include <mutex>

#include "base/checksum.h"
#include "base/event.h"
#include "client/blob/blob_fetch.h"
#include "client/blob/blob_io.h"
#include "client/blob/blob_metrics.h"
#include "client/blob/extent_map.h"
#include "client/ec/code_cache.h"

namespace perigee::client {

namespace {

constexpr size_t kBlobsInFlight = 4;
constexpr Nanos kMemoryTimeout = 30 * kSecond;

// Fetches of one Read, and the wait for any of them.
class Board {
 public:
  std::function<void(BlobFetch*)> Notifier() {
    return [this](BlobFetch* fetch) {
      std::lock_guard lock(mu_);
      fetch->idle = true;
      ended_.NotifyAll();
    };
  }
  void Busy(BlobFetch& fetch) {
    std::lock_guard lock(mu_);
    fetch.idle = false;
  }
  // One that is idle. Those whose reads are late meanwhile are told to leave them; with `stop`,
  // all.
  template <class List, class Project>
  auto AwaitIdle(List& list, Project fetch_of, Clock& clock, bool stop) {
    std::unique_lock lock(mu_);
    while (true) {
      const Nanos now = clock.Monotonic();
      Nanos next = BlobFetch::kNever;
      BlobFetch* late = nullptr;
      for (auto it = list.begin(); it != list.end(); ++it) {
        BlobFetch& fetch = fetch_of(*it);
        if (fetch.idle) return it;
        if (fetch.late_at() <= now || (stop && fetch.late_at() != BlobFetch::kNever)) late = &fetch;
        next = std::min(next, fetch.late_at());
      }
      if (late != nullptr) {
        lock.unlock();
        late->LeaveLate();
        lock.lock();
      } else {
        ended_.WaitFor(lock, next == BlobFetch::kNever ? next : next - now);
      }
    }
  }

 private:
  std::mutex mu_;  // guards `idle` of the fetches
  CondVar ended_;
};

class Reader final : public BlobReader {
 public:
  explicit Reader(BlobIoDeps deps)
      : deps_(std::move(deps)),
        metrics_(deps_.metrics),
        pace_(DrivePace::Create(deps_.shard_pool, deps_.clock)) {}
  Status Read(const wire::Layout& layout, uint64_t size, uint64_t offset,
              MutableBytes out) override;
  Status ReadTo(const wire::Layout& layout, uint64_t size, uint64_t offset, uint64_t bytes,
                const BlobSink& sink) override;
  Result<std::vector<ShardData>> Rebuild(const wire::VolumeInfo& volume, uint64_t seq,
                                         const std::vector<uint32_t>& missing) override;

 private:
  struct Active {
    BlobPart part;
    std::unique_ptr<BlobFetch> fetch;
    bool second_try = false;
  };
  using Map = std::shared_ptr<const VolumeMap>;
  // Where a range goes: into memory, or to a sink, as the bytes from `offset` on.
  struct Target {
    uint8_t* memory = nullptr;
    const BlobSink* sink = nullptr;
    uint64_t offset = 0;
  };

  Result<Map> MapWith(uint32_t volume);
  BlobFetch::Deps FetchDeps(Board& board, const BlobSink* sink) const {
    return {deps_.cluster, pace_.get(), deps_.clock, &metrics_, board.Notifier(), sink};
  }
  Result<std::unique_ptr<BlobFetch>> FetchPart(Board& board, const Map& map, const BlobPart& part,
                                               const Target& target);
  Status ReadParts(const std::vector<BlobPart>& parts, const Target& target);
  Status ReadRange(const wire::Layout& layout, uint64_t size, uint64_t offset, uint64_t bytes,
                   const Target& target);
  Result<std::vector<wire::ShardHeader>> SurvivingHeaders(const wire::VolumeInfo& volume,
                                                          uint64_t seq,
                                                          const std::vector<uint32_t>& missing);
  Result<std::vector<ShardData>> RebuildAs(const wire::VolumeInfo& volume,
                                           const wire::ShardHeader& like, const Map& map,
                                           const std::vector<uint32_t>& missing);

  const BlobIoDeps deps_;
  const BlobMetrics metrics_;
  const std::shared_ptr<DrivePace> pace_;
  CodeCache codes_;
};

// Only what the code and the format allow; the rest is a map gone wrong.
bool Sane(const wire::VolumeInfo& v) {
  return v.k >= 1 && v.k <= kDataShardsMax && v.m <= kParityShardsMax &&
         v.drives.size() == v.k + v.m;
}

Result<Reader::Map> Reader::MapWith(uint32_t volume) {
  PERIGEE_ASSIGN(Map map, deps_.cluster->Map());
  if (!map->Find(volume)) {
    PERIGEE_ASSIGN(map, deps_.cluster->Map(map->epoch + 1));
  }
  const wire::VolumeInfo* info = map->Find(volume);
  if (!info) return Status(Code::kCorrupt, "no volume " + std::to_string(volume));
  if (!Sane(*info)) return Status(Code::kCorrupt, "odd volume " + std::to_string(volume));
  return map;
}

Result<std::unique_ptr<BlobFetch>> Reader::FetchPart(Board& board, const Map& map,
                                                     const BlobPart& part, const Target& target) {
  const wire::VolumeInfo& volume = *map->Find(part.blob.volume);
  if (part.blob_bytes > FullBlobBytes(volume.k)) {
    return Status(Code::kCorrupt, "a blob larger than its volume's profile allows");
  }
  Geometry g = Geometry::Of(part.blob_bytes, volume.k, volume.m);
  PERIGEE_ASSIGN(auto code, codes_.Get(g.k, g.m));
  auto fetch = std::make_unique<BlobFetch>(FetchDeps(board, target.sink), part.blob, g,
                                           volume.drives, map, std::move(code));
  const uint64_t end = part.offset + part.length;
  const uint64_t stripe_data = uint64_t{g.chunk_bytes} * g.k;
  for (uint64_t at = part.offset; at < end;) {
    uint32_t stripe = static_cast<uint32_t>(at / stripe_data);
    uint64_t in_stripe = at - g.StripeOffset(stripe);
    uint32_t chunk_bytes = g.ChunkBytes(stripe);
    uint32_t begin = static_cast<uint32_t>(in_stripe % chunk_bytes);
    uint32_t run = static_cast<uint32_t>(std::min<uint64_t>(chunk_bytes - begin, end - at));
    const uint32_t chunk = static_cast<uint32_t>(in_stripe / chunk_bytes);
    const uint64_t place = part.at + (at - part.offset);
    if (target.memory)
      fetch->Want(stripe, chunk, begin, begin + run, target.memory + place);
    else
      fetch->Want(stripe, chunk, begin, begin + run, target.offset + place);
    at += run;
  }
  return fetch;
}

Status Reader::ReadParts(const std::vector<BlobPart>& parts, const Target& target) {
  Board board;
  std::list<Active> active;
  auto fetch_of = [](Active& a) -> BlobFetch& { return *a.fetch; };
  size_t next = 0;
  Status failed;
  bool map_refreshed = false;
  while (true) {
    while (failed.ok() && next < parts.size() && active.size() < kBlobsInFlight) {
      const BlobPart& part = parts[next++];
      auto map = MapWith(part.blob.volume);
      if (!map.ok()) {
        failed = std::move(map).TakeStatus();
        break;
      }
      auto fetch = FetchPart(board, *map, part, target);
      if (!fetch.ok()) {
        failed = std::move(fetch).TakeStatus();
        break;
      }
      active.push_back({part, std::move(fetch).value()});
    }
    if (active.empty()) break;
    auto it = board.AwaitIdle(active, fetch_of, *deps_.clock, !failed.ok());
    if (!failed.ok()) {
      // Nobody may use the target after the return: wait for what still reads, and stop.
      active.erase(it);
      continue;
    }
    board.Busy(*it->fetch);
    BlobFetch::Step step = it->fetch->Advance();
    if (step == BlobFetch::Step::kReading) continue;
    it->fetch->Report();
    if (it->fetch->map_suspect() && !map_refreshed) {
      map_refreshed = true;
      auto map = deps_.cluster->Map(it->fetch->map_epoch() + 1);
      map.status().Ignore();  // then the map at hand has to do
    }
    if (step == BlobFetch::Step::kFailed && it->fetch->map_suspect() && !it->second_try) {
      // Shards may have moved since the map was drawn.
      Status why = it->fetch->status();
      auto map = MapWith(it->part.blob.volume);
      if (map.ok()) {
        auto again = FetchPart(board, *map, it->part, target);
        if (again.ok()) {
          why.Ignore();
          it->fetch = std::move(again).value();
          it->second_try = true;
          continue;
        }
      }
      failed = std::move(why);
    } else if (step == BlobFetch::Step::kFailed) {
      failed = it->fetch->status();
    } else {
      metrics_.BytesRead(it->part.length);
    }
    active.erase(it);
  }
  return failed;
}

Status Reader::Read(const wire::Layout& layout, uint64_t size, uint64_t offset, MutableBytes out) {
  return ReadRange(layout, size, offset, out.size(), {.memory = out.data()});
}

Status Reader::ReadTo(const wire::Layout& layout, uint64_t size, uint64_t offset, uint64_t bytes,
                      const BlobSink& sink) {
  return ReadRange(layout, size, offset, bytes, {.sink = &sink, .offset = offset});
}

Status Reader::ReadRange(const wire::Layout& layout, uint64_t size, uint64_t offset, uint64_t bytes,
                         const Target& target) {
  if (offset > size || bytes > size - offset) {
    return Status(Code::kInvalidArgument, "bytes " + std::to_string(offset) + "+" +
                                              std::to_string(bytes) + " of an object of " +
                                              std::to_string(size));
  }
  if (bytes == 0) return Status::Ok();
  if (layout.kind != wire::LayoutKind::kBlobs) {
    return Status(Code::kInvalidArgument, "the object is not in blobs");
  }
  PERIGEE_ASSIGN(auto extents, ExtentsOfRange(*deps_.cluster, layout, offset, bytes));
  PERIGEE_ASSIGN(auto parts, PartsOfRange(extents, offset, bytes));
  return ReadParts(parts, target);
}

// Distinct opinions of the survivors on what the blob is; normally one. Slow drives are asked where
// nobody else has one.
Result<std::vector<wire::ShardHeader>> Reader::SurvivingHeaders(
    const wire::VolumeInfo& volume, uint64_t seq, const std::vector<uint32_t>& missing) {
  std::vector<uint32_t> order;
  for (uint32_t i = 0; i < volume.drives.size(); ++i)
    if (std::find(missing.begin(), missing.end(), i) == missing.end()) order.push_back(i);
  auto slow = std::stable_partition(order.begin(), order.end(),
                                    [&](uint32_t i) { return !pace_->Slow(volume.drives[i]); });
  std::vector<wire::ShardHeader> headers;
  Status away;
  for (auto it = order.begin(); it != order.end() && (it < slow || headers.empty()); ++it) {
    wire::ShardReadRequest request;
    request.drive_id = volume.drives[*it];
    request.blob.volume = volume.volume;
    request.blob.seq = seq;
    request.index = *it;
    auto data = deps_.cluster->ReadShard(request);
    if (!data.ok()) {
      Status why = std::move(data).TakeStatus();
      if (!why.Is(Code::kNotFound)) away = why;
      away.Ignore();
      why.Ignore();  // told below when nobody has the blob
      continue;
    }
    const wire::ShardHeader& h = data->header;
    Geometry g = Geometry::Of(h.blob_bytes, volume.k, volume.m);
    bool sane = h.blob == request.blob && h.blob_bytes > 0 &&
                h.blob_bytes <= FullBlobBytes(volume.k) && h.k == g.k && h.m == g.m &&
                h.chunk_bytes == g.chunk_bytes;
    bool known = std::any_of(headers.begin(), headers.end(), [&](const wire::ShardHeader& o) {
      return o.blob_bytes == h.blob_bytes;
    });
    if (sane && !known) headers.push_back(h);
  }
  if (!headers.empty()) return headers;
  std::string name = "blob " + std::to_string(volume.volume) + "/" + std::to_string(seq);
  if (!away.ok()) return away.With(name);
  return Status(Code::kNotFound, name + ": no shard of it is left");
}

Result<std::vector<ShardData>> Reader::Rebuild(const wire::VolumeInfo& volume, uint64_t seq,
                                               const std::vector<uint32_t>& missing) {
  if (!Sane(volume)) return Status(Code::kInvalidArgument, "odd volume");
  for (uint32_t i : missing) {
    if (i >= volume.drives.size()) return Status(Code::kInvalidArgument, "no such shard");
  }
  PERIGEE_ASSIGN(Map map, deps_.cluster->Map());
  PERIGEE_ASSIGN(auto opinions, SurvivingHeaders(volume, seq, missing));
  Status first;
  for (const wire::ShardHeader& like : opinions) {
    auto rebuilt = RebuildAs(volume, like, map, missing);
    if (rebuilt.ok()) {
      first.Ignore();
      return rebuilt;
    }
    if (first.ok()) first = std::move(rebuilt).TakeStatus();
  }
  return first;
}

Result<std::vector<ShardData>> Reader::RebuildAs(const wire::VolumeInfo& volume,
                                                 const wire::ShardHeader& like, const Map& map,
                                                 const std::vector<uint32_t>& missing) {
  Geometry g = Geometry::Of(like.blob_bytes, volume.k, volume.m);
  PERIGEE_ASSIGN(auto code, codes_.Get(g.k, g.m));
  Board board;
  BlobFetch fetch(FetchDeps(board, nullptr), like.blob, g, volume.drives, map, std::move(code));
  std::vector<ShardData> rebuilt;
  for (uint32_t i : missing) {
    if (i >= g.k + g.m) continue;  // of copies there are only M + 1
    fetch.Avoid(i);
    ShardData shard;
    PERIGEE_ASSIGN(shard.bytes, deps_.slabs->Allocate(g.shard_bytes(), kMemoryTimeout));
    shard.header = like;
    shard.header.unknown = {};
    shard.header.index = i;
    shard.header.chunk_crcs.clear();
    for (uint32_t s = 0; s < g.stripes; ++s) {
      fetch.Want(s, i, 0, g.ChunkBytes(s), shard.bytes.data() + g.ChunkOffset(s));
    }
    rebuilt.push_back(std::move(shard));
  }
  std::vector<BlobFetch*> one{&fetch};
  while (true) {
    board.AwaitIdle(
        one, [](BlobFetch* f) -> BlobFetch& { return *f; }, *deps_.clock, false);
    board.Busy(fetch);
    BlobFetch::Step step = fetch.Advance();
    if (step == BlobFetch::Step::kReading) continue;
    fetch.Report();
    if (step == BlobFetch::Step::kFailed) return fetch.status();
    break;
  }
  for (ShardData& shard : rebuilt) {
    for (uint32_t s = 0; s < g.stripes; ++s) {
      shard.header.chunk_crcs.push_back(
          Crc32c({shard.bytes.data() + g.ChunkOffset(s), g.ChunkBytes(s)}));
    }
  }
  return rebuilt;
}

}  // namespace

std::unique_ptr<BlobReader> BlobReader::Create(BlobIoDeps deps) {
  PERIGEE_CHECK(deps.cluster && deps.shard_pool && deps.slabs && deps.clock);
  return std::make_unique<Reader>(std::move(deps));
}

}  // namespace perigee::client
