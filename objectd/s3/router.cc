#include "objectd/s3/router.h"

#include <algorithm>

#include "base/log.h"
#include "base/random.h"
#include "objectd/s3/aws_chunked.h"
#include "objectd/s3/operations.h"

namespace perigee::objectd::s3 {

namespace {

struct Row {
  std::string_view name;
  Outcome (*run)(Call&);
};
// In the order of Operation.
constexpr Row kRows[] = {
    {"ListBuckets", ListBuckets},
    {"CreateBucket", CreateBucket},
    {"HeadBucket", HeadBucket},
    {"DeleteBucket", DeleteBucket},
    {"GetBucketLocation", GetBucketLocation},
    {"GetBucketVersioning", GetBucketVersioning},
    {"ListObjects", ListObjects},
    {"ListObjectsV2", ListObjectsV2},
    {"ListMultipartUploads", ListMultipartUploads},
    {"DeleteObjects", DeleteObjects},
    {"GetObject", GetObject},
    {"HeadObject", GetObject},
    {"PutObject", PutObject},
    {"CopyObject", CopyObject},
    {"DeleteObject", DeleteObject},
    {"CreateMultipartUpload", CreateMultipartUpload},
    {"UploadPart", UploadPart},
    {"UploadPartCopy", UploadPartCopy},
    {"CompleteMultipartUpload", CompleteMultipartUpload},
    {"AbortMultipartUpload", AbortMultipartUpload},
    {"ListParts", ListParts},
};
static_assert(sizeof kRows / sizeof kRows[0] == static_cast<size_t>(Operation::kCount));

// Sub-resources of S3 that are not here. Taking ?acl for a plain PUT would overwrite the object
// with an ACL document.
constexpr std::string_view kUnknownSubresources[] = {
    "accelerate",     "acl",          "analytics",         "append",
    "attributes",     "cors",         "encryption",        "intelligent-tiering",
    "inventory",      "legal-hold",   "lifecycle",         "logging",
    "metrics",        "notification", "object-lock",       "ownershipControls",
    "policy",         "policyStatus", "publicAccessBlock", "replication",
    "requestPayment", "restore",      "retention",         "select",
    "session",        "tagging",      "torrent",           "versions",
    "website",
};

bool IsStream(PayloadKind kind) {
  return kind != PayloadKind::kUnsigned && kind != PayloadKind::kSigned;
}

Outcome ForService(const RequestHead& head, Operation* out) {
  if (head.method != "GET") return {ErrorCode::kMethodNotAllowed};
  *out = Operation::kListBuckets;
  return {};
}

Outcome ForBucket(const RequestHead& head, const Query& query, Operation* out) {
  const std::string& method = head.method;
  if (method == "GET") {
    if (query.Has("location"))
      *out = Operation::kGetBucketLocation;
    else if (query.Has("versioning"))
      *out = Operation::kGetBucketVersioning;
    else if (query.Has("uploads"))
      *out = Operation::kListMultipartUploads;
    else if (query.Get("list-type") == "2")
      *out = Operation::kListObjectsV2;
    else
      *out = Operation::kListObjects;
  } else if (method == "HEAD") {
    *out = Operation::kHeadBucket;
  } else if (method == "PUT") {
    if (query.Has("versioning")) return {ErrorCode::kNotImplemented};
    *out = Operation::kCreateBucket;
  } else if (method == "DELETE") {
    *out = Operation::kDeleteBucket;
  } else if (method == "POST") {
    if (!query.Has("delete"))
      return {ErrorCode::kNotImplemented, "Uploads by browser form are not implemented."};
    *out = Operation::kDeleteObjects;
  } else {
    return {ErrorCode::kMethodNotAllowed};
  }
  return {};
}

Outcome ForObject(const RequestHead& head, const Query& query, Operation* out) {
  const std::string& method = head.method;
  bool upload = query.Has("uploadId");
  if (method == "GET") {
    *out = upload ? Operation::kListParts : Operation::kGetObject;
  } else if (method == "HEAD") {
    *out = Operation::kHeadObject;
  } else if (method == "PUT") {
    bool copy = head.headers.Has("x-amz-copy-source");
    // A part number without an upload, or the other way round, must not become an object.
    if (upload != query.Has("partNumber"))
      return {ErrorCode::kInvalidArgument, "uploadId and partNumber go together."};
    if (upload)
      *out = copy ? Operation::kUploadPartCopy : Operation::kUploadPart;
    else
      *out = copy ? Operation::kCopyObject : Operation::kPutObject;
  } else if (method == "DELETE") {
    *out = upload ? Operation::kAbortMultipartUpload : Operation::kDeleteObject;
  } else if (method == "POST") {
    if (query.Has("uploads"))
      *out = Operation::kCreateMultipartUpload;
    else if (upload)
      *out = Operation::kCompleteMultipartUpload;
    else
      return {ErrorCode::kMethodNotAllowed};
  } else {
    return {ErrorCode::kMethodNotAllowed};
  }
  return {};
}

void SendError(const Error& error, const RequestHead& head, std::string_view path,
               ResponseWriter& response) {
  ResponseHead out;
  const ErrorInfo& info = InfoOf(error.code);
  out.status = info.http_status;
  for (const auto& [name, value] : error.headers) out.headers.Add(name, value);
  if (error.code == ErrorCode::kSlowDown || error.code == ErrorCode::kServiceUnavailable)
    out.headers.Add("Retry-After", "1");
  if (head.method == "HEAD" || out.status == 304) {
    response.Send(out, {});
    return;
  }
  out.headers.Add("Content-Type", "application/xml");
  response.Send(out, ErrorXml(error, path, response.request_id()));
}

}  // namespace

std::string_view NameOf(Operation operation) { return kRows[static_cast<size_t>(operation)].name; }

Outcome SelectOperation(const RequestHead& head, const Target& target, Operation* out) {
  if (target.bucket.empty()) {
    if (!target.key.empty()) return {ErrorCode::kInvalidBucketName};
    return ForService(head, out);
  }
  for (const auto& [name, value] : target.query.all()) {
    if (std::find(std::begin(kUnknownSubresources), std::end(kUnknownSubresources), name) ==
        std::end(kUnknownSubresources))
      continue;
    return {ErrorCode::kNotImplemented, "The sub-resource ?" + name + " is not implemented."};
  }
  return target.key.empty() ? ForBucket(head, target.query, out)
                            : ForObject(head, target.query, out);
}

Service::Service(Credentials credentials, Clock& clock, ContentIoDeps deps)
    : region_(credentials.region),
      clock_(clock),
      auth_(std::move(credentials), clock),
      content_(deps),
      metrics_(*deps.metrics) {
  for (size_t i = 0; i < per_operation_.size(); ++i) {
    metrics::Labels labels{{"operation", std::string(kRows[i].name)}};
    per_operation_[i].requests =
        metrics_.GetCounter("perigee_s3_requests_total", "S3 requests, by operation", labels);
    per_operation_[i].seconds = metrics_.GetHistogram(
        "perigee_s3_request_seconds", "Time from a request's head to the end of its response",
        {0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1, 5, 30}, labels);
  }
}

void Service::Handle(Request& request, ResponseWriter& response) {
  response.set_request_id(HexEncode64(SecretU64()));
  Result<Target> target = ParseTarget(request.head.target);
  Outcome outcome = target.ok() ? Run(request, *target, response)
                                : Outcome(ErrorCode::kInvalidURI, target.status().message());
  if (outcome.ok()) return;
  const Error& error = outcome.error();
  const ErrorInfo& info = InfoOf(error.code);
  metrics_
      .GetCounter("perigee_s3_errors_total", "S3 errors answered, by code",
                  {{"code", std::string(info.name)}})
      ->Add();
  if (info.http_status >= 500 && error.code != ErrorCode::kNotImplemented) {
    log::Warn("s3_error", {{"code", info.name},
                           {"request", response.request_id()},
                           {"method", request.head.method},
                           {"path", target.ok() ? target->path : ""},
                           {"why", error.cause.empty() ? error.message : error.cause}});
  }
  if (response.started()) return response.Abort();
  SendError(error, request.head, target.ok() ? target->path : request.head.target, response);
}

Outcome Service::Run(Request& request, const Target& target, ResponseWriter& response) {
  const RequestHead& head = request.head;
  if (head.headers.Has("x-amz-rdma-token") || head.headers.Has("x-rdma-info")) {
    // Such clients take any success for a transfer by RDMA, and would believe an empty object to be
    // their data.
    Error declined{ErrorCode::kNotImplemented,
                   "S3 over RDMA is not available here: send the body over HTTP."};
    declined.headers = {{"x-amz-rdma-reply", "501"}};
    return Outcome(std::move(declined));
  }
  Authentication auth;
  PERIGEE_S3_TRY(auth_.Authenticate(head, target, &auth));
  Operation operation;
  PERIGEE_S3_TRY(SelectOperation(head, target, &operation));

  BodySource raw(request.body);
  std::optional<AwsChunkedBody> decoded;
  if (IsStream(auth.payload)) {
    auto bytes = ParseDecimal(head.headers.Get("x-amz-decoded-content-length"));
    if (!bytes) return {ErrorCode::kMissingContentLength};
    decoded.emplace(raw, auth.payload, auth.signing, *bytes);
  }
  BodyReader& body = decoded ? static_cast<BodyReader&>(*decoded) : request.body;
  Call call{*content_.deps().ns, content_, clock_, region_, head, target, auth, body, response};
  const OperationMetrics& counts = per_operation_[static_cast<size_t>(operation)];
  counts.requests->Add();
  Nanos began = RealClock::Get().Monotonic();
  Outcome outcome = kRows[static_cast<size_t>(operation)].run(call);
  counts.seconds->Observe(static_cast<double>(RealClock::Get().Monotonic() - began) / kSecond);
  return outcome;
}

}  // namespace perigee::objectd::s3
