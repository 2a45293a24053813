#include "objectd/volume/scrub_row.h"

#include "objectd/kv/key_space.h"

namespace perigee::objectd {
namespace {

constexpr char kFormat = 1;

}  // namespace

std::string ScrubKey() { return std::string(1, static_cast<char>(kv::KeySpace::kStore)) + "scrub"; }

std::string EncodeScrubRow(const ScrubRow& row) {
  return std::string(1, kFormat) + wire::Encode(row);
}

Result<ScrubRow> DecodeScrubRow(std::string_view value) {
  if (value.empty()) return Status(Code::kCorrupt, "empty scrub row");
  if (value[0] != kFormat)
    return Status(Code::kUnimplemented, "the scrub row was written by a newer version of Perigee");
  return wire::Decode<ScrubRow>(value.substr(1));
}

}  // namespace perigee::objectd
