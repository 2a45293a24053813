#include "base/failpoint.h"
#include "base/utf8.h"
#include "objectd/s3/checksums.h"
#include "objectd/s3/conditions.h"
#include "objectd/s3/operations.h"
#include "objectd/s3/payload.h"
#include "objectd/s3/time_format.h"

namespace perigee::objectd::s3 {

namespace {

struct Source {
  std::string bucket, key;
  wire::Record record;
  ObjectView view;
};

// x-amz-copy-source is "/bucket/key" or "bucket/key", percent-encoded, perhaps with "?versionId=".
Outcome FindSource(Call& call, Source* out) {
  std::string_view text = call.headers().Get("x-amz-copy-source");
  size_t question = text.find("?versionId=");
  if (question != std::string_view::npos) {
    if (text.substr(question + 11) != "null") return {ErrorCode::kNoSuchVersion};
    text = text.substr(0, question);
  }
  auto path = UriDecode(text, Plus::kLiteral);
  if (path && path->starts_with("/")) path->erase(0, 1);
  size_t slash = path ? path->find('/') : std::string::npos;
  if (slash == std::string::npos || slash == 0 || slash + 1 == path->size() || !IsUtf8(*path)) {
    return {ErrorCode::kInvalidArgument,
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey"};
  }
  out->bucket = path->substr(0, slash);
  out->key = path->substr(slash + 1);
  Result<wire::Record> record = call.ns.GetObject(out->bucket, out->key);
  if (!record.ok()) return Failed(call, record.status(), out->bucket);
  if (!IsObject(*record)) return {ErrorCode::kNoSuchKey};
  out->record = std::move(*record);
  out->view = ViewOf(out->record);
  return CheckConditions(call.headers(), ConditionSet::kCopySource, out->view.etag,
                         out->view.modified);
}

bool HasSourceConditions(const Headers& headers) {
  for (size_t i = 0; i < headers.size(); ++i) {
    if (headers.at(i).name.starts_with("x-amz-copy-source-if-")) return true;
  }
  return false;
}

// The bytes of another object (or a range of it) as new content, with an ETag of its own.
Outcome CopyBytes(Call& call, const Source& source, const ByteRange& range, Placement placement,
                  NewContent* out) {
  ObjectContent content(call.content, source.record);
  ContentBody body(content, range.offset, range.length);
  Payload payload;
  PERIGEE_S3_TRY(Payload::Parse(RequestHead(), Authentication(), Md5::kWanted, &payload));
  return call.content.Store(body, range.length, placement, payload, out);
}

Outcome SourceGone(Outcome outcome) {
  // IncompleteBody and its kin would blame the client for the other side's silence.
  if (outcome.ok() || outcome.Is(ErrorCode::kSlowDown) ||
      outcome.Is(ErrorCode::kInsufficientStorage))
    return outcome;
  if (outcome.Is(ErrorCode::kInternalError) || outcome.Is(ErrorCode::kNotImplemented))
    return outcome;
  if (outcome.Is(ErrorCode::kServiceUnavailable)) return outcome;
  return {ErrorCode::kServiceUnavailable};
}

void SendCopyResult(Call& call, const char* root, std::string_view etag, int64_t modified,
                    const std::string& checksum) {
  XmlWriter xml;
  xml.OpenRoot(root);
  xml.Text("LastModified", FormatIsoMillis(modified));
  xml.Text("ETag", Quoted(etag));
  AddChecksum(checksum, &xml);
  xml.Close(root);
  call.SendXml(xml.Take());
}

}  // namespace

Outcome CopyObject(Call& call) {
  PERIGEE_S3_TRY(CheckKey(call.key()));
  PERIGEE_S3_TRY(RefuseUnsupported(call.headers()));
  std::string_view directive = call.headers().Get("x-amz-metadata-directive");
  bool replace = directive == "REPLACE";
  if (!directive.empty() && !replace && directive != "COPY")
    return {ErrorCode::kInvalidArgument, "Unknown metadata directive."};
  std::optional<std::vector<wire::Attribute>> headers;
  if (replace) PERIGEE_S3_TRY(StoredHeaders(call.headers(), &headers.emplace()));
  Source source;
  PERIGEE_S3_TRY(FindSource(call, &source));
  if (source.bucket == call.bucket() && source.key == call.key() && !replace) {
    return {ErrorCode::kInvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without "
            "changing the object's metadata, "
            "storage class, website redirect location or encryption attributes."};
  }
  Preconditions conditions = WriteConditions(call.headers());
  Preconditions source_conditions;
  // What the conditions were checked on is what must be copied.
  if (HasSourceConditions(call.headers())) source_conditions.if_match = source.view.etag;
  PERIGEE_FAILPOINT(s3_copy_commit_before);
  Result<wire::Record> made = call.ns.CopyObject(
      source.bucket, source.key, call.bucket(), call.key(), headers, source_conditions, conditions);
  PERIGEE_FAILPOINT(s3_copy_commit_after);
  if (made.status().Is(Code::kUnimplemented)) {
    NewContent content;
    PERIGEE_S3_TRY(
        SourceGone(CopyBytes(call, source, {0, source.view.size}, Placement::kAnywhere, &content)));
    made = call.ns.PutObject(call.bucket(), call.key(), std::move(content),
                             headers.value_or(source.record.headers), conditions);
  }
  if (!made.ok()) {
    if (!made.status().Is(Code::kNotFound)) return FromStatus(made.status());
    PERIGEE_S3_TRY(NotFound(call, call.bucket(), ErrorCode::kNoSuchKey));
  }
  ObjectView view = ViewOf(*made);
  SendCopyResult(call, "CopyObjectResult", view.etag, view.modified, view.checksum);
  return {};
}

Outcome UploadPartCopy(Call& call) {
  uint32_t number = 0;
  PERIGEE_S3_TRY(PartNumberOf(call, &number));
  PERIGEE_S3_TRY(RefuseUnsupported(call.headers()));
  UploadInfo upload;
  PERIGEE_S3_TRY(FindUpload(call, &upload));
  Source source;
  PERIGEE_S3_TRY(FindSource(call, &source));
  ByteRange range{0, source.view.size};
  if (auto text = call.headers().Find("x-amz-copy-source-range"))
    PERIGEE_S3_TRY(ParseCopyRange(*text, source.view.size, &range));
  if (range.length > kPutBytesMax) return {ErrorCode::kEntityTooLarge};
  NewContent content;
  PERIGEE_S3_TRY(SourceGone(CopyBytes(call, source, range, Placement::kBlobs, &content)));
  PERIGEE_FAILPOINT(s3_part_commit_before);
  Result<PartInfo> part = call.ns.PutPart(upload, number, std::move(content));
  PERIGEE_FAILPOINT(s3_part_commit_after);
  if (!part.ok()) return Failed(call, part.status(), call.bucket(), ErrorCode::kNoSuchUpload);
  SendCopyResult(call, "CopyPartResult", part->etag, part->modified, part->checksum);
  return {};
}

}  // namespace perigee::objectd::s3
