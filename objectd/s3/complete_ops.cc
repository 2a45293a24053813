#include <map>

#include "base/crypto.h"
#include "base/failpoint.h"
#include "objectd/s3/checksums.h"
#include "objectd/s3/conditions.h"
#include "objectd/s3/operations.h"
#include "objectd/s3/payload.h"

namespace perigee::objectd::s3 {

namespace {

constexpr uint32_t kPartsPerPage = 1000;

// The stored parts by number; none when the upload is not there (any more): a repeated Complete.
Outcome AllParts(Call& call, const UploadInfo& upload, std::map<uint32_t, PartInfo>* out) {
  for (uint32_t after = 0;;) {
    Result<std::vector<PartInfo>> page = call.ns.ListParts(upload, after, kPartsPerPage);
    if (page.status().Is(Code::kNotFound) || page.status().Is(Code::kInvalidArgument)) return {};
    if (!page.ok()) return FromStatus(page.status());
    for (PartInfo& part : *page) {
      after = part.number;
      out->emplace(part.number, std::move(part));
    }
    if (page->size() < kPartsPerPage) return {};
  }
}

// What the client says the parts' checksums were must be what came with them.
Outcome CheckParts(const CompleteDocument& document, const std::map<uint32_t, PartInfo>& stored) {
  for (const CompleteDocument::Part& part : document.parts) {
    auto found = stored.find(part.number);
    if (found == stored.end()) continue;  // the namespace says so itself
    auto checksum = DecodeStored(found->second.checksum);
    for (const auto& [element, value] : part.checksums) {
      if (checksum && element == ElementOf(checksum->kind) && value != checksum->value)
        return {ErrorCode::kInvalidPart};
    }
  }
  return {};
}

// A checksum of the whole object, in the request's headers: joined from the parts' where that is
// possible.
Outcome CheckWhole(const Headers& headers, const CompleteDocument& document,
                   const std::map<uint32_t, PartInfo>& stored) {
  for (size_t i = 0; i < headers.size(); ++i) {
    auto kind = ChecksumOfHeader(headers.at(i).name);
    if (!kind) continue;
    std::vector<PartChecksum> parts;
    for (const CompleteDocument::Part& part : document.parts) {
      auto found = stored.find(part.number);
      auto checksum = found == stored.end() ? std::nullopt : DecodeStored(found->second.checksum);
      if (!checksum || checksum->kind != *kind)
        return {};  // the parts did not come with one of this kind
      auto raw = Base64Decode(checksum->value);
      parts.push_back({raw.value_or(std::string()), found->second.size});
    }
    std::string given(headers.at(i).value);
    std::string want = given.find('-') != std::string::npos
                           ? CompositeOf(*kind, parts)
                           : FullObjectOf(*kind, parts).value_or(given);
    if (given != want) {
      return {ErrorCode::kBadDigest, "The " + std::string(NameOf(*kind)) +
                                         " you specified did not match the calculated checksum."};
    }
  }
  return {};
}

// The namespace names S3's code first where it knows which.
Outcome CompleteError(Call& call, const Status& status) {
  if (status.Is(Code::kInvalidArgument)) {
    for (auto [name, code] :
         {std::pair<const char*, ErrorCode>{"InvalidPartOrder:", ErrorCode::kInvalidPartOrder},
          {"InvalidPart:", ErrorCode::kInvalidPart},
          {"EntityTooSmall:", ErrorCode::kEntityTooSmall}}) {
      if (status.message().find(name) != std::string::npos) return {code};
    }
    return {ErrorCode::kInvalidPart};
  }
  return Failed(call, status, call.bucket(), ErrorCode::kNoSuchUpload);
}

}  // namespace

Outcome CompleteMultipartUpload(Call& call) {
  PERIGEE_S3_TRY(ReserveForDocument(call));
  // The header names a checksum of the object, not of this document: it is no digest of the body.
  std::string body;
  Payload payload;
  RequestHead plain;
  if (auto md5 = call.headers().Find("content-md5")) plain.headers.Add("content-md5", *md5);
  PERIGEE_S3_TRY(Payload::Parse(plain, call.auth, Md5::kIfGiven, &payload));
  PERIGEE_S3_TRY(ReadSmallBody(call.body, kXmlBytesMax, payload, &body));
  Result<CompleteDocument> document = ParseComplete(body);
  if (!document.ok()) return {ErrorCode::kMalformedXML};
  std::vector<std::pair<uint32_t, std::string>> wanted;
  for (const CompleteDocument::Part& part : document->parts) {
    if (!wanted.empty() && wanted.back().first >= part.number)
      return {ErrorCode::kInvalidPartOrder};
    wanted.emplace_back(part.number, part.etag);
  }

  UploadInfo upload;
  upload.bucket = call.bucket();
  upload.key = call.key();
  upload.upload_id = call.query().Get("uploadId");
  std::map<uint32_t, PartInfo> stored;
  PERIGEE_S3_TRY(AllParts(call, upload, &stored));
  PERIGEE_S3_TRY(CheckParts(*document, stored));
  PERIGEE_S3_TRY(CheckWhole(call.headers(), *document, stored));

  PERIGEE_FAILPOINT(s3_complete_commit_before);
  Result<wire::Record> made =
      call.ns.CompleteUpload(upload, wanted, WriteConditions(call.headers()));
  PERIGEE_FAILPOINT(s3_complete_commit_after);
  if (!made.ok()) return CompleteError(call, made.status());
  XmlWriter xml;
  xml.OpenRoot("CompleteMultipartUploadResult");
  xml.Text("Location", "http://" + std::string(call.headers().Get("host")) + "/" + call.bucket() +
                           "/" + UriEncode(call.key(), Slash::kKeep));
  xml.Text("Bucket", call.bucket());
  xml.Text("Key", call.key());
  ObjectView view = ViewOf(*made);
  xml.Text("ETag", Quoted(view.etag));
  AddChecksum(view.checksum, &xml);
  xml.Close("CompleteMultipartUploadResult");
  call.SendXml(xml.Take());
  return {};
}

}  // namespace perigee::objectd::s3
