#include "bufferd/remote_read.h"

#include "base/checksum.h"

namespace perigee::bufferd {
namespace {

// Checks every block that [offset, offset + data) touches; those it covers in part are read whole.
Status CheckBlocks(File& open, const BurstCrcs& crcs, uint64_t offset, ConstBytes data) {
  AlignedBuffer block;
  uint64_t end = offset + data.size();
  for (uint64_t i = offset / kCrcBlockBytes; i * kCrcBlockBytes < end; ++i) {
    uint64_t begin = i * kCrcBlockBytes;
    uint64_t bytes = std::min<uint64_t>(kCrcBlockBytes, crcs.size - begin);
    uint32_t crc;
    if (begin >= offset && begin + bytes <= end) {
      crc = Crc32c(data.subspan(begin - offset, bytes));
    } else {
      if (block.size() == 0) block = AlignedBuffer(kCrcBlockBytes);
      PERIGEE_ASSIGN(size_t got, open.ReadAt(begin, {block.data(), bytes}));
      crc = got == bytes ? Crc32c({block.data(), bytes}) : ~crcs.crcs[i];
    }
    if (crc != crcs.crcs[i])
      return Status(Code::kCorrupt,
                    "block " + std::to_string(i) + " of the burst file fails its checksum");
  }
  return Status::Ok();
}

}  // namespace

Status ReadBurst(Core& core, const wire::BurstReadRequest& q, MutableBytes out) {
  FilePtr file = core.table->Find(q.burst);
  if (!file)
    return Status(Code::kUnavailable, "this node does not hold burst file " + HexEncode64(q.burst));
  BurstRecord rec;
  {
    std::lock_guard lock(file->mu);
    if (file->gone || file->lost || file->rec.id != q.id)
      return Status(Code::kUnavailable, "this node no longer holds that content");
    if (file->rec.generation != q.generation)
      return Status(Code::kStale, "the burst file holds another generation");
    if (file->needs_reconcile && file->rec.boot != core.boot)
      return Status(Code::kUnavailable, "being checked after a reboot");
    if (file->corrupt) return Status(Code::kCorrupt, "the burst file fails its checksums");
    if (!file->Whole()) return Status(Code::kUnavailable, "not wholly here");
    rec = file->rec;
    file->rec.accessed = core.clock->Wall();
  }
  if (q.offset > rec.size || out.size() > rec.size - q.offset)
    return Status(Code::kInvalidArgument, "range outside the content");
  PERIGEE_ASSIGN(auto open, core.store->Open(file->dir, file->burst, OpenMode::kRead));
  FileStat want{rec.size, rec.mtime, rec.ctime, 0};
  PERIGEE_ASSIGN(FileStat before, StoreDir::Stat(*open));
  // A copy's times are those of its fill; only what this node wrote can be rewritten under a
  // reader.
  if (!before.SameContent(want)) return Status(Code::kStale, "the burst file is being rewritten");
  PERIGEE_ASSIGN(size_t got, open->ReadAt(q.offset, out));
  if (got == out.size() && !rec.writing) {
    auto crcs = core.index->GetCrcs(file->burst);
    if (crcs.ok() && crcs->generation == rec.generation && crcs->size == rec.size) {
      Status s = CheckBlocks(*open, *crcs, q.offset, out);
      if (s.Is(Code::kCorrupt)) {
        std::lock_guard lock(file->mu);
        if (file->rec.generation == q.generation && !file->rec.writing && !file->corrupt) {
          file->corrupt = true;
          core.stats->corrupt_files->Add();
          core.Report(Core::NameOf(*file) + ": fails its checksums; kept, not served");
        }
      }
      PERIGEE_TRY(s);
    } else if (!crcs.ok() && !crcs.status().Is(Code::kNotFound)) {
      return std::move(crcs).TakeStatus();
    }
  }
  PERIGEE_ASSIGN(FileStat after, StoreDir::Stat(*open));
  if (got != out.size() || !after.SameContent(want))
    return Status(Code::kStale, "the burst file is being rewritten");
  core.stats->bytes_read_burst->Add(static_cast<double>(got));
  return Status::Ok();
}

}  // namespace perigee::bufferd
