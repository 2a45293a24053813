#include "base/event.h"
#include "base/failpoint.h"
#include "objectd/s3/conditions.h"
#include "objectd/s3/operations.h"
#include "objectd/s3/payload.h"
#include "objectd/s3/time_format.h"

namespace perigee::objectd::s3 {

namespace {

constexpr int kReadAttempts = 5;

// response-content-type and its kin replace what is stored.
struct Override {
  std::string_view parameter, header;
};
constexpr Override kOverrides[] = {
    {"response-content-type", "content-type"},
    {"response-content-language", "content-language"},
    {"response-expires", "expires"},
    {"response-cache-control", "cache-control"},
    {"response-content-disposition", "content-disposition"},
    {"response-content-encoding", "content-encoding"},
};

const std::string* OverrideOf(const Query& query, std::string_view header) {
  if (query.all().empty()) return nullptr;
  for (const Override& o : kOverrides) {
    if (o.header == header) return query.Find(o.parameter);
  }
  return nullptr;
}

void AddObjectHeaders(const wire::Record& record, const ObjectView& view, const Query& query,
                      Headers* out) {
  out->Reserve(512);
  out->Add("ETag", Quoted(view.etag));
  out->Add("Last-Modified", FormatHttpDate(view.modified));
  out->Add("Accept-Ranges", "bytes");
  bool has_type = false;
  for (const wire::Attribute& a : record.headers) {
    bool kept = a.name.starts_with("x-amz-meta-") || a.name == "expires" ||
                a.name == "cache-control" || a.name.starts_with("content-");
    if (!kept || OverrideOf(query, a.name)) continue;
    has_type |= a.name == "content-type";
    out->Add(a.name, a.value);
  }
  for (const Override& o : kOverrides) {
    if (const std::string* value = query.Find(o.parameter)) {
      out->Add(o.header, *value);
      has_type |= o.header == "content-type";
    }
  }
  if (!has_type) out->Add("Content-Type", "binary/octet-stream");
}

// A part of an object that has no parts is the object.
Outcome CheckPartNumber(const Call& call, const ObjectView& view, std::optional<ByteRange>* range) {
  if (!call.query().Has("partNumber")) return {};
  uint32_t number = 0;
  PERIGEE_S3_TRY(PartNumberOf(call, &number));
  if (call.headers().Has("range"))
    return {ErrorCode::kInvalidRequest,
            "Cannot specify both Range header and partNumber query parameter"};
  if (view.part_count > 1)
    return {ErrorCode::kNotImplemented,
            "Reading one part of a multipart object is not implemented."};
  if (number > 1) return {ErrorCode::kInvalidPartNumber};
  if (view.size > 0) *range = ByteRange{0, view.size};
  return {};
}

// The bytes as well, unless only the head is asked for.
Result<ObjectWithBytes> Find(Call& call, bool head_only) {
  if (!head_only) return call.ns.ReadObject(call.bucket(), call.key());
  ObjectWithBytes out;
  PERIGEE_ASSIGN(out.record, call.ns.GetObject(call.bucket(), call.key()));
  return out;
}

}  // namespace

Outcome GetObject(Call& call) {
  if (const std::string* version = call.query().Find("versionId"); version && *version != "null")
    return {ErrorCode::kNoSuchVersion};
  bool head_only = call.head.method == "HEAD";
  std::optional<wire::Version> before;
  for (int attempt = 1;; ++attempt) {
    Result<ObjectWithBytes> object = Find(call, head_only);
    if (!object.ok()) return Failed(call, object.status(), call.bucket());
    wire::Record& record = object->record;
    if (!IsObject(record)) return {ErrorCode::kNoSuchKey};
    ObjectView view = ViewOf(record);
    Outcome conditions =
        CheckConditions(call.headers(), ConditionSet::kRead, view.etag, view.modified);
    if (conditions.Is(ErrorCode::kNotModified)) {
      ResponseHead head;
      head.status = 304;
      head.headers.Add("ETag", Quoted(view.etag));
      head.headers.Add("Last-Modified", FormatHttpDate(view.modified));
      call.response.Send(head, {});
      return {};
    }
    PERIGEE_S3_TRY(std::move(conditions));
    std::optional<ByteRange> range;
    PERIGEE_S3_TRY(SelectRange(call.headers(), view.size, view.etag, view.modified, &range));
    PERIGEE_S3_TRY(CheckPartNumber(call, view, &range));

    ResponseHead head;
    AddObjectHeaders(record, view, call.query(), &head.headers);
    if (range) {
      head.status = 206;
      head.headers.Add("Content-Range", "bytes " + std::to_string(range->offset) + "-" +
                                            std::to_string(range->offset + range->length - 1) +
                                            "/" + std::to_string(view.size));
    }
    bool whole = !range || range->length == view.size;
    if (whole && EqualsIgnoreCase(call.headers().Get("x-amz-checksum-mode"), "enabled"))
      AddChecksum(view.checksum, &head.headers);
    uint64_t length = range ? range->length : view.size;
    if (head_only) {
      call.response.Start(head, length);
      return {};
    }
    ObjectContent content(call.content, record, std::move(object->inline_bytes));
    Status sent =
        call.content.Send(content, range ? range->offset : 0, length, head, call.response);
    if (sent.ok()) return {};
    // Replaced between its record and its bytes: begin again. Never 404 or part of it because of
    // that.
    bool moved_on = sent.Is(Code::kStale) || sent.Is(Code::kNotFound);
    if (!moved_on || attempt == kReadAttempts) {
      return FromStatus(sent.Is(Code::kNotFound) ? Status(Code::kUnavailable, sent.message())
                                                 : sent);
    }
    if (before == record.committed) {
      Event pause;  // being rewritten where it lies
      pause.WaitFor(attempt * 20 * kMillisecond);
    }
    before = std::move(record.committed);
  }
}

Outcome PutObject(Call& call) {
  PERIGEE_S3_TRY(CheckKey(call.key()));
  PERIGEE_S3_TRY(RefuseUnsupported(call.headers()));
  uint64_t size = 0;
  PERIGEE_S3_TRY(BodyBytes(call, &size));
  std::vector<wire::Attribute> headers;
  PERIGEE_S3_TRY(StoredHeaders(call.headers(), &headers));
  Payload payload;
  PERIGEE_S3_TRY(Payload::Parse(call.head, call.auth, Md5::kWanted, &payload));
  Preconditions conditions = WriteConditions(call.headers());
  bool conditional = conditions.if_match || conditions.if_none_match;
  if (size > call.ns.inline_bytes_max() || call.headers().Has("expect") || conditional) {
    // Refuse before the body travels. The commit checks again.
    Result<wire::Record> bucket = call.ns.HeadBucket(call.bucket());
    if (!bucket.ok()) return FromStatus(bucket.status(), ErrorCode::kNoSuchBucket);
    if (conditional) {
      Result<wire::Record> now = call.ns.GetObject(call.bucket(), call.key());
      if (!now.ok() && !now.status().Is(Code::kNotFound)) return FromStatus(now.status());
      if (!now.ok() && conditions.if_match) return {ErrorCode::kNoSuchKey};
      if (now.ok() && IsObject(*now)) {
        std::string etag = ViewOf(*now).etag;
        if (conditions.if_match && !ETagMatches(*conditions.if_match, etag))
          return {ErrorCode::kPreconditionFailed};
        if (conditions.if_none_match && ETagMatches(*conditions.if_none_match, etag))
          return {ErrorCode::kPreconditionFailed};
      }
    }
  }
  NewContent content;
  PERIGEE_S3_TRY(call.content.Store(call.body, size, Placement::kAnywhere, payload, &content));
  PERIGEE_FAILPOINT(s3_put_commit_before);
  Result<wire::Record> put = call.ns.PutObject(call.bucket(), call.key(), std::move(content),
                                               std::move(headers), conditions);
  PERIGEE_FAILPOINT(s3_put_commit_after);
  if (!put.ok()) return Failed(call, put.status(), call.bucket());
  ObjectView view = ViewOf(*put);
  ResponseHead head;
  head.headers.Add("ETag", Quoted(view.etag));
  if (payload.checksum()) AddChecksum(EncodeStored(*payload.checksum()), &head.headers);
  call.response.Send(head, {});
  return {};
}

}  // namespace perigee::objectd::s3
