#pragma once
// Holding a burst file against the checksums of its seal or of its fill, and what becomes of one
// that fails. Functions; thread-safe; block on the disk.

#include <optional>

#include "bufferd/core.h"

namespace perigee::bufferd {

// The first of blocks [first, end) that fails its checksum or is cut off. kIo: the device failed.
Result<std::optional<uint64_t>> FindBadBlock(File& open, const BurstCrcs& crcs, uint64_t first,
                                             uint64_t end);
inline uint64_t BlockCount(const BurstCrcs& crcs) { return crcs.crcs.size(); }

// `block` of `generation` is bad. The only copy is kept, reported, and neither flushed nor served;
// a copy of what is elsewhere is dropped, so that the next open fetches it again. kNothing: the
// file holds other content by now. Takes BusyHold.
enum class Outcome { kNothing, kKept, kDropped };
Outcome FoundCorrupt(Core& core, const FilePtr& file, uint64_t generation, uint64_t block);

// Before a file is handed out that was loaded after a reboot: checks all of it, once. kCorrupt: it
// is the only copy, and bad. kConflict: it was a bad copy and was dropped; look again. Files
// without checksums pass.
Status VerifyOnce(Core& core, const FilePtr& file);

}  // namespace perigee::bufferd
