#pragma once
// POSIX permission checks, for callers whose kernel did not make them (Caller::enforce). Pure
// functions; kPermissionDenied.

#include "rdma/wire/meta.h"

namespace perigee::objectd {

inline constexpr uint32_t kMayRead = 4, kMayWrite = 2, kMaySearch = 1;
inline constexpr uint32_t kSetUid = 04000, kSetGid = 02000, kSticky = 01000, kModeBits = 07777;

bool IsInGroup(const wire::Caller& caller, uint32_t gid);
// `wanted`: kMay... bits.
Status CheckAccess(const wire::Caller& caller, const wire::Record& record, uint32_t wanted);
Status CheckOwner(const wire::Caller& caller, const wire::Record& record);
// Taking `child` out of a sticky directory.
Status CheckSticky(const wire::Caller& caller, const wire::Record& parent,
                   const wire::Record& child);

}  // namespace perigee::objectd
