#pragma once
// Fsck of the namespace: its rows held against each other, and against who holds which blob, while
// it serves. ARCHITECTURE section 4: mark and sweep exists here only.
//
// A page is one transaction, so what it compares is one moment: a running load gives no false
// alarm. A repair reads again, under conflict, in the transaction that mends: it mends what is
// wrong then, or nothing. What cannot be mended is left as it is. Thread-safe; blocks on the store.
//   fsck_entries.cc  entries, the index of ids       fsck_inodes.cc     links, directories
//   fsck_blobs.cc    references, lists, inline bytes fsck_counters.cc   counts

#include "base/clock.h"
#include "objectd/kv/store.h"
#include "rdma/wire/fsck.h"

namespace perigee::objectd {

// The checks up to kCounters. kInvalidArgument: another, or a cursor that is none.
Result<wire::FsckReply> CheckNamespace(kv::Store& store, Clock& clock,
                                       const wire::FsckRequest& request);

}  // namespace perigee::objectd
