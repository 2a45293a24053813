#pragma once
// Fsck of the burst store, while it serves: burst files that nothing names, and burst files of this
// node that the namespace names and that are not here.
//
// Each suspect is looked at twice, a moment apart, so that files that are just being made, released
// or flushed give no false alarm. A repair lets Recovery decide what becomes of a file with a
// record, as after a lost feed: it asks the namespace. A file without a record is removed only when
// the caller says that the namespace does not name it. Waits; for a pool that may.

#include "bufferd/recovery.h"
#include "rdma/wire/fsck.h"

namespace perigee::bufferd {

Result<wire::BurstFsckReply> CheckStore(Core& core, Recovery& recovery,
                                        const wire::BurstFsckRequest& request);

}  // namespace perigee::bufferd
