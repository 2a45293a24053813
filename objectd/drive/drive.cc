#include "objectd/drive/drive.h"

#include <algorithm>
#include <atomic>

#include "base/checksum.h"
#include "base/event.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "client/blob/geometry.h"
#include "objectd/drive/guarded_drive.h"
#include "objectd/drive/recent_reads.h"
#include "objectd/drive/record_io.h"
#include "objectd/drive/segment_scan.h"
#include "objectd/drive/segment_set.h"
#include "objectd/drive/shard_index.h"

namespace perigee::objectd {
namespace {

constexpr Nanos kMemoryWait = 10 * kSecond;

std::string SegmentsDir(const std::string& dir) { return dir + "/segments"; }
std::string IndexDir(const std::string& dir) { return dir + "/index"; }

// Makes `dir` and its parents so that their names survive power loss.
Status CreateDirsDurably(Disk& disk, const std::string& dir) {
  std::vector<std::string> fresh;
  std::string at = dir;
  while (true) {
    auto info = disk.Stat(at);
    if (info.ok()) break;
    if (info.code() != Code::kNotFound) return std::move(info).TakeStatus();
    fresh.push_back(at);
    std::string parent = ParentDir(at);
    if (parent == at) break;
    at = parent;
  }
  PERIGEE_TRY(disk.CreateDirs(dir));
  PERIGEE_FAILPOINT_STATUS(drive_dirs_before_sync);
  for (const std::string& made : fresh) PERIGEE_TRY(disk.SyncDir(ParentDir(made)));
  PERIGEE_FAILPOINT_STATUS(drive_dirs_after_sync);
  return Status::Ok();
}

ShardKey KeyOf(const wire::BlobId& blob, uint32_t index) {
  return ShardKey{blob.volume, blob.seq, index};
}

class DriveImpl final : public Drive {
 public:
  DriveImpl(std::string dir, Superblock superblock, DriveDeps deps)
      : dir_(std::move(dir)),
        deps_(deps),
        disk_(deps.disk),
        id_(superblock.drive_id),
        superblock_(std::move(superblock)) {
    if (deps.metrics != nullptr) {
      const metrics::Labels labels = {{"drive", HexEncode64(id_)}};
      syncs_ = deps.metrics->GetCounter("perigee_drive_syncs_total", "fdatasync calls on segments",
                                        labels);
      written_ = deps.metrics->GetCounter("perigee_drive_written_bytes_total",
                                          "shard bytes written", labels);
      read_ =
          deps.metrics->GetCounter("perigee_drive_read_bytes_total", "shard bytes read", labels);
      kept_ = deps.metrics->GetCounter("perigee_drive_read_again_bytes_total",
                                       "of the bytes read, those read a short while before, too: "
                                       "by the page cache, which keeps them",
                                       labels);
      read_errors_ = deps.metrics->GetCounter("perigee_drive_read_errors_total",
                                              "reads the device failed", labels);
    }
  }
  ~DriveImpl() override { Stop(); }

  Status Start(const DriveOptions& options);

  uint64_t id() const override { return id_; }
  const std::string& dir() const override { return dir_; }
  bool online() const override { return !offline_.load(std::memory_order_acquire); }
  std::string offline_reason() const override {
    std::lock_guard lock(mu_);
    return offline_reason_;
  }
  Superblock superblock() const override {
    std::lock_guard lock(mu_);
    return superblock_;
  }
  Status WriteSuperblock(const Superblock& superblock) override;
  Result<Superblock> StoredSuperblock() override { return ReadSuperblock(*disk_, dir_); }
  Status WriteShard(const wire::ShardHeader& header, ConstBytes bytes, const rdma::Piece* lent,
                    rdma::TrafficClass, std::shared_ptr<const void> owner) override;
  Result<client::ShardData> ReadShard(const wire::ShardReadRequest& request,
                                      rdma::TrafficClass) override;
  Result<wire::ShardHeader> ReadShardInto(const wire::ShardReadRequest& request, MutableBytes to,
                                          rdma::TrafficClass) override;
  Status DeleteShard(const wire::BlobId& blob, uint32_t index) override;
  Result<std::vector<std::pair<wire::BlobId, uint32_t>>> ListShards(const wire::BlobId& first,
                                                                    size_t limit) override;
  Result<uint64_t> ShardBytes() override;
  Result<SpaceInfo> Space() override { return segments_->Space(); }
  Result<SegmentAudit> AuditSegment(uint32_t after) override;
  Result<bool> Reindex(const wire::BlobId& blob, uint32_t index) override;
  Result<uint32_t> MendHeaders() override;
  void SetOffline(const std::string& reason) override;
  void Stop() override;

 private:
  // Counts calls inside, so that Stop can wait for them.
  class Call {
   public:
    explicit Call(DriveImpl* drive) : drive_(drive) {
      std::lock_guard lock(drive_->mu_);
      if (drive_->stopped_)
        status_ = Status(Code::kUnavailable, "drive " + drive_->dir_ + " is stopped");
      else if (!drive_->offline_reason_.empty())
        status_ = drive_->OfflineStatusLocked();
      drive_->calls_++;
    }
    ~Call() {
      std::lock_guard lock(drive_->mu_);
      if (--drive_->calls_ == 0) drive_->idle_.NotifyAll();
      status_.Ignore();  // read by whoever entered, or the call failed earlier
    }
    Call(const Call&) = delete;
    const Status& status() const { return status_; }

   private:
    DriveImpl* drive_;
    Status status_;
  };

  Status OfflineStatusLocked() const {
    return Status(Code::kUnavailable, "drive " + dir_ + " is offline: " + offline_reason_);
  }
  // The outcome of something that changes the drive: a full drive is the caller's problem, all else
  // the drive's end.
  Status FailWrite(Status status, std::string_view what);
  BackgroundTurns* TurnsOf(rdma::TrafficClass traffic) {
    return traffic == rdma::TrafficClass::kRepair ? turns_.get() : nullptr;
  }
  Result<wire::ShardHeader> Read(const wire::ShardReadRequest& request, rdma::TrafficClass traffic,
                                 const RecordRoom& room);
  Status OpenAll(const DriveOptions& options);
  Status CatchUp();
  Status ScanOne(SegmentFile& segment, uint64_t from);
  Status Adopt(const RecordHeader& record, const SegmentMark& mark);
  Status Index(const SegmentSet::Slot& slot, const RecordHeader& record,
               std::optional<ShardPlace>* dead, bool* outdated);

  const std::string dir_;
  const DriveDeps deps_;
  Disk* const disk_;
  const uint64_t id_;
  metrics::Counter* syncs_ = nullptr;
  metrics::Counter* written_ = nullptr;
  metrics::Counter* read_ = nullptr;
  metrics::Counter* kept_ = nullptr;
  metrics::Counter* read_errors_ = nullptr;

  RecentReads recent_;
  std::shared_ptr<BackgroundTurns> turns_;
  std::unique_ptr<SegmentSet> segments_;
  std::unique_ptr<ShardIndex> index_;
  std::mutex index_mu_;  // makes look-then-change on the index one step
  std::atomic<uint64_t> next_record_ = 1;
  std::mutex superblock_mu_;  // one writer of the superblock file at a time; before mu_

  mutable std::mutex mu_;  // guards what follows
  CondVar idle_;
  std::atomic<bool> offline_ = false;  // written under mu_
  std::string offline_reason_;
  Superblock superblock_;
  bool stopped_ = false;
  uint32_t calls_ = 0;
};

Status DriveImpl::Start(const DriveOptions& options) {
  PERIGEE_ASSIGN(SpaceInfo space, disk_->Space(dir_));
  turns_ = deps_.turns->Of(space.file_system);
  Status opened = OpenAll(options);
  if (!opened.Is(Code::kCorrupt) || disk_->engine() == "memory") return opened;
  // Rot in what is only a cache must not cost the drive.
  log::Warn("index_rebuilt", {{"dir", IndexDir(dir_)}, {"cause", opened}});
  index_.reset();
  PERIGEE_TRY(DestroyRocksIndex(IndexDir(dir_)));
  return OpenAll(options);
}

Status DriveImpl::OpenAll(const DriveOptions& options) {
  SegmentSet::Options set_options{options.segment_bytes, options.capacity_bytes};
  PERIGEE_ASSIGN(segments_, SegmentSet::Open(disk_, SegmentsDir(dir_), id_, set_options, syncs_));
  if (disk_->engine() == "memory") {
    index_ = CreateMemoryIndex();
  } else {
    PERIGEE_ASSIGN(index_, OpenRocksIndex(IndexDir(dir_), id_, options.index_memory_bytes));
  }
  return CatchUp();
}

// Brings the index to what the segments say.
Status DriveImpl::CatchUp() {
  std::vector<ShardKey> stale;
  uint64_t last_record = 0;
  PERIGEE_TRY(index_->ForEach({}, [&](const ShardKey& key, const ShardPlace& place) {
    if (segments_->Find(place.segment, place.generation))
      segments_->AddLive(place);
    else
      stale.push_back(key);
    last_record = std::max(last_record, place.record_seq);
    return true;
  }));
  for (const ShardKey& key : stale) PERIGEE_TRY(index_->Delete(key));
  next_record_ = last_record + 1;

  PERIGEE_ASSIGN(std::vector<SegmentMark> marks, index_->Marks());
  std::map<uint32_t, SegmentMark> mark_of;
  for (const SegmentMark& mark : marks) mark_of[mark.segment] = mark;
  for (const auto& segment : segments_->All()) {
    const SegmentHeader& header = segment->header();
    uint64_t from = kPageBytes;
    if (auto it = mark_of.find(header.segment);
        it != mark_of.end() && it->second.generation == header.generation)
      from = std::max(from, it->second.scanned / kPageBytes * kPageBytes);
    PERIGEE_TRY(ScanOne(*segment, from).With(segment->path()));
  }
  return Status::Ok();
}

Status DriveImpl::ScanOne(SegmentFile& segment, uint64_t from) {
  const SegmentHeader& header = segment.header();
  PERIGEE_ASSIGN(File * file, segment.Buffered());
  PERIGEE_ASSIGN(uint64_t footer, ReadSegmentEnd(*file, header));
  if (footer != 0 && from >= footer) return segments_->Close(header, footer, true);
  PERIGEE_ASSIGN(ScanResult result,
                 ScanSegment(*file, header, from, [&](const RecordHeader& record) {
                   return Adopt(record, SegmentMark{header.segment, header.generation,
                                                    record.offset + record.record_bytes()});
                 }));
  if (result.records + result.torn > 0) {
    log::Info("index_caught_up",
              {{"segment", segment.path()}, {"records", result.records}, {"torn", result.torn}});
  }
  PERIGEE_TRY(index_->SetMark(SegmentMark{header.segment, header.generation, result.end}));
  return segments_->Close(header, result.end, result.has_footer);
}

Status DriveImpl::Adopt(const RecordHeader& record, const SegmentMark& mark) {
  if (record.record_seq >= next_record_) next_record_ = record.record_seq + 1;
  ShardPlace place{record.segment, record.generation, record.offset, record.record_seq,
                   record.payload_bytes};
  ShardKey key = KeyOf(record.shard.blob, record.shard.index);
  PERIGEE_ASSIGN(std::optional<ShardPlace> old, index_->Find(key));
  if (old && *old == place) return Status::Ok();
  segments_->AddLive(place);
  if (old && old->record_seq > place.record_seq) return segments_->Free(place);
  PERIGEE_TRY(index_->Put(key, place, mark));
  return old ? segments_->Free(*old) : Status::Ok();
}

void DriveImpl::SetOffline(const std::string& reason) {
  {
    std::lock_guard lock(mu_);
    if (!offline_reason_.empty() || stopped_) return;
    offline_reason_ = reason.empty() ? "set offline" : reason;
    offline_.store(true, std::memory_order_release);
  }
  log::Error("drive_offline", {{"dir", dir_}, {"drive", HexEncode64(id_)}, {"reason", reason}});
}

Status DriveImpl::FailWrite(Status status, std::string_view what) {
  if (status.ok() || status.Is(Code::kNoSpace) || status.Is(Code::kInvalidArgument)) return status;
  SetOffline(std::string(what) + ": " + status.message());
  return Status(Code::kUnavailable,
                "drive " + dir_ + " went offline: " + std::string(what) + ": " + status.message());
}

Status DriveImpl::WriteSuperblock(const Superblock& superblock) {
  Call call(this);
  PERIGEE_TRY(call.status());
  std::lock_guard one(superblock_mu_);
  {
    std::lock_guard lock(mu_);
    if (superblock.cluster_id != superblock_.cluster_id || superblock.drive_id != id_)
      return Status(Code::kInvalidArgument, "a superblock of another drive");
    if (superblock.mirror_epoch < superblock_.mirror_epoch)
      return Status(Code::kInvalidArgument, "the mirror epoch may only grow");
  }
  PERIGEE_TRY(FailWrite(objectd::WriteSuperblock(*disk_, dir_, superblock), "superblock"));
  std::lock_guard lock(mu_);
  superblock_ = superblock;
  return Status::Ok();
}

Status DriveImpl::WriteShard(const wire::ShardHeader& header, ConstBytes bytes,
                             const rdma::Piece* lent, rdma::TrafficClass traffic,
                             std::shared_ptr<const void>) {
  Call call(this);
  PERIGEE_TRY(call.status());
  if (bytes.size() > client::kShardBytesMax)
    return Status(Code::kTooLarge, "a shard of " + std::to_string(bytes.size()) + " bytes");
  RecordHeader record;
  record.payload_bytes = static_cast<uint32_t>(bytes.size());
  record.shard = header;
  record.has_payload_crc = !ChunksCover(header, bytes.size());
  if (record.has_payload_crc) record.payload_crc = Crc32c(bytes);

  auto slot = segments_->Reserve(record.record_bytes());
  if (!slot.ok()) return FailWrite(std::move(slot).TakeStatus(), "reserve");
  record.segment = slot->segment->header().segment;
  record.generation = slot->segment->header().generation;
  record.offset = slot->offset;
  record.record_seq = next_record_.fetch_add(1);

  std::optional<ShardPlace> dead;
  bool outdated = false;
  Status outcome = WriteRecord(*disk_, *slot->segment, record, bytes, TurnsOf(traffic));
  if (outcome.ok()) {
    outcome = slot->segment->Sync();
    // A failed sync says nothing about what is on the drive, so not even a full file system lets it
    // go on.
    if (outcome.Is(Code::kNoSpace)) outcome = Status(Code::kIo, "sync: " + outcome.message());
  }
  // What its owner took back may have changed under the write: the record is not the shard.
  const bool withdrawn = outcome.ok() && lent != nullptr && !lent->Stands();
  if (outcome.ok() && !withdrawn) outcome = Index(*slot, record, &dead, &outdated);
  if (withdrawn)
    outcome = Status(Code::kUnavailable, "the sender took the shard back while it was written");
  if (!outcome.ok()) {
    if (!withdrawn) outcome = FailWrite(std::move(outcome), "write");
    if (online())
      PERIGEE_TRY(FailWrite(segments_->Finish(*slot, SegmentSet::Outcome::kDead), "give back"));
    return outcome;
  }
  PERIGEE_TRY(FailWrite(
      segments_->Finish(*slot, outdated ? SegmentSet::Outcome::kDead : SegmentSet::Outcome::kLive),
      "seal"));
  if (dead) PERIGEE_TRY(FailWrite(segments_->Free(*dead), "punch"));
  if (written_ != nullptr) written_->Add(static_cast<double>(bytes.size()));
  return Status::Ok();
}

Status DriveImpl::Index(const SegmentSet::Slot& slot, const RecordHeader& record,
                        std::optional<ShardPlace>* dead, bool* outdated) {
  PERIGEE_FAILPOINT(shard_before_index);
  ShardPlace place{record.segment, record.generation, record.offset, record.record_seq,
                   record.payload_bytes};
  ShardKey key = KeyOf(record.shard.blob, record.shard.index);
  std::lock_guard lock(index_mu_);
  PERIGEE_ASSIGN(std::optional<ShardPlace> old, index_->Find(key));
  if (old && old->record_seq > record.record_seq) {
    *outdated = true;  // a later write of the same shard was quicker
    return Status::Ok();
  }
  PERIGEE_TRY(index_->Put(key, place, segments_->MarkWith(slot)));
  *dead = old;
  PERIGEE_FAILPOINT(shard_after_index);
  return Status::Ok();
}

Result<client::ShardData> DriveImpl::ReadShard(const wire::ShardReadRequest& request,
                                               rdma::TrafficClass traffic) {
  client::ShardData data;
  PERIGEE_ASSIGN(data.header, Read(request, traffic, [&](size_t bytes) -> Result<MutableBytes> {
                   data.bytes.Release();  // of a record that was looked up again
                   PERIGEE_ASSIGN(data.bytes, deps_.slabs->Allocate(bytes, kMemoryWait));
                   return data.bytes.span();
                 }));
  if (request.length > 0) data.bytes.Trim(request.length);
  return data;
}

Result<wire::ShardHeader> DriveImpl::ReadShardInto(const wire::ShardReadRequest& request,
                                                   MutableBytes to, rdma::TrafficClass traffic) {
  PERIGEE_CHECK(to.size() == request.length);
  return Read(request, traffic, [to](size_t) -> Result<MutableBytes> { return to; });
}

Result<wire::ShardHeader> DriveImpl::Read(const wire::ShardReadRequest& request,
                                          rdma::TrafficClass traffic, const RecordRoom& room) {
  Call call(this);
  PERIGEE_TRY(call.status());
  const ShardKey key = KeyOf(request.blob, request.index);
  std::optional<ShardPlace> seen;
  while (true) {
    auto found = index_->Find(key);
    if (!found.ok()) return FailWrite(std::move(found).TakeStatus(), "index");
    // A record that moved or went while it was read is looked up again; the same place twice is the
    // answer.
    if (!*found) return Status(Code::kNotFound, "no such shard on " + dir_);
    const ShardPlace place = **found;
    auto segment = segments_->Find(place.segment, place.generation);
    // What scrub and repair read comes from the device, and is not wanted again.
    const bool keep =
        !rdma::IsBackground(traffic) && recent_.Again(place.segment, place.offset + request.offset);
    Result<wire::ShardHeader> header =
        segment ? ReadRecord(*disk_, *segment, place, request,
                             keep ? Caching::kBuffered : Caching::kDirect, TurnsOf(traffic), room)
                : Result<wire::ShardHeader>(Code::kNotFound, "its segment is gone");
    if (header.ok() && read_ != nullptr) {
      read_->Add(static_cast<double>(request.length));
      if (keep) kept_->Add(static_cast<double>(request.length));
    }
    if (header.code() == Code::kIo && read_errors_ != nullptr) read_errors_->Add();
    if (header.ok() || (header.code() != Code::kNotFound && header.code() != Code::kCorrupt) ||
        seen == place)
      return header;
    header.status().Ignore();  // looked at once more before it counts
    seen = place;
  }
}

Status DriveImpl::DeleteShard(const wire::BlobId& blob, uint32_t index) {
  Call call(this);
  PERIGEE_TRY(call.status());
  const ShardKey key = KeyOf(blob, index);
  std::optional<ShardPlace> place;
  {
    std::lock_guard lock(index_mu_);
    auto found = index_->Find(key);
    if (!found.ok()) return FailWrite(std::move(found).TakeStatus(), "index");
    place = *found;
    if (!place) return Status::Ok();
    PERIGEE_FAILPOINT(shard_before_forget);
    PERIGEE_TRY(FailWrite(index_->Delete(key), "index"));
  }
  PERIGEE_FAILPOINT(shard_before_punch);
  PERIGEE_TRY(FailWrite(segments_->Free(*place), "punch"));
  PERIGEE_FAILPOINT(shard_after_punch);
  return Status::Ok();
}

Result<std::vector<std::pair<wire::BlobId, uint32_t>>> DriveImpl::ListShards(
    const wire::BlobId& first, size_t limit) {
  Call call(this);
  PERIGEE_TRY(call.status());
  std::vector<std::pair<wire::BlobId, uint32_t>> shards;
  if (limit == 0) return shards;
  Status outcome = index_->ForEach(KeyOf(first, 0), [&](const ShardKey& key, const ShardPlace&) {
    shards.emplace_back(wire::BlobId{key.volume, key.seq}, key.index);
    return shards.size() < limit;
  });
  PERIGEE_TRY(FailWrite(std::move(outcome), "index"));
  return shards;
}

Result<uint64_t> DriveImpl::ShardBytes() {
  Call call(this);
  PERIGEE_TRY(call.status());
  uint64_t bytes = 0;
  Status outcome = index_->ForEach({}, [&](const ShardKey&, const ShardPlace& place) {
    bytes += place.payload_bytes;
    return true;
  });
  PERIGEE_TRY(FailWrite(std::move(outcome), "index"));
  return bytes;
}

Result<uint32_t> DriveImpl::MendHeaders() {
  Call call(this);
  PERIGEE_TRY(call.status());
  auto mended = segments_->MendHeaders();
  if (!mended.ok()) return FailWrite(std::move(mended).TakeStatus(), "segment header");
  return mended;
}

Result<SegmentAudit> DriveImpl::AuditSegment(uint32_t after) {
  Call call(this);
  PERIGEE_TRY(call.status());
  return objectd::AuditSegment(*segments_, *index_, after);
}

Result<bool> DriveImpl::Reindex(const wire::BlobId& blob, uint32_t index) {
  Call call(this);
  PERIGEE_TRY(call.status());
  const ShardKey key = KeyOf(blob, index);
  wire::ShardReadRequest head;
  head.blob = blob;
  head.index = index;
  PERIGEE_ASSIGN(auto before, index_->Find(key));
  if (auto read = ReadShard(head, rdma::TrafficClass::kRepair); read.ok()) return false;
  PERIGEE_ASSIGN(auto place, FindInSegments(*segments_, key));
  std::lock_guard lock(index_mu_);
  PERIGEE_ASSIGN(auto now, index_->Find(key));
  if (now != before || now == place) return false;  // it was written or deleted meanwhile
  // Nothing is freed: a wrong entry may lead into another shard's record. What it counts as live
  // keeps its segment from being reused until the next start.
  if (!place) {
    PERIGEE_TRY(FailWrite(index_->Delete(key), "index"));
    return true;
  }
  SegmentMark mark{place->segment, place->generation, 0};
  PERIGEE_ASSIGN(auto marks, index_->Marks());
  for (const SegmentMark& known : marks)
    if (known.segment == mark.segment && known.generation == mark.generation) mark = known;
  segments_->AddLive(*place);
  PERIGEE_TRY(FailWrite(index_->Put(key, *place, mark), "index"));
  return true;
}

void DriveImpl::Stop() {
  {
    std::unique_lock lock(mu_);
    if (stopped_) return;
    stopped_ = true;
    while (calls_ > 0) idle_.Wait(lock);
  }
  if (!segments_ || !index_) return;
  // What fails here costs the next open a longer scan, nothing else.
  if (online()) segments_->Stop().Ignore();
  index_->Flush().Ignore();
  index_.reset();
}

}  // namespace

Status Drive::Format(Disk& disk, const std::string& dir, const Superblock& superblock) {
  auto old = ReadSuperblock(disk, dir);
  if (old.ok())
    return Status(Code::kAlreadyExists,
                  dir + " holds drive " + HexEncode64(old->drive_id) + " already");
  if (old.code() != Code::kNotFound) return std::move(old).TakeStatus();
  PERIGEE_TRY(CreateDirsDurably(disk, SegmentsDir(dir)));
  // Last: it is what makes the directory a drive.
  return objectd::WriteSuperblock(disk, dir, superblock);
}

Result<std::unique_ptr<Drive>> Drive::Open(const std::string& dir, uint64_t cluster_id,
                                           DriveOptions options, DriveDeps deps) {
  PERIGEE_CHECK(deps.disk != nullptr && deps.slabs != nullptr);
  PERIGEE_ASSIGN(Superblock superblock, ReadSuperblock(*deps.disk, dir));
  if (superblock.cluster_id != cluster_id) {
    return Status(Code::kPreconditionFailed, dir + " belongs to cluster " +
                                                 HexEncode64(superblock.cluster_id) + ", not to " +
                                                 HexEncode64(cluster_id));
  }
  auto drive = std::make_unique<DriveImpl>(dir, std::move(superblock), deps);
  PERIGEE_TRY(drive->Start(options).With(dir));
  if (deps.watch) return GuardDrive(std::move(drive), deps.watch);
  return std::unique_ptr<Drive>(std::move(drive));
}

}  // namespace perigee::objectd
