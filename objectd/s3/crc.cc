#include "objectd/s3/crc.h"

#include <array>

namespace perigee::objectd::s3 {

namespace {

// Reflected polynomials.
constexpr uint32_t kPoly32 = 0xedb88320;
constexpr uint32_t kPoly32c = 0x82f63b78;
constexpr uint64_t kPoly64Nvme = 0x9a6c9329ac4bc9b5;

// tables[k][b]: the register after byte b and then k zero bytes.
template <class Word>
using Tables = std::array<std::array<Word, 256>, 16>;

template <class Word>
Tables<Word> MakeTables(Word poly) {
  Tables<Word> t;
  for (uint32_t b = 0; b < 256; ++b) {
    Word r = b;
    for (int i = 0; i < 8; ++i) r = (r >> 1) ^ ((r & 1) ? poly : 0);
    t[0][b] = r;
  }
  for (size_t k = 1; k < 16; ++k) {
    for (uint32_t b = 0; b < 256; ++b) t[k][b] = (t[k - 1][b] >> 8) ^ t[0][t[k - 1][b] & 0xff];
  }
  return t;
}

template <class Word>
Word Extend(const Tables<Word>& t, Word crc, ConstBytes data) {
  Word r = static_cast<Word>(~crc);
  const uint8_t* p = data.data();
  size_t n = data.size();
  for (; n >= 16; p += 16, n -= 16) {
    uint64_t lo = GetLe<uint64_t>(p) ^ r, hi = GetLe<uint64_t>(p + 8);
    Word next = 0;
    for (int i = 0; i < 8; ++i) {
      next ^= t[15 - i][(lo >> (8 * i)) & 0xff];
      next ^= t[7 - i][(hi >> (8 * i)) & 0xff];
    }
    r = next;
  }
  for (; n > 0; ++p, --n) r = (r >> 8) ^ t[0][(r ^ *p) & 0xff];
  return static_cast<Word>(~r);
}

// A linear map on the register, column by column.
template <class Word>
using Matrix = std::array<Word, sizeof(Word) * 8>;

template <class Word>
Word Apply(const Matrix<Word>& m, Word v) {
  Word out = 0;
  for (size_t i = 0; v != 0; ++i, v >>= 1) {
    if (v & 1) out ^= m[i];
  }
  return out;
}

template <class Word>
Word Combine(Word poly, Word a, Word b, uint64_t b_bytes) {
  Matrix<Word> step;  // one zero bit
  step[0] = poly;
  for (size_t i = 1; i < step.size(); ++i) step[i] = Word{1} << (i - 1);
  auto square = [](const Matrix<Word>& m) {
    Matrix<Word> out;
    for (size_t i = 0; i < m.size(); ++i) out[i] = Apply(m, m[i]);
    return out;
  };
  for (int i = 0; i < 3; ++i) step = square(step);  // one zero byte
  for (; b_bytes != 0; b_bytes >>= 1) {
    if (b_bytes & 1) a = Apply(step, a);
    if (b_bytes > 1) step = square(step);
  }
  return a ^ b;
}

}  // namespace

uint32_t Crc32Extend(uint32_t crc, ConstBytes data) {
  static const Tables<uint32_t> tables = MakeTables(kPoly32);
  return Extend(tables, crc, data);
}

uint64_t Crc64NvmeExtend(uint64_t crc, ConstBytes data) {
  static const Tables<uint64_t> tables = MakeTables(kPoly64Nvme);
  return Extend(tables, crc, data);
}

uint32_t Crc32Combine(uint32_t a, uint32_t b, uint64_t b_bytes) {
  return Combine(kPoly32, a, b, b_bytes);
}
uint32_t Crc32cCombine(uint32_t a, uint32_t b, uint64_t b_bytes) {
  return Combine(kPoly32c, a, b, b_bytes);
}
uint64_t Crc64NvmeCombine(uint64_t a, uint64_t b, uint64_t b_bytes) {
  return Combine(kPoly64Nvme, a, b, b_bytes);
}

}  // namespace perigee::objectd::s3
