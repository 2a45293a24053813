#pragma once
// NameOp: one change of names that was made here while objectd was away, or that objectd made and
// fell silent before it was known to be durable there; it waits to be made there. Stored in the
// index under "op/" + sequence (16 hex digits), framed and checked; docs/formats/burst-record.md.
//
//   frame = "PBN1" | u32 crc32c of body | body (protobuf, the field numbers below)
// An unknown magic is kUnimplemented (written by a newer build), a wrong crc kCorrupt.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "rdma/wire/meta.h"

namespace perigee::bufferd {

struct NameOp {
  uint64_t method = 0;        // wire::Method
  wire::FileId id = 0;        // of what is made, moved, removed or changed
  wire::FileId replaced = 0;  // rename: what had the new name; 0: nothing
  std::string request;        // encoded, as the method takes it
  std::string place;          // path of the directory it is made in, or moved to
  uint32_t mode = 0;          // rename of a file: these three as they were
  uint32_t uid = 0, gid = 0;
  bool made = false;  // objectd made it once, and may have lost it since
  int64_t at = 0;     // wall clock, when it was made here; 0: not known
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.method);
    v(2, s.id);
    v(3, s.replaced);
    v(4, s.request);
    v(5, s.place);
    v(6, s.mode);
    v(7, s.uid);
    v(8, s.gid);
    v(9, s.made);
    v(10, s.at);
    v.Rest(s.unknown);
  }
};

std::string EncodeOp(const NameOp& op);
Result<NameOp> DecodeOp(std::string_view stored);
// The names that it makes, moves and removes, each with its directory; of a rename both, the old
// one first.
Status ForEachName(const NameOp& op,
                   const std::function<void(wire::FileId, const std::string&)>& fn);

}  // namespace perigee::bufferd
