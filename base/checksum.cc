#include "base/checksum.h"

#include <isa-l/crc.h>

namespace perigee {

uint32_t Crc32c(ConstBytes data) { return Crc32cExtend(0, data); }

uint32_t Crc32cExtend(uint32_t crc, ConstBytes data) {
  // ISA-L takes an int length: feed it in pieces.
  constexpr size_t kPieceMax = size_t{1} << 30;
  uint32_t state = ~crc;
  while (!data.empty()) {
    size_t n = std::min(data.size(), kPieceMax);
    state = crc32_iscsi(const_cast<unsigned char*>(data.data()), static_cast<int>(n), state);
    data = data.subspan(n);
  }
  return ~state;
}

}  // namespace perigee
