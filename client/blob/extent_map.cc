#include "client/blob/extent_map.h"

#include <algorithm>
#include <string>

#include "client/blob/geometry.h"

namespace perigee::client {

std::vector<MergedExtent> MergeBlobs(std::vector<PlacedBlob> blobs) {
  std::sort(blobs.begin(), blobs.end(),
            [](const PlacedBlob& a, const PlacedBlob& b) { return a.offset < b.offset; });
  std::vector<MergedExtent> merged;
  uint64_t last_length = 0;
  for (const PlacedBlob& b : blobs) {
    wire::Extent* e = merged.empty() ? nullptr : &merged.back().extent;
    bool follows = e && e->volume == b.volume && e->first_seq + e->count == b.seq &&
                   e->blob_bytes == b.full_bytes && last_length == b.full_bytes &&
                   e->offset + e->length == b.offset;
    if (!follows) {
      MergedExtent fresh;
      fresh.extent.offset = b.offset;
      fresh.extent.volume = b.volume;
      fresh.extent.first_seq = b.seq;
      fresh.extent.blob_bytes = b.full_bytes;
      merged.push_back(std::move(fresh));
      e = &merged.back().extent;
    }
    e->length += b.length;
    e->count += 1;
    std::vector<uint64_t>& intents = merged.back().intents;
    if (std::find(intents.begin(), intents.end(), b.intent) == intents.end()) {
      intents.push_back(b.intent);
    }
    last_length = b.length;
  }
  return merged;
}

namespace {

Status CheckExtent(const wire::Extent& e) {
  auto wrong = [&e](const std::string& why) {
    return Status(Code::kCorrupt, "extent at " + std::to_string(e.offset) + ": " + why);
  };
  if (e.length == 0 || e.count == 0) return wrong("holds nothing");
  if (e.offset + e.length < e.offset) return wrong("ends beyond all offsets");
  if (e.blob_bytes == 0 || e.blob_bytes > kBlobBytesMax)
    return wrong("no blob is of " + std::to_string(e.blob_bytes) + " bytes");
  if ((e.length - 1) / e.blob_bytes != e.count - 1)
    return wrong(std::to_string(e.length) + " bytes are not " + std::to_string(e.count) +
                 " blobs of " + std::to_string(e.blob_bytes));
  // Or a few bytes on the wire would plan a part for every byte of the range.
  if (e.count > 1 && e.blob_bytes < kFullBlobBytesMin)
    return wrong("full blobs of " + std::to_string(e.blob_bytes) + " bytes are less than " +
                 std::to_string(kFullBlobBytesMin));
  return Status::Ok();
}

Status Gap(uint64_t offset) {
  return Status(Code::kCorrupt, "no extent covers byte " + std::to_string(offset));
}

}  // namespace

Result<std::vector<BlobPart>> PartsOfRange(const std::vector<wire::Extent>& extents,
                                           uint64_t offset, uint64_t length) {
  std::vector<BlobPart> parts;
  const uint64_t begin = offset;
  const uint64_t end = offset + length;
  for (const wire::Extent& e : extents) {
    PERIGEE_TRY(CheckExtent(e));
    if (e.offset + e.length <= offset) continue;
    if (offset == end) break;
    if (e.offset > offset) return Gap(offset);
    while (offset < end && offset < e.offset + e.length) {
      uint64_t in_extent = offset - e.offset;
      uint64_t index = in_extent / e.blob_bytes;
      BlobPart part;
      part.blob.volume = e.volume;
      part.blob.seq = e.first_seq + index;
      part.blob_bytes = std::min(e.blob_bytes, e.length - index * e.blob_bytes);
      part.offset = in_extent - index * e.blob_bytes;
      part.length = std::min(part.blob_bytes - part.offset, end - offset);
      part.at = offset - begin;
      offset += part.length;
      parts.push_back(std::move(part));
    }
  }
  if (offset != end) return Gap(offset);
  return parts;
}

Result<std::vector<wire::Extent>> ExtentsOfRange(Cluster& cluster, const wire::Layout& layout,
                                                 uint64_t offset, uint64_t length) {
  if (layout.list_id == 0) return layout.extents;
  std::vector<wire::Extent> found;
  const uint64_t end = offset + length;
  wire::GetExtentsRequest request;
  request.list_id = layout.list_id;
  request.offset = offset;
  bool from_start = offset == 0;
  while (true) {
    PERIGEE_ASSIGN(wire::GetExtentsReply page, cluster.GetExtents(request));
    if (page.extents.empty() || page.extents.front().offset > offset) {
      // A store that counts "from offset on" by where extents begin has left out the one we are in.
      if (found.empty() && !from_start) {
        from_start = true;
        request.offset = 0;
        continue;
      }
    }
    const uint64_t before = request.offset;
    for (wire::Extent& e : page.extents) {
      if (e.offset >= end) return found;
      request.offset = std::max(request.offset, e.offset + e.length);
      if (e.offset + e.length > offset) found.push_back(std::move(e));
    }
    if (page.end || request.offset >= end || request.offset == before) return found;
  }
}

}  // namespace perigee::client
