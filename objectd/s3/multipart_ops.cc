#include "base/failpoint.h"
#include "objectd/s3/checksums.h"
#include "objectd/s3/operations.h"
#include "objectd/s3/payload.h"

namespace perigee::objectd::s3 {

namespace {

// Which checksum an upload announced is kept beside its headers; GetObject shows neither.
Outcome AddChecksumChoice(const Headers& headers, std::vector<wire::Attribute>* out) {
  auto algorithm = headers.Find("x-amz-checksum-algorithm");
  if (!algorithm) return {};
  if (!ChecksumOfName(*algorithm)) {
    return {
        ErrorCode::kInvalidRequest,
        "Checksum algorithm provided is unsupported. Please try again with any of the valid types: "
        "[CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"};
  }
  for (const char* name : {"x-amz-checksum-algorithm", "x-amz-checksum-type"}) {
    auto value = headers.Find(name);
    if (!value) continue;
    wire::Attribute a;
    a.name = name;
    a.value = *value;
    out->push_back(std::move(a));
  }
  return {};
}

}  // namespace

Outcome FindUpload(Call& call, UploadInfo* out) {
  Result<UploadInfo> upload =
      call.ns.GetUpload(call.bucket(), call.key(), call.query().Get("uploadId"));
  if (upload.status().Is(Code::kInvalidArgument))
    return {ErrorCode::kNoSuchUpload};  // no id of ours
  if (!upload.ok()) return Failed(call, upload.status(), call.bucket(), ErrorCode::kNoSuchUpload);
  *out = std::move(*upload);
  return {};
}

Outcome PartNumberOf(const Call& call, uint32_t* out) {
  auto number = ParseDecimal(call.query().Get("partNumber"));
  if (!number || *number < 1 || *number > 10000) {
    return {ErrorCode::kInvalidArgument,
            "Part number must be an integer between 1 and 10000, inclusive"};
  }
  *out = static_cast<uint32_t>(*number);
  return {};
}

Outcome CreateMultipartUpload(Call& call) {
  PERIGEE_S3_TRY(CheckKey(call.key()));
  PERIGEE_S3_TRY(RefuseUnsupported(call.headers()));
  std::vector<wire::Attribute> headers;
  PERIGEE_S3_TRY(StoredHeaders(call.headers(), &headers));
  PERIGEE_S3_TRY(AddChecksumChoice(call.headers(), &headers));
  Result<UploadInfo> upload = call.ns.CreateUpload(call.bucket(), call.key(), std::move(headers));
  if (!upload.ok()) return Failed(call, upload.status(), call.bucket());
  XmlWriter xml;
  xml.OpenRoot("InitiateMultipartUploadResult");
  xml.Text("Bucket", call.bucket());
  xml.Text("Key", call.key());
  xml.Text("UploadId", upload->upload_id);
  xml.Close("InitiateMultipartUploadResult");
  ResponseHead head;
  head.headers.Add("Content-Type", "application/xml");
  for (const wire::Attribute& a : upload->headers) {
    if (a.name.starts_with("x-amz-checksum-")) head.headers.Add(a.name, a.value);
  }
  call.response.Send(head, xml.Take());
  return {};
}

Outcome UploadPart(Call& call) {
  uint32_t number = 0;
  PERIGEE_S3_TRY(PartNumberOf(call, &number));
  PERIGEE_S3_TRY(RefuseUnsupported(call.headers()));
  uint64_t size = 0;
  PERIGEE_S3_TRY(BodyBytes(call, &size));
  Payload payload;
  PERIGEE_S3_TRY(Payload::Parse(call.head, call.auth, Md5::kWanted, &payload));
  UploadInfo upload;
  PERIGEE_S3_TRY(FindUpload(call, &upload));
  NewContent content;
  PERIGEE_S3_TRY(call.content.Store(call.body, size, Placement::kBlobs, payload, &content));
  PERIGEE_FAILPOINT(s3_part_commit_before);
  Result<PartInfo> part = call.ns.PutPart(upload, number, std::move(content));
  PERIGEE_FAILPOINT(s3_part_commit_after);
  if (!part.ok()) return Failed(call, part.status(), call.bucket(), ErrorCode::kNoSuchUpload);
  ResponseHead head;
  head.headers.Add("ETag", Quoted(part->etag));
  if (payload.checksum())
    head.headers.Add(HeaderOf(payload.checksum()->kind), payload.checksum()->value);
  call.response.Send(head, {});
  return {};
}

Outcome AbortMultipartUpload(Call& call) {
  UploadInfo upload;
  PERIGEE_S3_TRY(FindUpload(call, &upload));
  Status aborted = call.ns.AbortUpload(upload);
  if (!aborted.ok()) return Failed(call, aborted, call.bucket(), ErrorCode::kNoSuchUpload);
  call.SendEmpty(204);
  return {};
}

}  // namespace perigee::objectd::s3
