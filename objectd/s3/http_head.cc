#include "objectd/s3/http_head.h"

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/status.hpp>

namespace perigee::objectd::s3 {

namespace {

namespace http = boost::beast::http;
using boost::beast::error_code;
using boost::beast::string_view;

std::string_view View(string_view s) { return {s.data(), s.size()}; }

// Beast checks the grammar (RFC 9112); the fields go straight into ours.
class HeadParser final : public http::basic_parser<true> {
 public:
  explicit HeadParser(RequestHead* out) : out_(out) {}
  // What has come twice, or in a form that another server reads differently, is how requests get
  // smuggled past proxies.
  bool ambiguous = false;

 private:
  void on_request_impl(http::verb, string_view method, string_view target, int version,
                       error_code&) override {
    out_->method = View(method);
    out_->target = View(target);
    out_->http11 = version == 11;
  }
  void on_field_impl(http::field field, string_view name, string_view value, error_code&) override {
    if (field == http::field::content_length || field == http::field::transfer_encoding ||
        field == http::field::host) {
      ambiguous |= out_->headers.Has(AsciiLower(View(name)));
    }
    if (field == http::field::content_length) ambiguous |= !ParseDecimal(View(value));
    out_->headers.Add(View(name), View(value));
  }
  void on_response_impl(int, string_view, int, error_code&) override {}
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(boost::optional<std::uint64_t> const&, error_code&) override {}
  std::size_t on_body_impl(string_view body, error_code&) override { return body.size(); }
  void on_chunk_header_impl(std::uint64_t, string_view, error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, string_view body, error_code&) override {
    return body.size();
  }
  void on_finish_impl(error_code&) override {}

  RequestHead* out_;
};

}  // namespace

size_t FindHeadEnd(std::string_view bytes) {
  size_t skipped = 0;
  while (bytes.substr(skipped, 2) == "\r\n") skipped += 2;
  size_t end = bytes.find("\r\n\r\n", skipped);
  return end == std::string_view::npos ? 0 : end + 4;
}

Result<RequestHead> ParseHead(std::string_view bytes) {
  while (bytes.substr(0, 2) == "\r\n") bytes.remove_prefix(2);
  RequestHead head;
  head.headers.Reserve(bytes.size());
  HeadParser parser(&head);
  parser.header_limit(kRequestHeadBytesMax);
  parser.body_limit(boost::none);
  error_code ec;
  parser.put(boost::asio::const_buffer(bytes.data(), bytes.size()), ec);
  if (!ec && !parser.is_header_done()) ec = http::error::partial_message;
  if (ec) return Status(Code::kInvalidArgument, "malformed request: " + ec.message());
  if (parser.ambiguous)
    return Status(Code::kInvalidArgument,
                  "Host, Content-Length or Transfer-Encoding comes twice, or is no plain value");
  // Beast would join folded lines; nobody sends them but to have them read in two ways.
  if (bytes.find("\r\n ") != std::string_view::npos ||
      bytes.find("\r\n\t") != std::string_view::npos)
    return Status(Code::kInvalidArgument, "a header goes on in the next line");
  head.keep_alive = parser.keep_alive();
  head.chunked = parser.chunked();
  if (auto length = parser.content_length()) head.content_length = *length;
  if (auto coding = head.headers.Find("transfer-encoding")) {
    if (!EqualsIgnoreCase(*coding, "chunked"))
      return Status(Code::kUnimplemented, "transfer coding " + std::string(*coding));
    if (!parser.chunked() || head.headers.Has("content-length"))
      return Status(Code::kInvalidArgument, "both chunked and of a length");
    if (!head.http11) return Status(Code::kInvalidArgument, "HTTP/1.0 has no transfer codings");
  }
  if (head.http11 && !head.headers.Has("host")) return Status(Code::kInvalidArgument, "no Host");
  return head;
}

std::string_view ReasonPhrase(int status) {
  string_view s = http::obsolete_reason(http::int_to_status(static_cast<unsigned>(status)));
  return {s.data(), s.size()};
}

void AppendResponseHead(std::string* out, const ResponseHead& head, const ResponseLines& lines) {
  out->append("HTTP/1.1 ")
      .append(std::to_string(head.status))
      .append(" ")
      .append(ReasonPhrase(head.status));
  out->append("\r\nServer: Perigee\r\nDate: ").append(lines.date);
  if (lines.content_length)
    out->append("\r\nContent-Length: ").append(std::to_string(*lines.content_length));
  if (!lines.request_id.empty()) out->append("\r\nx-amz-request-id: ").append(lines.request_id);
  if (!lines.keep_alive) out->append("\r\nConnection: close");
  for (size_t i = 0; i < head.headers.size(); ++i) {
    Headers::Field f = head.headers.at(i);
    out->append("\r\n").append(f.name).append(": ");
    // Stored or echoed values must not be able to end the field.
    for (char c : f.value) out->push_back(c == '\r' || c == '\n' || c == '\0' ? ' ' : c);
  }
  out->append("\r\n\r\n");
}

}  // namespace perigee::objectd::s3
