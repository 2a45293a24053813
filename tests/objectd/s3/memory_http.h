#pragma once
// Requests and responses in memory, and a client's side of Signature Version 4.

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/crypto.h"
#include "base/random.h"
#include "objectd/s3/chunked_body.h"
#include "objectd/s3/http.h"
#include "objectd/s3/sigv4.h"
#include "objectd/s3/uri.h"

namespace perigee::objectd::s3::test {

// Gives its text in pieces of at most `piece` bytes, then `end` (ok: the end of the body).
class MemoryBody final : public BodyReader {
 public:
  explicit MemoryBody(std::string text, size_t piece = ~size_t{0}, Code end = Code::kOk)
      : text_(std::move(text)), piece_(piece), end_(end) {}
  Result<size_t> Read(MutableBytes out) override {
    ++reads;
    size_t n = std::min({out.size(), piece_, text_.size() - at_});
    if (n == 0 && end_ != Code::kOk) return Status(end_, "as the test said");
    std::memcpy(out.data(), text_.data() + at_, n);
    at_ += n;
    return n;
  }
  size_t left() const { return text_.size() - at_; }
  int reads = 0;

 private:
  std::string text_;
  size_t piece_, at_ = 0;
  Code end_;
};

class MemoryResponse final : public ResponseWriter {
 public:
  explicit MemoryResponse(bool head_only = false) : head_only_(head_only) {}
  void Send(const ResponseHead& h, std::string_view b) override {
    Start(h, b.size());
    if (!head_only_) body = b;
  }
  void Start(const ResponseHead& h, uint64_t length) override {
    PERIGEE_CHECK(!started_);
    started_ = true;
    head = h;
    head.headers.Add("x-amz-request-id", request_id());
    content_length = length;
  }
  void Write(ConstBytes data) override {
    if (on_write) on_write();
    body.append(AsView(data));
  }
  bool started() const override { return started_; }
  bool ok() const override { return ok_; }
  void Abort() override { ok_ = false; }

  ResponseHead head;
  std::string body;
  uint64_t content_length = 0;
  std::function<void()> on_write;
  std::string_view header(std::string_view name) const { return head.headers.Get(name); }
  // The text of the first <name> element.
  std::string element(const std::string& name) const {
    size_t at = body.find("<" + name + ">");
    if (at == std::string::npos) return {};
    at += name.size() + 2;
    return body.substr(at, body.find("</" + name + ">", at) - at);
  }

 private:
  bool head_only_, started_ = false, ok_ = true;
};

inline std::string ReadAll(BodyReader& body, Code* code, size_t piece = 777) {
  std::string all(piece, '\0'), out;
  while (true) {
    Result<size_t> n = body.Read({reinterpret_cast<uint8_t*>(all.data()), all.size()});
    *code = n.code();
    if (!n.ok() || *n == 0) return out;
    out.append(all, 0, *n);
  }
}

using HeaderList = std::vector<std::pair<std::string, std::string>>;

inline RequestHead MakeHead(const std::string& method, const std::string& target,
                            const HeaderList& headers) {
  RequestHead head;
  head.method = method;
  head.target = target;
  for (const auto& [name, value] : headers) {
    head.headers.Add(name, value);
    if (EqualsIgnoreCase(name, "content-length")) head.content_length = ParseDecimal(value);
    if (EqualsIgnoreCase(name, "transfer-encoding")) head.chunked = value == "chunked";
  }
  return head;
}

struct Signed {
  std::string authorization, signature, key, scope;
};

// Signs host and every x-amz-* header of `headers`, which must hold them.
inline Signed Sign(const std::string& method, const std::string& target, const HeaderList& headers,
                   const Credentials& who, const std::string& timestamp,
                   const std::string& payload) {
  RequestHead head = MakeHead(method, target, headers);
  std::vector<std::string> names;
  for (const auto& [name, value] : headers) {
    std::string lower = AsciiLower(name);
    if (lower == "host" || lower.starts_with("x-amz-")) names.push_back(lower);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::string list;
  for (const auto& n : names) list += (list.empty() ? "" : ";") + n;
  Target parsed = *ParseTarget(target);
  std::string canonical = method + "\n" + UriEncode(parsed.path, Slash::kKeep) + "\n" +
                          CanonicalQuery(parsed.query, "") + "\n" +
                          CanonicalHeaders(head.headers, {names.begin(), names.end()}) + "\n" +
                          list + "\n" + payload;
  Signed out;
  out.scope = timestamp.substr(0, 8) + "/" + who.region + "/s3/aws4_request";
  out.key = DeriveSigningKey(who.secret_key, timestamp.substr(0, 8), who.region);
  std::string to_sign = "AWS4-HMAC-SHA256\n" + timestamp + "\n" + out.scope + "\n" +
                        HexEncode(Hash(HashKind::kSha256, canonical));
  out.signature = HexEncode(HmacSha256(out.key, to_sign));
  out.authorization = "AWS4-HMAC-SHA256 Credential=" + who.access_key + "/" + out.scope +
                      ", SignedHeaders=" + list + ", Signature=" + out.signature;
  return out;
}

}  // namespace perigee::objectd::s3::test
