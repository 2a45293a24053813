#pragma once
// Call: one authenticated request on its way through an operation, and what operations share: how
// records look as objects, which headers are stored, how errors name what was missing. Thread rule:
// belongs to the thread that serves the request.

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "objectd/meta/namespace.h"
#include "objectd/s3/byte_gate.h"
#include "objectd/s3/errors.h"
#include "objectd/s3/http.h"
#include "objectd/s3/object_io.h"
#include "objectd/s3/sigv4.h"
#include "objectd/s3/uri.h"
#include "objectd/s3/xml.h"

namespace perigee::objectd::s3 {

inline constexpr uint64_t kPutBytesMax = uint64_t{5} << 30;  // of one PUT or part
inline constexpr size_t kKeyBytesMax = 1024;
inline constexpr size_t kXmlBytesMax = 4 << 20;
inline constexpr size_t kMetadataBytesMax = 2048;

struct Call {
  Namespace& ns;
  ContentIo& content;
  Clock& clock;
  const std::string& region;
  const RequestHead& head;
  const Target& target;
  const Authentication& auth;
  BodyReader& body;  // decoded: without chunks of either kind
  ResponseWriter& response;
  ByteGate::Pass memory = {};  // see ReserveMemory

  const Headers& headers() const { return head.headers; }
  const Query& query() const { return target.query; }
  const std::string& bucket() const { return target.bucket; }
  const std::string& key() const { return target.key; }
  Scheduler* helpers() const { return content.deps().helpers; }

  void SendXml(std::string body, int status = 200);
  void SendEmpty(int status);  // 200 and 204 without a body
};

// The size of the object's body: Content-Length, or x-amz-decoded-content-length of a stream.
// kMissingContentLength; kEntityTooLarge over 5 GiB.
Outcome BodyBytes(const Call& call, uint64_t* out);
// Waits until documents may take so many bytes of memory more; the call gives them back at its end.
// kSlowDown.
Outcome ReserveMemory(Call& call, uint64_t bytes);
// For a document that the client sends: by what its length says, or could be.
Outcome ReserveForDocument(Call& call);
// XML of a request, checked against its digests.
Outcome ReadXml(Call& call, std::string* out);

Outcome CheckKey(const std::string& key);  // what may be written
// The error for a bucket or key that the namespace did not find.
Outcome NotFound(Call& call, const std::string& bucket, ErrorCode when_bucket_exists);
// The same for any failed status of a call about `bucket`.
Outcome Failed(Call& call, const Status& status, const std::string& bucket,
               ErrorCode when_bucket_exists = ErrorCode::kNoSuchKey);

// A record as an object. Explicit directories are empty objects.
struct ObjectView {
  uint64_t size = 0;
  std::string etag;  // without quotes
  int64_t modified = 0;
  std::string checksum;
  uint32_t part_count = 0;
};
bool IsObject(const wire::Record& record);
ObjectView ViewOf(const wire::Record& record);
ObjectView ViewOf(const RecordSummary& record);
std::string Quoted(std::string_view etag);

// Headers that are kept with an object. kMetadataTooLarge.
Outcome StoredHeaders(const Headers& headers, std::vector<wire::Attribute>* out);
// kNotImplemented when a write asks for something that would silently not happen (encryption, tags,
// locks, ACLs, ...).
Outcome RefuseUnsupported(const Headers& headers);
// An x-amz-checksum-* (and its type) into a response.
void AddChecksum(const std::string& stored, Headers* out);
void AddChecksum(const std::string& stored, XmlWriter* xml);

}  // namespace perigee::objectd::s3
