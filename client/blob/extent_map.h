#pragma once
// Extents and blobs: written blobs merged into extents, and the blobs that a range of an object
// needs. Pure functions, but for the pages of long extent lists.

#include <cstdint>
#include <vector>

#include "client/blob/shard_io.h"

namespace perigee::client {

// A blob on its drives.
struct PlacedBlob {
  uint64_t offset = 0;  // in the object
  uint64_t length = 0;
  uint32_t volume = 0;
  uint64_t seq = 0;
  uint64_t full_bytes = 0;  // of a full blob of that volume
  uint64_t intent = 0;
};

struct MergedExtent {
  wire::Extent extent;
  std::vector<uint64_t> intents;  // without repeats
};

// Ascending by offset. Inside an extent all blobs but the last one are full.
std::vector<MergedExtent> MergeBlobs(std::vector<PlacedBlob> blobs);

// Part of one blob.
struct BlobPart {
  wire::BlobId blob;
  uint64_t blob_bytes = 0;
  uint64_t offset = 0;  // in the blob
  uint64_t length = 0;
  uint64_t at = 0;  // in the range asked for
};

// The parts, in order, that make up [offset, offset + length) of an object: at most two for each
// extent, and one for each kFullBlobBytesMin of the range. kCorrupt: the extents do not cover it or
// make no sense.
Result<std::vector<BlobPart>> PartsOfRange(const std::vector<wire::Extent>& extents,
                                           uint64_t offset, uint64_t length);

// The extents of `layout` that overlap [offset, offset + length), from the record or from its list.
Result<std::vector<wire::Extent>> ExtentsOfRange(Cluster& cluster, const wire::Layout& layout,
                                                 uint64_t offset, uint64_t length);

}  // namespace perigee::client
