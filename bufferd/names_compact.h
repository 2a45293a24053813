#pragma once
// CompactOps: what of a journal of names need not be made at objectd at all.
//
// A file or directory that was made in the journal, and removed or replaced in it again, leaves the
// journal with every change of it. What it had replaced itself is then replaced by what replaced it
// (one rename still, so that nobody sees the name absent), or removed by an op of its own.
// Everything else keeps its order. So hours of checkpoints of which two are kept cost two
// checkpoints, and what is gone is not made for moments only. Pure; O(n).

#include <deque>
#include <map>
#include <optional>
#include <unordered_set>

#include "bufferd/name_op.h"

namespace perigee::bufferd {

struct JournaledOp {
  uint64_t sequence = 0;
  NameOp op;
  bool sent = false;  // objectd was asked and did not answer: it may have done it
};

// By sequence: the op it is now; nothing: it is left out. `there`: made at objectd already,
// perhaps; these stay. kInvalidArgument, kCorrupt: a request cannot be decoded.
Result<std::map<uint64_t, std::optional<NameOp>>> CompactOps(
    const std::deque<JournaledOp>& ops, const std::unordered_set<wire::FileId>& there);

}  // namespace perigee::bufferd
