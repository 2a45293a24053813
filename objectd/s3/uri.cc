#include "objectd/s3/uri.h"

#include <algorithm>
#include <array>

#include "base/utf8.h"

namespace perigee::objectd::s3 {

namespace {

constexpr std::array<bool, 256> kUnreserved = [] {
  std::array<bool, 256> t{};
  for (int c = 'A'; c <= 'Z'; ++c) t[c] = true;
  for (int c = 'a'; c <= 'z'; ++c) t[c] = true;
  for (int c = '0'; c <= '9'; ++c) t[c] = true;
  for (char c : {'-', '.', '_', '~'}) t[static_cast<unsigned char>(c)] = true;
  return t;
}();

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

void AppendUriEncoded(std::string* out, std::string_view text, Slash slash) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  for (char ch : text) {
    auto c = static_cast<unsigned char>(ch);
    if (kUnreserved[c] || (c == '/' && slash == Slash::kKeep)) {
      out->push_back(ch);
    } else {
      out->push_back('%');
      out->push_back(kHex[c >> 4]);
      out->push_back(kHex[c & 15]);
    }
  }
}

std::string UriEncode(std::string_view text, Slash slash) {
  std::string out;
  out.reserve(text.size() + 16);
  AppendUriEncoded(&out, text, slash);
  return out;
}

std::optional<std::string> UriDecode(std::string_view text, Plus plus) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      int hi = HexDigit(text[i + 1]), lo = HexDigit(text[i + 2]);
      if (hi < 0 || lo < 0) return std::nullopt;
      out.push_back(static_cast<char>(hi << 4 | lo));
      i += 2;
    } else {
      out.push_back(text[i] == '+' && plus == Plus::kSpace ? ' ' : text[i]);
    }
  }
  return out;
}

std::optional<Query> Query::Parse(std::string_view text) {
  Query query;
  while (!text.empty()) {
    size_t amp = text.find('&');
    std::string_view part = text.substr(0, amp);
    text = amp == std::string_view::npos ? std::string_view() : text.substr(amp + 1);
    if (part.empty()) continue;
    size_t eq = part.find('=');
    auto name = UriDecode(part.substr(0, eq), Plus::kSpace);
    auto value =
        eq == std::string_view::npos ? std::string() : UriDecode(part.substr(eq + 1), Plus::kSpace);
    if (!name || !value) return std::nullopt;
    query.parameters_.emplace_back(std::move(*name), std::move(*value));
  }
  return query;
}

const std::string* Query::Find(std::string_view name) const {
  for (const auto& [n, v] : parameters_) {
    if (n == name) return &v;
  }
  return nullptr;
}

std::string Query::Get(std::string_view name) const {
  const std::string* v = Find(name);
  return v ? *v : std::string();
}

Result<Target> ParseTarget(std::string_view target) {
  std::string without_path;
  if (target.starts_with("http://") || target.starts_with("https://")) {
    target.remove_prefix(
        std::min(target.size(), target.find_first_of("/?", target.find("//") + 2)));
    if (target.empty() || target[0] == '?') target = without_path.assign("/").append(target);
  }
  if (target.empty() || target[0] != '/')
    return Status(Code::kInvalidArgument, "the request target is not a path");
  size_t question = target.find('?');
  auto path = UriDecode(target.substr(0, question), Plus::kLiteral);
  if (!path || !IsUtf8(*path))
    return Status(Code::kInvalidArgument, "the path is not percent-encoded UTF-8");
  Target out;
  out.path = std::move(*path);
  if (question != std::string_view::npos) {
    auto query = Query::Parse(target.substr(question + 1));
    if (!query) return Status(Code::kInvalidArgument, "the query has a malformed escape");
    out.query = std::move(*query);
  }
  std::string_view rest = std::string_view(out.path).substr(1);
  size_t slash = rest.find('/');
  out.bucket = rest.substr(0, slash);
  if (slash != std::string_view::npos) out.key = rest.substr(slash + 1);
  return out;
}

}  // namespace perigee::objectd::s3
