#include "objectd/s3/checksums.h"
#include "objectd/s3/operations.h"
#include "objectd/s3/time_format.h"

namespace perigee::objectd::s3 {

namespace {

constexpr uint32_t kPageMax = 1000;
constexpr uint64_t kPageMemory = 2 << 20;  // rows, and their lines of XML

void AppendPeople(XmlWriter* xml) {
  for (const char* who : {"Initiator", "Owner"}) {
    xml->Open(who);
    xml->Text("ID", "perigee");
    xml->Text("DisplayName", "perigee");
    xml->Close(who);
  }
  xml->Text("StorageClass", "STANDARD");
}

void AppendChecksumChoice(const UploadInfo& upload, XmlWriter* xml) {
  for (const wire::Attribute& a : upload.headers) {
    if (a.name == "x-amz-checksum-algorithm") xml->Text("ChecksumAlgorithm", a.value);
    if (a.name == "x-amz-checksum-type") xml->Text("ChecksumType", a.value);
  }
}

struct UploadPage {
  std::vector<UploadInfo> uploads;
  std::vector<std::string> common_prefixes;
  bool truncated = false;
  std::string next_key, next_upload;
};

// Pages of the namespace, rolled up by the delimiter, until `limit` lines are together.
Outcome CollectUploads(Call& call, const std::string& prefix, const std::string& delimiter,
                       std::string after_key, std::string after_upload, uint32_t limit,
                       UploadPage* out) {
  while (true) {
    auto page = call.ns.ListUploads(call.bucket(), prefix, after_key, after_upload, kPageMax);
    if (!page.ok()) return FromStatus(page.status(), ErrorCode::kNoSuchBucket);
    for (UploadInfo& upload : *page) {
      after_key = upload.key;
      after_upload = upload.upload_id;
      size_t cut =
          delimiter.empty() ? std::string::npos : upload.key.find(delimiter, prefix.size());
      std::string rolled =
          cut == std::string::npos ? std::string() : upload.key.substr(0, cut + delimiter.size());
      if (!rolled.empty() && !out->common_prefixes.empty() &&
          out->common_prefixes.back() == rolled) {
        out->next_key = after_key;
        out->next_upload = after_upload;
        continue;
      }
      if (out->uploads.size() + out->common_prefixes.size() == limit) {
        out->truncated = true;
        return {};
      }
      out->next_key = after_key;
      out->next_upload = after_upload;
      if (rolled.empty())
        out->uploads.push_back(std::move(upload));
      else
        out->common_prefixes.push_back(std::move(rolled));
    }
    if (page->size() < kPageMax) return {};
  }
}

}  // namespace

Outcome ListParts(Call& call) {
  uint32_t most = kPageMax, after = 0;
  KeyEncoding encode;
  PERIGEE_S3_TRY(CountParameter(call.query(), "max-parts", kPageMax, &most));
  PERIGEE_S3_TRY(ReserveMemory(call, kPageMemory));
  PERIGEE_S3_TRY(EncodingParameter(call.query(), &encode));
  if (call.query().Has("part-number-marker"))
    PERIGEE_S3_TRY(CountParameter(call.query(), "part-number-marker", 10000, &after));
  UploadInfo upload;
  PERIGEE_S3_TRY(FindUpload(call, &upload));
  Result<std::vector<PartInfo>> parts = call.ns.ListParts(upload, after, most + 1);
  if (!parts.ok()) return Failed(call, parts.status(), call.bucket(), ErrorCode::kNoSuchUpload);
  bool truncated = most > 0 && parts->size() > most;
  if (parts->size() > most) parts->resize(most);
  XmlWriter xml;
  xml.OpenRoot("ListPartsResult");
  xml.Text("Bucket", call.bucket());
  xml.Text("Key", encode(call.key()));
  xml.Text("UploadId", upload.upload_id);
  xml.Number("PartNumberMarker", after);
  if (!parts->empty()) xml.Number("NextPartNumberMarker", parts->back().number);
  xml.Number("MaxParts", most);
  xml.Flag("IsTruncated", truncated);
  if (encode.url) xml.Text("EncodingType", "url");
  AppendChecksumChoice(upload, &xml);
  for (const PartInfo& part : *parts) {
    xml.Open("Part");
    xml.Number("PartNumber", part.number);
    xml.Text("LastModified", FormatIsoMillis(part.modified));
    xml.Text("ETag", Quoted(part.etag));
    xml.Number("Size", part.size);
    if (auto checksum = DecodeStored(part.checksum))
      xml.Text(ElementOf(checksum->kind), checksum->value);
    xml.Close("Part");
  }
  AppendPeople(&xml);
  xml.Close("ListPartsResult");
  call.SendXml(xml.Take());
  return {};
}

Outcome ListMultipartUploads(Call& call) {
  uint32_t most = kPageMax;
  KeyEncoding encode;
  PERIGEE_S3_TRY(CountParameter(call.query(), "max-uploads", kPageMax, &most));
  PERIGEE_S3_TRY(ReserveMemory(call, kPageMemory));
  PERIGEE_S3_TRY(EncodingParameter(call.query(), &encode));
  std::string prefix = call.query().Get("prefix"), delimiter = call.query().Get("delimiter");
  std::string key_marker = call.query().Get("key-marker"),
              upload_marker = call.query().Get("upload-id-marker");
  Result<wire::Record> bucket = call.ns.HeadBucket(call.bucket());
  if (!bucket.ok()) return FromStatus(bucket.status(), ErrorCode::kNoSuchBucket);
  UploadPage page;
  if (most > 0)
    PERIGEE_S3_TRY(CollectUploads(call, prefix, delimiter, key_marker, upload_marker, most, &page));
  XmlWriter xml;
  xml.OpenRoot("ListMultipartUploadsResult");
  xml.Text("Bucket", call.bucket());
  xml.Text("KeyMarker", encode(key_marker));
  xml.Text("UploadIdMarker", upload_marker);
  if (page.truncated) {
    xml.Text("NextKeyMarker", encode(page.next_key));
    xml.Text("NextUploadIdMarker", page.next_upload);
  }
  xml.Text("Prefix", encode(prefix));
  if (!delimiter.empty()) xml.Text("Delimiter", encode(delimiter));
  xml.Number("MaxUploads", most);
  xml.Flag("IsTruncated", page.truncated);
  if (encode.url) xml.Text("EncodingType", "url");
  for (const UploadInfo& upload : page.uploads) {
    xml.Open("Upload");
    xml.Text("Key", encode(upload.key));
    xml.Text("UploadId", upload.upload_id);
    xml.Text("Initiated", FormatIsoMillis(upload.initiated));
    AppendChecksumChoice(upload, &xml);
    AppendPeople(&xml);
    xml.Close("Upload");
  }
  for (const std::string& rolled : page.common_prefixes) {
    xml.Open("CommonPrefixes");
    xml.Text("Prefix", encode(rolled));
    xml.Close("CommonPrefixes");
  }
  xml.Close("ListMultipartUploadsResult");
  call.SendXml(xml.Take());
  return {};
}

}  // namespace perigee::objectd::s3
