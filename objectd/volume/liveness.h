#pragma once
// Is a blob alive? What repair and reconciling ask before they make or delete a shard.
//
// A blob is alive while it has a reference, or a live lease covers it: its commit may still come.
// Whoever looks for garbage must list the shards first, then the leases, then the references: a
// lease outlives the commit that uses it, so a shard that was listed is under a lease, or its
// reference is there by then, or it is garbage. Blocks on the store.

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "objectd/kv/store.h"
#include "objectd/volume/reference_keys.h"

namespace perigee::objectd {

Result<bool> IsReferenced(kv::Store& store, uint32_t volume, uint64_t seq);

struct BlobPage {
  std::vector<uint64_t> seqs;  // ascending, each once
  uint64_t next = 0;           // where the next page begins
  bool end = false;
};
// Blobs of a volume with references, from `first` on; about `limit` rows are looked at.
Result<BlobPage> ReferencedBlobs(kv::Store& store, uint32_t volume, uint64_t first, size_t limit);

// Every lease in the store, expired ones too. Stops at the first failure of `visit`.
Status ForEachLease(kv::Store& store, const std::function<Status(const IntentRow&)>& visit);

// The sequences under lease when it was read.
class LeasedRanges {
 public:
  static Result<LeasedRanges> Read(kv::Store& store);
  bool Covers(uint32_t volume, uint64_t seq) const;

 private:
  std::map<std::pair<uint32_t, uint64_t>, uint64_t>
      ends_;  // (volume, first) -> one behind the last
};

}  // namespace perigee::objectd
