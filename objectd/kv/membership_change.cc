#include "objectd/kv/membership_change.h"

#include "base/bytes.h"
#include "base/failpoint.h"
#include "base/log.h"

namespace perigee::objectd::kv {
namespace {

Status Eject(MirrorMembership* membership, uint64_t drive_id, const std::string& reason) {
  PERIGEE_FAILPOINT_STATUS(kv_eject_before);
  if (membership == nullptr) return Status(Code::kInternal, "nobody records who is in sync");
  PERIGEE_TRY(membership->Eject(drive_id, reason));
  PERIGEE_FAILPOINT_STATUS(kv_eject_after);
  return Status::Ok();
}

Status Admit(MirrorMembership* membership, uint64_t drive_id) {
  PERIGEE_FAILPOINT_STATUS(kv_admit_before);
  if (membership == nullptr) return Status(Code::kInternal, "nobody records who is in sync");
  PERIGEE_TRY(membership->Admit(drive_id));
  PERIGEE_FAILPOINT_STATUS(kv_admit_after);
  return Status::Ok();
}

}  // namespace

Status EjectDurably(MirrorMembership* membership, const MirrorPlace& place,
                    const std::string& reason) {
  Status st = Eject(membership, place.drive_id, reason);
  if (st.ok()) {
    log::Warn("metadata_mirror_ejected",
              {{"drive", HexEncode64(place.drive_id)}, {"dir", place.dir}, {"reason", reason}});
    return st;
  }
  log::Error("metadata_mirror_eject_failed",
             {{"drive", HexEncode64(place.drive_id)}, {"reason", reason}, {"error", st}});
  return st.With("eject the metadata mirror in " + place.dir);
}

Status AdmitDurably(MirrorMembership* membership, const MirrorPlace& place) {
  Status st = Admit(membership, place.drive_id);
  if (!st.ok()) return st.With("admit the metadata mirror in " + place.dir);
  log::Info("metadata_mirror_admitted",
            {{"drive", HexEncode64(place.drive_id)}, {"dir", place.dir}});
  return st;
}

}  // namespace perigee::objectd::kv
