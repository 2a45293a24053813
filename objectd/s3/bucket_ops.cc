#include <algorithm>

#include "base/failpoint.h"
#include "objectd/s3/operations.h"
#include "objectd/s3/time_format.h"

namespace perigee::objectd::s3 {

namespace {

// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
bool IsBucketName(std::string_view name) {
  if (name.size() < 3 || name.size() > 63) return false;
  auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (!alnum(name.front()) || !alnum(name.back()) || name.find("..") != std::string_view::npos)
    return false;
  if (!std::all_of(name.begin(), name.end(),
                   [&](char c) { return alnum(c) || c == '-' || c == '.'; }))
    return false;
  // Not the form of an IPv4 address.
  return std::count(name.begin(), name.end(), '.') != 3 ||
         name.find_first_not_of("0123456789.") != std::string_view::npos;
}

}  // namespace

Outcome ListBuckets(Call& call) {
  uint32_t most = 10000;
  PERIGEE_S3_TRY(CountParameter(call.query(), "max-buckets", most, &most));
  std::string prefix = call.query().Get("prefix"), after = call.query().Get("continuation-token");
  auto buckets = call.ns.ListBuckets();
  if (!buckets.ok()) return FromStatus(buckets.status());
  XmlWriter xml;
  xml.OpenRoot("ListAllMyBucketsResult");
  xml.Open("Owner");
  xml.Text("ID", "perigee");
  xml.Text("DisplayName", "perigee");
  xml.Close("Owner");
  xml.Open("Buckets");
  uint32_t shown = 0;
  std::string last;
  bool more = false;
  for (const auto& [name, record] : *buckets) {
    if (!name.starts_with(prefix) || (!after.empty() && name <= after)) continue;
    if (shown == most) {
      more = true;
      break;
    }
    xml.Open("Bucket");
    xml.Text("Name", name);
    xml.Text("CreationDate",
             FormatIsoMillis(record.bucket && record.bucket->created ? record.bucket->created
                                                                     : record.btime));
    xml.Close("Bucket");
    last = name;
    ++shown;
  }
  xml.Close("Buckets");
  if (more && !last.empty()) xml.Text("ContinuationToken", last);
  if (!prefix.empty()) xml.Text("Prefix", prefix);
  xml.Close("ListAllMyBucketsResult");
  call.SendXml(xml.Take());
  return {};
}

Outcome CreateBucket(Call& call) {
  PERIGEE_S3_TRY(RefuseUnsupported(call.headers()));
  if (!IsBucketName(call.bucket())) return {ErrorCode::kInvalidBucketName};
  std::string body;
  PERIGEE_S3_TRY(ReadXml(call, &body));
  if (!body.empty()) {
    Result<std::string> location = ParseCreateBucket(body);
    if (!location.ok()) return {ErrorCode::kMalformedXML};
    if (!location->empty() && *location != call.region)
      return {ErrorCode::kInvalidLocationConstraint};
  }
  wire::CreateBucketRequest request;
  request.name = call.bucket();
  PERIGEE_FAILPOINT(s3_bucket_commit_before);
  Result<wire::Record> made = call.ns.CreateBucket(request);
  PERIGEE_FAILPOINT(s3_bucket_commit_after);
  if (made.status().Is(Code::kInvalidArgument)) return {ErrorCode::kInvalidBucketName};
  if (!made.ok()) return FromStatus(made.status());
  ResponseHead head;
  head.headers.Add("Location", "/" + call.bucket());
  call.response.Send(head, {});
  return {};
}

Outcome HeadBucket(Call& call) {
  Result<wire::Record> record = call.ns.HeadBucket(call.bucket());
  if (!record.ok()) return FromStatus(record.status(), ErrorCode::kNoSuchBucket);
  ResponseHead head;
  head.headers.Add("x-amz-bucket-region", call.region);
  call.response.Send(head, {});
  return {};
}

Outcome DeleteBucket(Call& call) {
  PERIGEE_FAILPOINT(s3_bucket_commit_before);
  Status removed = call.ns.DeleteBucket(call.bucket());
  PERIGEE_FAILPOINT(s3_bucket_commit_after);
  if (!removed.ok()) return FromStatus(removed, ErrorCode::kNoSuchBucket);
  call.SendEmpty(204);
  return {};
}

Outcome GetBucketLocation(Call& call) {
  Result<wire::Record> record = call.ns.HeadBucket(call.bucket());
  if (!record.ok()) return FromStatus(record.status(), ErrorCode::kNoSuchBucket);
  XmlWriter xml;
  xml.OpenRoot("LocationConstraint");
  // us-east-1 is written as nothing.
  std::string out = xml.Take();
  if (call.region != "us-east-1") AppendXmlEscaped(&out, call.region);
  call.SendXml(out + "</LocationConstraint>");
  return {};
}

Outcome GetBucketVersioning(Call& call) {
  Result<wire::Record> record = call.ns.HeadBucket(call.bucket());
  if (!record.ok()) return FromStatus(record.status(), ErrorCode::kNoSuchBucket);
  XmlWriter xml;
  xml.OpenRoot("VersioningConfiguration");
  xml.Close("VersioningConfiguration");
  call.SendXml(xml.Take());
  return {};
}

}  // namespace perigee::objectd::s3
