#pragma once
// The XML of S3: a writer for replies, and readers for the three documents clients send (by
// pugixml). Readers give kInvalidArgument for whatever is not well formed or not of the schema;
// namespaces are ignored. Pure functions; a writer belongs to one thread.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace perigee::objectd::s3 {

class XmlWriter {
 public:
  XmlWriter();
  void Open(std::string_view name);
  // The root of a reply: with S3's namespace.
  void OpenRoot(std::string_view name);
  void Close(std::string_view name);
  void Text(std::string_view name, std::string_view text);
  void Number(std::string_view name, uint64_t value);
  void Flag(std::string_view name, bool value);
  void Empty(std::string_view name);
  std::string Take() { return std::move(out_); }

 private:
  std::string out_;
};

// Characters that XML cannot hold become numeric references, as AWS writes them.
void AppendXmlEscaped(std::string* out, std::string_view text);

struct DeleteDocument {
  struct Item {
    std::string key;
    std::string version_id;
    std::optional<std::string> etag;
  };
  std::vector<Item> items;
  bool quiet = false;
};
inline constexpr size_t kDeleteKeysMax = 1000;
Result<DeleteDocument> ParseDelete(std::string_view xml);

struct CompleteDocument {
  struct Part {
    uint32_t number = 0;
    std::string etag;                                            // without quotes
    std::vector<std::pair<std::string, std::string>> checksums;  // "ChecksumCRC32" and its value
  };
  std::vector<Part> parts;
};
Result<CompleteDocument> ParseComplete(std::string_view xml);

// The location constraint of CreateBucketConfiguration, "" when none.
Result<std::string> ParseCreateBucket(std::string_view xml);

std::string StripQuotes(std::string_view etag);

}  // namespace perigee::objectd::s3
