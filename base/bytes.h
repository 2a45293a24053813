#pragma once
// Bytes: spans, fixed-width little- and big-endian fields, hexadecimal, and aligned buffers.
//
// On-disk structures use the little-endian Put/Get pairs; ordered store keys use the big-endian
// ones. Thread rule: values.

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace perigee {

using MutableBytes = std::span<uint8_t>;
using ConstBytes = std::span<const uint8_t>;

static_assert(std::endian::native == std::endian::little, "Perigee runs on little-endian machines");

inline ConstBytes AsBytes(std::string_view s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}
inline std::string_view AsView(ConstBytes b) {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}

template <class T>
void PutLe(uint8_t* p, T v) {
  std::memcpy(p, &v, sizeof v);
}
template <class T>
T GetLe(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void AppendBe32(std::string* s, uint32_t v) {
  v = __builtin_bswap32(v);
  s->append(reinterpret_cast<char*>(&v), 4);
}
inline void AppendBe64(std::string* s, uint64_t v) {
  v = __builtin_bswap64(v);
  s->append(reinterpret_cast<char*>(&v), 8);
}
inline uint32_t GetBe32(std::string_view s) {
  uint32_t v;
  std::memcpy(&v, s.data(), 4);
  return __builtin_bswap32(v);
}
inline uint64_t GetBe64(std::string_view s) {
  uint64_t v;
  std::memcpy(&v, s.data(), 8);
  return __builtin_bswap64(v);
}

std::string HexEncode(std::string_view raw);
std::string HexEncode64(uint64_t v);  // 16 digits

inline constexpr size_t kPageBytes = 4096;  // alignment of direct I/O and of segment records

inline constexpr uint64_t RoundUp(uint64_t v, uint64_t to) { return (v + to - 1) / to * to; }

// A heap buffer aligned to kPageBytes; contents start undefined.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes)
      : data_(static_cast<uint8_t*>(
            std::aligned_alloc(kPageBytes, RoundUp(bytes ? bytes : 1, kPageBytes)))),
        size_(bytes) {}
  uint8_t* data() { return data_.get(); }
  const uint8_t* data() const { return data_.get(); }
  size_t size() const { return size_; }
  MutableBytes span() { return {data_.get(), size_}; }
  ConstBytes span() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t[], Free> data_;
  size_t size_ = 0;
};

}  // namespace perigee
