// getrandom(2) of this program draws from a seed, so that identities are the same in each run of a
// seed.
#include "tests/sim/seeded_secrets.h"

#include <sys/random.h>

#include <mutex>

#include "base/random.h"

namespace perigee::sim {
namespace {
std::mutex mu;
Random secrets(1);  // guarded by mu
}  // namespace

void SeedSecrets(uint64_t seed) {
  std::lock_guard lock(mu);
  secrets = Random(seed);
}

}  // namespace perigee::sim

extern "C" ssize_t getrandom(void* out, size_t bytes, unsigned) {
  std::lock_guard lock(perigee::sim::mu);
  perigee::sim::secrets.Fill(out, bytes);
  return static_cast<ssize_t>(bytes);
}
