#pragma once
// Opening a RocksStore: makes new mirrors, or finds the longest of those that are there and brings
// the others to it.
// Thread rule: one thread.

#include <memory>
#include <vector>

#include "objectd/kv/feed_index.h"
#include "objectd/kv/rocks_mirror.h"
#include "objectd/kv/rocks_store.h"
#include "objectd/kv/store_format.h"

namespace perigee::objectd::kv {

struct OpenedMirrors {
  std::vector<std::shared_ptr<RocksMirror>> mirrors;  // all at `head`, synced
  Head head;
  FeedIndex feed;
};

// Those that cannot be opened or brought up are ejected first. kUnavailable when none is left;
// kBusy when another process has one open (nothing is ejected then); kUnimplemented for a format of
// a newer version.
Result<OpenedMirrors> OpenMirrors(const RocksStoreOptions& options,
                                  std::shared_ptr<RocksEngine> engine);

}  // namespace perigee::objectd::kv
