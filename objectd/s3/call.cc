#include "objectd/s3/call.h"

#include "objectd/s3/checksums.h"
#include "objectd/s3/payload.h"

namespace perigee::objectd::s3 {

namespace {

constexpr const char* kEmptyMd5 = "d41d8cd98f00b204e9800998ecf8427e";

// "aws-chunked, gzip" is stored as "gzip": the chunks end here.
std::string WithoutAwsChunked(std::string_view encoding) {
  std::string out;
  while (!encoding.empty()) {
    size_t comma = encoding.find(',');
    std::string_view one = TrimBlanks(encoding.substr(0, comma));
    encoding = comma == std::string_view::npos ? std::string_view() : encoding.substr(comma + 1);
    if (one.empty() || EqualsIgnoreCase(one, "aws-chunked")) continue;
    if (!out.empty()) out.append(",");
    out.append(one);
  }
  return out;
}

void Add(std::vector<wire::Attribute>* out, std::string_view name, std::string value) {
  wire::Attribute a;
  a.name = name;
  a.value = std::move(value);
  out->push_back(std::move(a));
}

bool IsStoredName(std::string_view name) {
  for (std::string_view kept : {"content-type", "content-encoding", "content-disposition",
                                "content-language", "cache-control", "expires"}) {
    if (name == kept) return true;
  }
  return name.starts_with("x-amz-meta-");
}

}  // namespace

void Call::SendXml(std::string body, int status) {
  ResponseHead head;
  head.status = status;
  head.headers.Add("Content-Type", "application/xml");
  response.Send(head, body);
}

void Call::SendEmpty(int status) {
  ResponseHead head;
  head.status = status;
  response.Send(head, {});
}

Outcome BodyBytes(const Call& call, uint64_t* out) {
  bool stream =
      call.auth.payload != PayloadKind::kUnsigned && call.auth.payload != PayloadKind::kSigned;
  if (stream) {
    *out = *ParseDecimal(
        call.headers().Get("x-amz-decoded-content-length"));  // the router has checked it
  } else {
    // A chunked body may say its length as well.
    auto said = call.head.chunked ? ParseDecimal(call.headers().Get("x-amz-decoded-content-length"))
                                  : call.head.content_length;
    if (!said) return {ErrorCode::kMissingContentLength};
    *out = *said;
  }
  if (*out > kPutBytesMax) {
    Error error{ErrorCode::kEntityTooLarge};
    error.details = {{"ProposedSize", std::to_string(*out)},
                     {"MaxSizeAllowed", std::to_string(kPutBytesMax)}};
    return Outcome(std::move(error));
  }
  return {};
}

Outcome ReserveMemory(Call& call, uint64_t bytes) {
  ByteGate* gate = call.content.deps().documents;
  if (!gate) return {};
  Result<ByteGate::Pass> pass = gate->Enter(bytes, kBufferWait);
  if (!pass.ok()) return {ErrorCode::kSlowDown};
  call.memory = std::move(*pass);
  return {};
}

Outcome ReserveForDocument(Call& call) {
  // As text, as a tree, and as what is made of it.
  constexpr uint64_t kTimes = 8;
  return ReserveMemory(
      call,
      kTimes * std::min<uint64_t>(call.head.content_length.value_or(kXmlBytesMax), kXmlBytesMax));
}

Outcome ReadXml(Call& call, std::string* out) {
  PERIGEE_S3_TRY(ReserveForDocument(call));
  Payload payload;
  PERIGEE_S3_TRY(Payload::Parse(call.head, call.auth, Md5::kIfGiven, &payload));
  return ReadSmallBody(call.body, kXmlBytesMax, payload, out);
}

Outcome CheckKey(const std::string& key) {
  if (key.size() <= kKeyBytesMax) return {};
  Error error{ErrorCode::kKeyTooLongError};
  error.details = {{"Size", std::to_string(key.size())},
                   {"MaxSizeAllowed", std::to_string(kKeyBytesMax)}};
  return Outcome(std::move(error));
}

Outcome NotFound(Call& call, const std::string& bucket, ErrorCode when_bucket_exists) {
  Result<wire::Record> record = call.ns.HeadBucket(bucket);
  if (record.ok()) return {when_bucket_exists};
  if (!record.status().Is(Code::kNotFound)) return FromStatus(record.status());
  Error error{ErrorCode::kNoSuchBucket};
  error.details = {{"BucketName", bucket}};
  return Outcome(std::move(error));
}

Outcome Failed(Call& call, const Status& status, const std::string& bucket,
               ErrorCode when_bucket_exists) {
  if (status.Is(Code::kNotFound)) return NotFound(call, bucket, when_bucket_exists);
  return FromStatus(status, when_bucket_exists);
}

bool IsObject(const wire::Record& record) {
  return record.committed.has_value() || record.kind == wire::FileKind::kDirectory;
}

namespace {

template <class Record>
ObjectView MakeView(const Record& record) {
  ObjectView view;
  view.modified = record.mtime;
  if (record.committed) {
    const auto& version = *record.committed;
    view.size = version.size;
    view.etag = version.etag;
    view.checksum = version.checksum;
    view.part_count = version.part_count;
    if (version.mtime != 0) view.modified = version.mtime;
  }
  if (view.etag.empty()) view.etag = kEmptyMd5;
  return view;
}

}  // namespace

ObjectView ViewOf(const wire::Record& record) { return MakeView(record); }
ObjectView ViewOf(const RecordSummary& record) { return MakeView(record); }

std::string Quoted(std::string_view etag) {
  std::string out;
  out.reserve(etag.size() + 2);
  out.append("\"").append(etag).append("\"");
  return out;
}

Outcome StoredHeaders(const Headers& headers, std::vector<wire::Attribute>* out) {
  size_t metadata_bytes = 0, other_bytes = 0;
  for (size_t i = 0; i < headers.size(); ++i) {
    Headers::Field f = headers.at(i);
    if (!IsStoredName(f.name)) continue;
    bool metadata = f.name.starts_with("x-amz-meta-");
    std::string value =
        f.name == "content-encoding" ? WithoutAwsChunked(f.value) : std::string(f.value);
    if (!metadata && value.empty()) continue;
    (metadata ? metadata_bytes : other_bytes) += f.name.size() + value.size() - (metadata ? 11 : 0);
    Add(out, f.name, std::move(value));
  }
  if (metadata_bytes <= kMetadataBytesMax && other_bytes <= kMetadataBytesMax) return {};
  Error error{ErrorCode::kMetadataTooLarge};
  error.details = {{"Size", std::to_string(std::max(metadata_bytes, other_bytes))},
                   {"MaxSizeAllowed", std::to_string(kMetadataBytesMax)}};
  return Outcome(std::move(error));
}

Outcome RefuseUnsupported(const Headers& headers) {
  for (size_t i = 0; i < headers.size(); ++i) {
    Headers::Field f = headers.at(i);
    if (!f.name.starts_with("x-amz-")) continue;
    bool refused =
        f.name.starts_with("x-amz-server-side-encryption") ||
        f.name.starts_with("x-amz-copy-source-server-side-encryption") ||
        f.name.starts_with("x-amz-object-lock-") || f.name.starts_with("x-amz-grant-") ||
        f.name == "x-amz-tagging" || f.name == "x-amz-website-redirect-location" ||
        f.name == "x-amz-write-offset-bytes" ||
        (f.name == "x-amz-storage-class" && f.value != "STANDARD") ||
        (f.name == "x-amz-acl" && f.value != "private" && f.value != "bucket-owner-full-control") ||
        (f.name == "x-amz-bucket-object-lock-enabled" && !EqualsIgnoreCase(f.value, "false"));
    if (!refused) continue;
    Error error{ErrorCode::kNotImplemented};
    error.details = {{"Header", std::string(f.name)}, {"Value", std::string(f.value)}};
    return Outcome(std::move(error));
  }
  return {};
}

void AddChecksum(const std::string& stored, Headers* out) {
  auto checksum = DecodeStored(stored);
  if (!checksum) return;
  out->Add(HeaderOf(checksum->kind), checksum->value);
  out->Add("x-amz-checksum-type", checksum->composite ? "COMPOSITE" : "FULL_OBJECT");
}

void AddChecksum(const std::string& stored, XmlWriter* xml) {
  auto checksum = DecodeStored(stored);
  if (!checksum) return;
  xml->Text(ElementOf(checksum->kind), checksum->value);
  xml->Text("ChecksumType", checksum->composite ? "COMPOSITE" : "FULL_OBJECT");
}

}  // namespace perigee::objectd::s3
