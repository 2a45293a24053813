// Content as one commit can take it: long objects get their extent list ahead of the commit that uses it.

#include <algorithm>

#include "base/failpoint.h"
#include "objectd/meta/namespace_impl.h"
#include "objectd/volume/reference.h"

namespace perigee::objectd {
namespace {

constexpr Nanos kListExpiry = 3600 * kSecond;  // of a list that no commit came to use
constexpr size_t kExtentsPerCommit = 256;

Status CheckCover(const std::vector<wire::Extent>& extents, uint64_t size) {
  uint64_t at = 0;
  for (const auto& e : extents) {
    const bool sound = e.offset == at && e.length > 0 && e.count > 0 && e.blob_bytes > 0 &&
                       (e.length - 1) / e.blob_bytes + 1 == e.count;
    if (!sound) return Status(Code::kInvalidArgument, "the extents of the content do not fit together");
    at += e.length;
  }
  if (at != size) return Status(Code::kInvalidArgument, "the extents do not add up to the size of the content");
  return Status::Ok();
}

// The first `blobs` blobs of an extent; the rest stays.
wire::Extent CutFront(wire::Extent* extent, uint32_t blobs) {
  wire::Extent front = *extent;
  front.count = blobs;
  front.length = blobs * extent->blob_bytes;
  extent->offset += front.length;
  extent->length -= front.length;
  extent->first_seq += blobs;
  extent->count -= blobs;
  return front;
}

}  // namespace

Result<NamespaceImpl::Content> NamespaceImpl::PrepareContent(std::vector<wire::Extent> extents, uint64_t list_id,
                                                             std::vector<uint64_t> intents, uint64_t size) {
  Content content;
  if (size == 0 && extents.empty() && list_id == 0) return content;
  content.layout.kind = wire::LayoutKind::kBlobs;
  content.intents = std::move(intents);
  if (list_id != 0) {
    if (!extents.empty()) return Status(Code::kInvalidArgument, "content has extents or a list, not both");
    content.layout.list_id = list_id;
    return content;
  }
  PERIGEE_TRY(CheckCover(extents, size));
  uint64_t blobs = 0;
  for (const auto& e : extents) blobs += e.count;
  if (extents.size() <= wire::kExtentsInsideMax && blobs <= kBlobsPerCommitMax) {
    content.layout.extents = std::move(extents);
    return content;
  }
  PERIGEE_ASSIGN(content.layout.list_id, BuildList(extents, content.intents));
  return content;
}

Result<uint64_t> NamespaceImpl::BuildList(const std::vector<wire::Extent>& extents, const std::vector<uint64_t>& intents) {
  PERIGEE_ASSIGN(uint64_t list_id, lists_.Next());
  const int64_t expires = clock_.Wall() + kListExpiry;
  std::vector<wire::Extent> batch;
  uint64_t blobs = 0;
  auto flush = [&]() -> Status {
    PERIGEE_TRY(Commit([&](Tree& tree) -> Status {
      return AddListExtents(tree.txn(), list_id, batch, intents, expires);
    }));
    PERIGEE_FAILPOINT_STATUS(meta_after_list_rows);
    batch.clear();
    blobs = 0;
    return Status::Ok();
  };
  for (wire::Extent rest : extents) {
    while (rest.count > 0) {
      const uint64_t room = kBlobsPerCommitMax - blobs;
      wire::Extent piece = rest.count <= room ? std::exchange(rest, wire::Extent{})
                                              : CutFront(&rest, static_cast<uint32_t>(room));
      blobs += piece.count;
      batch.push_back(std::move(piece));
      if (blobs == kBlobsPerCommitMax || batch.size() == kExtentsPerCommit) PERIGEE_TRY(flush());
    }
  }
  if (!batch.empty()) PERIGEE_TRY(flush());
  return list_id;
}

}  // namespace perigee::objectd
