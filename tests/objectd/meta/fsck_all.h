#pragma once
// Every check of the namespace, page by page, as `perigee fsck` asks for them.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "objectd/meta/fsck.h"

namespace perigee::objectd::test {

struct FsckResult {
  std::vector<wire::FsckFinding> findings;
  std::vector<wire::NamedBurst> bursts;
  bool Has(wire::FsckKind kind) const {
    for (const auto& f : findings)
      if (f.kind == kind) return true;
    return false;
  }
};

inline FsckResult FsckAll(kv::Store& store, Clock& clock, bool repair = false) {
  FsckResult all;
  for (auto i = static_cast<int>(wire::kFsckFirst);
       i <= static_cast<int>(wire::FsckCheck::kCounters); ++i) {
    wire::FsckRequest q;
    q.check = static_cast<wire::FsckCheck>(i);
    q.repair = repair;
    while (true) {
      auto reply = CheckNamespace(store, clock, q);
      REQUIRE_MESSAGE(reply.ok(), reply.status().ToString());
      all.findings.insert(all.findings.end(), reply->findings.begin(), reply->findings.end());
      all.bursts.insert(all.bursts.end(), reply->bursts.begin(), reply->bursts.end());
      if (reply->end) break;
      REQUIRE(reply->cursor > q.cursor);
      q.cursor = reply->cursor;
    }
  }
  return all;
}

}  // namespace perigee::objectd::test
