#pragma once
// Checksums of a burst file's blocks, from those of the pieces it was written in. Thread-safe.

#include <map>
#include <mutex>

#include "base/bytes.h"

namespace perigee::bufferd {

class PieceCrcs {
 public:
  // Written at `offset`. A piece that is written again is added again; what was said before of its
  // bytes is forgotten.
  void Add(uint64_t offset, ConstBytes bytes);
  // crc32c of each block (kCrcBlockBytes, the last one of `size` shorter) that is written whole.
  std::map<uint64_t, uint32_t> Blocks(uint64_t size) const;

 private:
  struct Piece {
    uint64_t bytes = 0;
    uint32_t crc = 0;
  };
  mutable std::mutex mu_;
  std::map<uint64_t, Piece> pieces_;  // by offset; guarded by mu_. None reaches into another block
};

}  // namespace perigee::bufferd
