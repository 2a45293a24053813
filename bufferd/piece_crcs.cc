#include "bufferd/piece_crcs.h"

#include "base/checksum.h"
#include "bufferd/burst_record.h"

namespace perigee::bufferd {

void PieceCrcs::Add(uint64_t offset, ConstBytes bytes) {
  while (!bytes.empty()) {
    const uint64_t room = kCrcBlockBytes - offset % kCrcBlockBytes;
    const ConstBytes piece = bytes.first(std::min<uint64_t>(room, bytes.size()));
    const uint32_t crc = Crc32c(piece);
    {
      std::lock_guard lock(mu_);
      pieces_.insert_or_assign(offset, Piece{piece.size(), crc});
    }
    offset += piece.size();
    bytes = bytes.subspan(piece.size());
  }
}

std::map<uint64_t, uint32_t> PieceCrcs::Blocks(uint64_t size) const {
  std::map<uint64_t, uint32_t> blocks;
  std::lock_guard lock(mu_);
  uint64_t end = 0;  // of the run of pieces without a gap, from its block's begin on
  uint32_t crc = 0;
  for (const auto& [offset, piece] : pieces_) {
    if (offset % kCrcBlockBytes == 0) {
      end = offset;
      crc = 0;
    }
    if (offset != end) continue;  // something is missing before it
    crc = Crc32cConcat(crc, piece.crc, piece.bytes);
    end += piece.bytes;
    if (end % kCrcBlockBytes == 0 || end == size) blocks[offset / kCrcBlockBytes] = crc;
  }
  return blocks;
}

}  // namespace perigee::bufferd
