#pragma once
// HTTP as the S3 operations see it: a request's head, its body as a reader, the response as a
// writer. No sockets here, so that everything above can be tested with bytes in memory;
// connection.h does it for real. Thread rule: values; readers and writers belong to the thread that
// serves the request.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"

namespace perigee::objectd::s3 {

// Fields in arrival order. Names are kept in lower case, values without surrounding blanks; all in
// one buffer, because a request has a dozen of them. Views stay good until the next Add.
class Headers {
 public:
  struct Field {
    std::string_view name, value;
  };
  void Reserve(size_t bytes) { text_.reserve(bytes); }
  void Add(std::string_view name, std::string_view value);
  std::optional<std::string_view> Find(std::string_view lower_name) const;  // the first
  std::string_view Get(std::string_view lower_name) const {
    return Find(lower_name).value_or(std::string_view());
  }
  bool Has(std::string_view lower_name) const { return Find(lower_name).has_value(); }
  size_t size() const { return entries_.size(); }
  Field at(size_t i) const;

 private:
  struct Entry {
    uint32_t name, name_bytes, value, value_bytes;
  };
  std::string text_;
  std::vector<Entry> entries_;
};

struct RequestHead {
  std::string method;
  std::string target;  // as sent, still percent-encoded
  bool http11 = true;
  bool keep_alive = true;
  bool chunked = false;  // Transfer-Encoding: chunked
  std::optional<uint64_t> content_length;
  Headers headers;
};

// A body, front to back. Errors of Read: kUnavailable (the client went away), kDeadlineExceeded (it
// stalled), kInvalidArgument (bad framing), kPermissionDenied (a chunk's signature is wrong); all
// are final.
class BodyReader {
 public:
  virtual ~BodyReader() = default;
  // At least one byte, or 0 at the end. `out` is not empty.
  virtual Result<size_t> Read(MutableBytes out) = 0;
  // What follows the body in its trailer; complete once Read returned 0.
  virtual const Headers& trailers() const;
};

struct Request {
  const RequestHead& head;
  BodyReader& body;
};

struct ResponseHead {
  int status = 200;
  Headers headers;  // Content-Length, Date, Server and Connection are the writer's
};

// One response. Failures of the connection are remembered (ok()), since nobody is left who could be
// told.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;
  // The whole of it. For HEAD the body only sets Content-Length.
  virtual void Send(const ResponseHead& head, std::string_view body) = 0;
  // Begins a response of exactly `content_length` body bytes, which Write then gives.
  virtual void Start(const ResponseHead& head, uint64_t content_length) = 0;
  virtual void Write(ConstBytes data) = 0;
  virtual bool started() const = 0;  // nothing can be taken back any more
  virtual bool ok() const = 0;
  // Ends a started response in the middle: the client sees a broken connection, not a short object.
  virtual void Abort() = 0;

  // Goes into every response as x-amz-request-id, once set.
  void set_request_id(std::string id) { request_id_ = std::move(id); }
  const std::string& request_id() const { return request_id_; }

 private:
  std::string request_id_;
};

std::string AsciiLower(std::string_view s);
bool EqualsIgnoreCase(std::string_view a, std::string_view b);
std::string_view TrimBlanks(std::string_view s);  // spaces and tabs at both ends
// Decimal digits only, no sign; nothing on overflow.
std::optional<uint64_t> ParseDecimal(std::string_view s);

}  // namespace perigee::objectd::s3
