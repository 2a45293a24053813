// The XML that clients send, and keys through our own XML and back.

#include "objectd/s3/xml.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::objectd::s3;

void CheckParsers(std::string_view xml) {
  if (auto doc = ParseDelete(xml); doc.ok()) {
    PERIGEE_CHECK(!doc->items.empty() && doc->items.size() <= kDeleteKeysMax);
    for (const auto& item : doc->items)
      PERIGEE_CHECK(!item.key.empty() && item.key.size() <= xml.size());
  }
  if (auto doc = ParseComplete(xml); doc.ok()) {
    PERIGEE_CHECK(!doc->parts.empty() && doc->parts.size() <= 10000);
    for (const auto& part : doc->parts) PERIGEE_CHECK(part.number >= 1 && part.number <= 10000);
  }
  if (auto location = ParseCreateBucket(xml); location.ok())
    PERIGEE_CHECK(location->size() <= xml.size());
}

// A key of a listing, sent back in a DeleteObjects, names the same object.
void CheckKey(std::string_view key) {
  if (key.empty() || key.find('\0') != std::string_view::npos) return;
  XmlWriter xml;
  xml.OpenRoot("Delete");
  xml.Open("Object");
  xml.Text("Key", key);
  xml.Close("Object");
  xml.Close("Delete");
  auto doc = ParseDelete(xml.Take());
  PERIGEE_CHECK(doc.ok());
  PERIGEE_CHECK(doc->items.size() == 1 && doc->items[0].key == key);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = AsView(ConstBytes(data, size));
  CheckParsers(text);
  CheckKey(text);
  return 0;
}
