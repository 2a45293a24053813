#include "bufferd/verify.h"

#include <algorithm>

#include "base/checksum.h"

namespace perigee::bufferd {

Result<std::optional<uint64_t>> FindBadBlock(File& open, const BurstCrcs& crcs, uint64_t first,
                                             uint64_t end) {
  AlignedBuffer block(std::min<uint64_t>(kCrcBlockBytes, std::max<uint64_t>(1, crcs.size)));
  for (uint64_t i = first; i < std::min(end, BlockCount(crcs)); ++i) {
    const uint64_t at = i * kCrcBlockBytes;
    if (at >= crcs.size) return std::optional<uint64_t>(i);
    const uint64_t want = std::min<uint64_t>(kCrcBlockBytes, crcs.size - at);
    PERIGEE_ASSIGN(size_t got, open.ReadAt(at, {block.data(), want}));
    if (got != want || Crc32c({block.data(), want}) != crcs.crcs[i])
      return std::optional<uint64_t>(i);
  }
  return std::optional<uint64_t>();
}

Outcome FoundCorrupt(Core& core, const FilePtr& file, uint64_t generation, uint64_t block) {
  BusyHold hold(file);
  if (!hold.held()) return Outcome::kNothing;
  std::string name;
  bool keep;
  {
    std::lock_guard lock(file->mu);
    if (file->gone || file->writers > 0 || file->rec.writing ||
        file->rec.generation != generation || file->corrupt)
      return Outcome::kNothing;
    keep = file->OnlyCopy();
    name = Core::NameOf(*file);
    if (keep) {
      file->corrupt = true;
    } else {
      file->gone = true;
      file->rec.state = wire::BurstState::kAbsent;
    }
  }
  core.stats->corrupt_files->Add();
  name += ": block " + std::to_string(block) + " fails its checksum; ";
  if (keep) {
    core.Report(name + "kept, neither flushed nor served");
    return Outcome::kKept;
  }
  core.Report(name + "dropped: the next open fetches it again");
  core.Forget(file);
  return Outcome::kDropped;
}

Status VerifyOnce(Core& core, const FilePtr& file) {
  BurstRecord rec;
  {
    std::lock_guard lock(file->mu);
    if (file->corrupt && !file->lost)
      return Status(Code::kCorrupt, Core::NameOf(*file) + " fails its checksums");
    if (!file->unverified || file->gone || file->rec.writing || file->Unsealed())
      return Status::Ok();
    rec = file->rec;
  }
  auto crcs = core.index->GetCrcs(file->burst);
  Outcome outcome = Outcome::kNothing;
  if (crcs.ok() && crcs->generation == rec.generation && crcs->size == rec.size) {
    PERIGEE_ASSIGN(auto open, core.store->Open(file->dir, file->burst, OpenMode::kRead));
    PERIGEE_ASSIGN(auto bad, FindBadBlock(*open, *crcs, 0, BlockCount(*crcs)));
    if (bad) outcome = FoundCorrupt(core, file, rec.generation, *bad);
  } else if (!crcs.ok() && !crcs.status().Is(Code::kNotFound)) {
    return std::move(crcs).TakeStatus();
  }
  if (outcome == Outcome::kKept)
    return Status(Code::kCorrupt, Core::NameOf(*file) + " fails its checksums");
  if (outcome == Outcome::kDropped)
    return Status(Code::kConflict, "a bad copy was dropped while it was opened");
  std::lock_guard lock(file->mu);
  file->unverified = false;
  return Status::Ok();
}

}  // namespace perigee::bufferd
