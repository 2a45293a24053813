#include "base/random.h"

#include <sys/random.h>

#include <algorithm>
#include <cstring>

#include "base/status.h"

namespace perigee {

static uint64_t Rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

Random::Random(uint64_t seed) {
  for (auto& s : s_) {
    seed += 0x9e3779b97f4a7c15;
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    s = z ^ (z >> 31);
  }
}

uint64_t Random::Next() {
  uint64_t result = Rotl(s_[1] * 5, 7) * 9;
  uint64_t t = s_[1] << 17;
  s_[2] ^= s_[0];
  s_[3] ^= s_[1];
  s_[1] ^= s_[2];
  s_[0] ^= s_[3];
  s_[2] ^= t;
  s_[3] = Rotl(s_[3], 45);
  return result;
}

uint64_t Random::Below(uint64_t bound) {
  PERIGEE_CHECK(bound > 0);
  uint64_t limit = -bound % bound;  // rejects the short last interval
  uint64_t v;
  do v = Next();
  while (v < limit);
  return v % bound;
}

void Random::Fill(void* data, size_t bytes) {
  auto* p = static_cast<char*>(data);
  while (bytes > 0) {
    uint64_t v = Next();
    size_t n = std::min(bytes, sizeof v);
    std::memcpy(p, &v, n);
    p += n;
    bytes -= n;
  }
}

std::string SecretBytes(size_t bytes) {
  std::string out(bytes, '\0');
  size_t done = 0;
  while (done < bytes) {
    ssize_t n = getrandom(out.data() + done, bytes - done, 0);
    PERIGEE_CHECK(n > 0);
    done += static_cast<size_t>(n);
  }
  return out;
}

uint64_t SecretU64() {
  uint64_t v;
  std::string s = SecretBytes(sizeof v);
  std::memcpy(&v, s.data(), sizeof v);
  return v;
}

}  // namespace perigee
