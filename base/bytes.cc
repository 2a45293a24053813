#include "base/bytes.h"

namespace perigee {

std::string HexEncode(std::string_view raw) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(raw.size() * 2);
  for (unsigned char c : raw) {
    out.push_back(kDigits[c >> 4]);
    out.push_back(kDigits[c & 15]);
  }
  return out;
}

std::string HexEncode64(uint64_t v) {
  std::string be;
  AppendBe64(&be, v);
  return HexEncode(be);
}

}  // namespace perigee
