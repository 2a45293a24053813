// Where an object's bytes are, by extents as a record or a list may hold them.

#include "client/blob/extent_map.h"
#include "client/blob/geometry.h"
#include "rdma/wire/shard.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::client;

constexpr uint64_t kWindowBytes = 64 << 10;

void CheckParts(const std::vector<wire::Extent>& extents, uint64_t offset, uint64_t length) {
  auto parts = PartsOfRange(extents, offset, length);
  if (!parts.ok()) return;
  uint64_t covered = 0;
  for (const BlobPart& part : *parts) {
    PERIGEE_CHECK(part.at == covered && part.length > 0);
    PERIGEE_CHECK(part.blob_bytes <= kBlobBytesMax && part.offset < part.blob_bytes);
    PERIGEE_CHECK(part.length <= part.blob_bytes - part.offset);
    covered += part.length;
  }
  PERIGEE_CHECK(covered == length);
  PERIGEE_CHECK(parts->size() <= 2 * extents.size() + length / kFullBlobBytesMin);
}

// Every byte of a blob is in some chunk.
void CheckGeometry(uint64_t blob_bytes, uint32_t k, uint32_t m) {
  const Geometry g = Geometry::Of(blob_bytes, k, m);
  uint64_t bytes = 0;
  for (uint32_t stripe = 0; stripe < g.stripes; ++stripe)
    bytes += uint64_t{g.k} * g.ChunkBytes(stripe);
  PERIGEE_CHECK(bytes >= blob_bytes && g.last_chunk_bytes <= g.chunk_bytes);
  PERIGEE_CHECK(g.stripes == 0 || g.StripeOffset(g.stripes - 1) < blob_bytes);
}

// What a writer makes of its blobs, a reader finds.
void CheckMerge(fuzz::Input input) {
  std::vector<PlacedBlob> blobs;
  uint64_t size = 0;
  while (!input.empty() && blobs.size() < 64) {
    PlacedBlob blob;
    blob.offset = size;
    blob.full_bytes = FullBlobBytes(1 + input.Number<uint8_t>() % 16);
    blob.length = blob.full_bytes - input.Number<uint8_t>() % 16;
    blob.volume = input.Number<uint8_t>() % 2;
    blob.seq = input.Number<uint8_t>();
    blob.intent = blob.seq / 16;
    size += blob.length;
    blobs.push_back(blob);
  }
  std::vector<wire::Extent> extents;
  for (MergedExtent& merged : MergeBlobs(blobs)) extents.push_back(std::move(merged.extent));
  auto parts = PartsOfRange(extents, 0, size);
  PERIGEE_CHECK(parts.ok() && parts->size() == blobs.size());
  for (size_t i = 0; i < blobs.size(); ++i) {
    PERIGEE_CHECK((*parts)[i].blob.volume == blobs[i].volume);
    PERIGEE_CHECK((*parts)[i].blob.seq == blobs[i].seq);
    PERIGEE_CHECK((*parts)[i].length == blobs[i].length);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const uint8_t kind = input.Number<uint8_t>() % 3;
  if (kind == 0) {
    const uint64_t offset = input.Number<uint64_t>();
    const uint64_t length = input.Number<uint32_t>() % kWindowBytes;
    auto list = wire::Decode<wire::GetExtentsReply>(input.Rest());
    if (list.ok()) CheckParts(list->extents, offset, length);
  } else if (kind == 1) {
    CheckGeometry(input.Number<uint32_t>() % (kBlobBytesMax + 1), 1 + input.Number<uint8_t>() % 32,
                  input.Number<uint8_t>() % 8);
  } else {
    CheckMerge(input);
  }
  return 0;
}
