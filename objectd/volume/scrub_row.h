#pragma once
// What is stored of a scrub: how far it is and what it found. Format: docs/formats/scrub.md.
//
//   A scrub  -> ScrubRow
// Pure functions.

#include <string>
#include <vector>

#include "base/status.h"
#include "rdma/wire/scrub.h"
#include "rdma/wire/shard.h"

namespace perigee::objectd {

struct BadShard {
  uint64_t drive = 0;
  wire::BlobId blob;
  uint32_t index = 0;
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.drive);
    v(2, s.blob);
    v(3, s.index);
    v.Rest(s.unknown);
  }
};
// More than these are counted as lost without being looked at again.
inline constexpr size_t kBadShardsMax = 1024;

struct ScrubRow {
  wire::ScrubReport report;
  int64_t since = 0;   // wall ns: passes are counted from here while there was none
  uint64_t drive = 0;  // the next shard is here, or on the first drive behind
  wire::BlobId blob;
  uint32_t index = 0;
  std::vector<BadShard> bad;  // not looked at again yet
  uint32_t volume = 0;        // once all drives are read: the next blob that should be there
  uint64_t seq = 0;
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.report);
    v(2, s.since);
    v(3, s.drive);
    v(4, s.blob);
    v(5, s.index);
    v(6, s.bad);
    v(7, s.volume);
    v(8, s.seq);
    v.Rest(s.unknown);
  }
};

std::string ScrubKey();
std::string EncodeScrubRow(const ScrubRow& row);
Result<ScrubRow> DecodeScrubRow(std::string_view value);  // kCorrupt, kUnimplemented (newer)

}  // namespace perigee::objectd
