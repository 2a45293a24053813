#include "objectd/meta/access.h"

#include <algorithm>

namespace perigee::objectd {
namespace {

bool IsBound(const wire::Caller& caller) { return caller.enforce && caller.uid != 0; }

Status Denied() { return Status(Code::kPermissionDenied, "permission denied"); }

}  // namespace

bool IsInGroup(const wire::Caller& caller, uint32_t gid) {
  return caller.gid == gid ||
         std::find(caller.groups.begin(), caller.groups.end(), gid) != caller.groups.end();
}

Status CheckAccess(const wire::Caller& caller, const wire::Record& record, uint32_t wanted) {
  if (!IsBound(caller)) return Status::Ok();
  uint32_t bits = record.mode;
  if (record.uid == caller.uid)
    bits >>= 6;
  else if (IsInGroup(caller, record.gid))
    bits >>= 3;
  return (bits & wanted) == wanted ? Status::Ok() : Denied();
}

Status CheckOwner(const wire::Caller& caller, const wire::Record& record) {
  return !IsBound(caller) || record.uid == caller.uid ? Status::Ok() : Denied();
}

Status CheckSticky(const wire::Caller& caller, const wire::Record& parent,
                   const wire::Record& child) {
  if (!IsBound(caller) || !(parent.mode & kSticky)) return Status::Ok();
  return child.uid == caller.uid || parent.uid == caller.uid ? Status::Ok() : Denied();
}

}  // namespace perigee::objectd
