#pragma once
// In this program SecretBytes and SecretU64 (base/random.h) draw from a seed.

#include <cstdint>

namespace perigee::sim {

void SeedSecrets(uint64_t seed);

}  // namespace perigee::sim
