#pragma once
// Percent-encoding and the request target: bucket, key and query parameters of a path-style S3
// address. Source: RFC 3986; the encoding is the one AWS Signature Version 4 signs ("UriEncode").
// Pure functions.

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace perigee::objectd::s3 {

enum class Slash { kKeep, kEncode };
// All but A-Z a-z 0-9 - . _ ~ becomes %XX (upper case); '/' as said.
void AppendUriEncoded(std::string* out, std::string_view text, Slash slash);
std::string UriEncode(std::string_view text, Slash slash);

enum class Plus { kLiteral, kSpace };
// Nothing when an escape is malformed.
std::optional<std::string> UriDecode(std::string_view text, Plus plus);

// Query parameters, decoded, in order. A parameter without '=' has an empty value.
class Query {
 public:
  using Parameter = std::pair<std::string, std::string>;
  static std::optional<Query> Parse(std::string_view text);
  bool Has(std::string_view name) const { return Find(name) != nullptr; }
  const std::string* Find(std::string_view name) const;  // the first
  std::string Get(std::string_view name) const;          // "" when absent
  const std::vector<Parameter>& all() const { return parameters_; }

 private:
  std::vector<Parameter> parameters_;
};

struct Target {
  std::string path;    // decoded, with its leading '/'
  std::string bucket;  // "" for the service itself
  std::string key;
  Query query;
};
// kInvalidArgument: bad escapes, not UTF-8, no leading '/'. An absolute target loses its scheme and
// authority.
Result<Target> ParseTarget(std::string_view target);

}  // namespace perigee::objectd::s3
