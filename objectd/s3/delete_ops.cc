#include <algorithm>
#include <atomic>
#include <memory>
#include <span>

#include "base/event.h"
#include "base/failpoint.h"
#include "base/utf8.h"
#include "objectd/s3/conditions.h"
#include "objectd/s3/operations.h"

namespace perigee::objectd::s3 {

namespace {

constexpr size_t kDeleteWorkers = 8;
constexpr size_t kDeletionsAtOnce = 64;  // in one commit, where they are small

// Each commit waits until it is durable, and waiting commits share one sync: so several wait at
// once. The caller takes part, so that it is done even when no helper ever gets to it.
void DeleteAll(Call& call, std::span<Deletion> deletions) {
  struct Shared {
    std::atomic<size_t> next{0};
    std::atomic<size_t> left;
    Event done;
  };
  auto shared = std::make_shared<Shared>();
  const size_t parts = (deletions.size() + kDeletionsAtOnce - 1) / kDeletionsAtOnce;
  shared->left = parts;
  // A helper that starts late finds nothing to take and touches nothing else.
  auto work = [shared, parts, deletions, ns = &call.ns, bucket = call.bucket()] {
    for (size_t i; (i = shared->next.fetch_add(1)) < parts;) {
      std::span<Deletion> rest = deletions.subspan(i * kDeletionsAtOnce);
      ns->DeleteObjects(bucket, rest.first(std::min(rest.size(), kDeletionsAtOnce)));
      if (shared->left.fetch_sub(1) == 1) shared->done.Set();
    }
  };
  for (size_t i = 1; call.helpers() && i < std::min(parts, kDeleteWorkers); ++i) {
    if (!call.helpers()->Post(work).ok()) break;
  }
  work();
  if (parts > 0) shared->done.Wait();
}

Outcome Refused(const DeleteDocument::Item& item) {
  if (!item.version_id.empty() && item.version_id != "null") return {ErrorCode::kNoSuchVersion};
  if (!IsUtf8(item.key)) return {ErrorCode::kInvalidArgument, "The key is not UTF-8."};
  return {};
}

void AddError(XmlWriter* xml, const std::string& key, const Error& error) {
  const ErrorInfo& info = InfoOf(error.code);
  xml->Open("Error");
  xml->Text("Key", key);
  xml->Text("Code", info.name);
  xml->Text("Message", error.message.empty() ? info.message : std::string_view(error.message));
  xml->Close("Error");
}

}  // namespace

Outcome DeleteObject(Call& call) {
  if (const std::string* version = call.query().Find("versionId"); version && *version != "null")
    return {ErrorCode::kNoSuchVersion};
  PERIGEE_FAILPOINT(s3_delete_commit_before);
  auto removed = call.ns.DeleteObject(call.bucket(), call.key(), WriteConditions(call.headers()));
  PERIGEE_FAILPOINT(s3_delete_commit_after);
  if (!removed.ok()) return Failed(call, removed.status(), call.bucket());
  call.SendEmpty(204);
  return {};
}

Outcome DeleteObjects(Call& call) {
  std::string body;
  PERIGEE_S3_TRY(ReadXml(call, &body));
  Result<DeleteDocument> document = ParseDelete(body);
  if (!document.ok()) return {ErrorCode::kMalformedXML};
  Result<wire::Record> bucket = call.ns.HeadBucket(call.bucket());
  if (!bucket.ok()) return FromStatus(bucket.status(), ErrorCode::kNoSuchBucket);

  XmlWriter xml;
  xml.OpenRoot("DeleteResult");
  std::vector<Deletion> deletions;
  deletions.reserve(document->items.size());
  for (DeleteDocument::Item& item : document->items) {
    if (Outcome refused = Refused(item); !refused.ok()) {
      AddError(&xml, item.key, refused.error());
    } else {
      deletions.push_back({std::move(item.key), {.if_match = std::move(item.etag)}, {}});
    }
  }
  PERIGEE_FAILPOINT(s3_delete_commit_before);
  DeleteAll(call, deletions);
  PERIGEE_FAILPOINT(s3_delete_commit_after);

  for (Deletion& d : deletions) {
    if (!d.outcome.ok()) {
      AddError(&xml, d.key, FromStatus(std::move(d.outcome)).error());
    } else if (!document->quiet) {
      xml.Open("Deleted");
      xml.Text("Key", d.key);
      xml.Close("Deleted");
    }
  }
  xml.Close("DeleteResult");
  call.SendXml(xml.Take());
  return {};
}

}  // namespace perigee::objectd::s3
