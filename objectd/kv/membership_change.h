#pragma once
// The two durable changes of who is in sync. When they return ok, every later start knows.
// Thread rule: thread-safe as far as the MirrorMembership is.

#include <string>

#include "objectd/kv/rocks_store.h"

namespace perigee::objectd::kv {

Status EjectDurably(MirrorMembership* membership, const MirrorPlace& place,
                    const std::string& reason);
Status AdmitDurably(MirrorMembership* membership, const MirrorPlace& place);

}  // namespace perigee::objectd::kv
