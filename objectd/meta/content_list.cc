// Content as one commit can take it: long objects get their extent list ahead of the commit that
// uses it.

#include "base/failpoint.h"
#include "client/blob/geometry.h"
#include "objectd/meta/namespace_impl.h"
#include "objectd/volume/reference.h"

namespace perigee::objectd {
namespace {

constexpr Nanos kListExpiry = 3600 * kSecond;  // of a list that no commit came to use

Status CheckCover(const std::vector<wire::Extent>& extents, uint64_t size) {
  uint64_t at = 0;
  for (const auto& e : extents) {
    const bool sound = e.offset == at && e.length > 0 && e.count > 0 && e.blob_bytes > 0 &&
                       (e.length - 1) / e.blob_bytes + 1 == e.count;
    if (!sound)
      return Status(Code::kInvalidArgument, "the extents of the content do not fit together");
    // Or a few bytes on the wire would have every reader plan a part for each byte.
    if (e.count > 1 && e.blob_bytes < client::kCopyBytesMax)
      return Status(Code::kInvalidArgument, "blobs of " + std::to_string(e.blob_bytes) +
                                                " bytes are too small to be several");
    at += e.length;
  }
  if (at != size)
    return Status(Code::kInvalidArgument, "the extents do not add up to the size of the content");
  return Status::Ok();
}

}  // namespace

Result<NamespaceImpl::Content> NamespaceImpl::PrepareContent(std::vector<wire::Extent> extents,
                                                             uint64_t list_id,
                                                             std::vector<uint64_t> intents,
                                                             uint64_t size) {
  Content content;
  if (size == 0 && extents.empty() && list_id == 0) return content;
  content.layout.kind = wire::LayoutKind::kBlobs;
  content.intents = std::move(intents);
  if (list_id != 0) {
    if (!extents.empty())
      return Status(Code::kInvalidArgument, "content has extents or a list, not both");
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

Result<uint64_t> NamespaceImpl::BuildList(const std::vector<wire::Extent>& extents,
                                          const std::vector<uint64_t>& intents) {
  PERIGEE_ASSIGN(uint64_t list_id, lists_.Next());
  const int64_t expires = clock_.Wall() + kListExpiry;
  for (const auto& portion : SplitForCommits(extents)) {
    PERIGEE_TRY(Commit([&](Tree& tree) {
      return AddListExtents(tree.txn(), list_id, portion, intents, expires);
    }));
    PERIGEE_FAILPOINT_STATUS(meta_after_list_rows);
  }
  return list_id;
}

}  // namespace perigee::objectd
