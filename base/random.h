#pragma once
// Random numbers: a seeded generator whose stream is the same on every machine (xoshiro256**,
// Blackman and Vigna 2018, seeded by splitmix64), and the operating system's generator for secrets
// and identities.

#include <cstdint>
#include <string>

namespace perigee {

// Thread rule: not thread-safe; one per owner.
class Random {
 public:
  explicit Random(uint64_t seed);
  uint64_t Next();
  uint64_t Below(uint64_t bound);  // uniform in [0, bound); bound > 0
  bool OneIn(uint64_t n) { return Below(n) == 0; }
  void Fill(void* data, size_t bytes);

 private:
  uint64_t s_[4];
};

// `bytes` from getrandom(2); fit for keys. Thread-safe.
std::string SecretBytes(size_t bytes);
uint64_t SecretU64();

}  // namespace perigee
