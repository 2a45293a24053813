#include <atomic>
#include <memory>

#include "base/event.h"
#include "base/failpoint.h"
#include "base/utf8.h"
#include "objectd/s3/conditions.h"
#include "objectd/s3/operations.h"

namespace perigee::objectd::s3 {

namespace {

constexpr size_t kDeleteWorkers = 8;

struct Deletion {
  const DeleteDocument::Item* item;
  Outcome outcome;
};

Outcome DeleteOne(Namespace& ns, const std::string& bucket, const DeleteDocument::Item& item) {
  if (!item.version_id.empty() && item.version_id != "null") return {ErrorCode::kNoSuchVersion};
  if (!IsUtf8(item.key)) return {ErrorCode::kInvalidArgument, "The key is not UTF-8."};
  Preconditions conditions;
  conditions.if_match = item.etag;
  auto removed = ns.DeleteObject(bucket, item.key, conditions);
  return removed.ok() ? Outcome::Ok() : FromStatus(removed.status());
}

// Each deletion waits until it is durable, and waiting commits share one sync: so several wait at
// once. The caller takes part, so that it is done even when no helper ever gets to it.
void DeleteAll(Call& call, std::vector<Deletion>* deletions) {
  struct Shared {
    std::atomic<size_t> next{0};
    std::atomic<size_t> left;
    Event done;
  };
  auto shared = std::make_shared<Shared>();
  size_t count = deletions->size();
  shared->left = count;
  // A helper that starts late finds nothing to take and touches nothing else.
  auto work = [shared, count, deletions, ns = &call.ns, bucket = call.bucket()] {
    for (size_t i; (i = shared->next.fetch_add(1)) < count;) {
      Deletion& d = (*deletions)[i];
      d.outcome = DeleteOne(*ns, bucket, *d.item);
      if (shared->left.fetch_sub(1) == 1) shared->done.Set();
    }
  };
  for (size_t i = 1; call.helpers() && i < std::min(count, kDeleteWorkers); ++i) {
    if (!call.helpers()->Post(work).ok()) break;
  }
  work();
  shared->done.Wait();
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

  std::vector<Deletion> deletions;
  deletions.reserve(document->items.size());
  for (const DeleteDocument::Item& item : document->items) deletions.push_back({&item, {}});
  PERIGEE_FAILPOINT(s3_delete_commit_before);
  DeleteAll(call, &deletions);
  PERIGEE_FAILPOINT(s3_delete_commit_after);

  XmlWriter xml;
  xml.OpenRoot("DeleteResult");
  for (const Deletion& d : deletions) {
    if (d.outcome.ok()) {
      if (document->quiet) continue;
      xml.Open("Deleted");
      xml.Text("Key", d.item->key);
      xml.Close("Deleted");
      continue;
    }
    const ErrorInfo& info = InfoOf(d.outcome.error().code);
    xml.Open("Error");
    xml.Text("Key", d.item->key);
    xml.Text("Code", info.name);
    xml.Text("Message", d.outcome.error().message.empty()
                            ? info.message
                            : std::string_view(d.outcome.error().message));
    xml.Close("Error");
  }
  xml.Close("DeleteResult");
  call.SendXml(xml.Take());
  return {};
}

}  // namespace perigee::objectd::s3
