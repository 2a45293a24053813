#include "base/checksum.h"

#include <isa-l/crc.h>

#include <array>

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

namespace {

// Polynomials over GF(2) modulo Castagnoli's, bit-reversed: bit 31 is x^0.
constexpr uint32_t kOne = 0x80000000, kCastagnoli = 0x82f63b78;

constexpr uint32_t TimesX(uint32_t a) { return a & 1 ? a >> 1 ^ kCastagnoli : a >> 1; }

constexpr uint32_t Times(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (; a != 0; a <<= 1, b = TimesX(b))
    if (a & kOne) product ^= b;
  return product;
}

// [i]: x^(8 * 2^i), which moves a crc over 2^i bytes.
constexpr std::array<uint32_t, 64> kSteps = [] {
  std::array<uint32_t, 64> steps{};
  uint32_t step = kOne;
  for (int i = 0; i < 8; ++i) step = TimesX(step);
  for (uint32_t& s : steps) {
    s = step;
    step = Times(step, step);
  }
  return steps;
}();

}  // namespace

uint32_t Crc32cConcat(uint32_t a, uint32_t b, uint64_t b_bytes) {
  for (size_t i = 0; b_bytes != 0; b_bytes >>= 1, ++i)
    if (b_bytes & 1) a = Times(kSteps[i], a);
  return a ^ b;
}

}  // namespace perigee
