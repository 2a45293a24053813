// The part of VolumeManager that speaks of storage nodes: what they report, what is on them, and
// what is to become of them.

#include <algorithm>
#include <limits>
#include <set>

#include "base/bytes.h"
#include "base/log.h"
#include "objectd/volume/volume_manager.h"

namespace perigee::objectd {
namespace {

using wire::DriveState;
using wire::NodeAction;
using wire::StorageNodeState;

std::set<uint64_t> DrivesOf(const StorageNodeRow& row) {
  std::set<uint64_t> drives;
  for (const StorageNodeDrive& drive : row.drives) drives.insert(drive.drive_id);
  return drives;
}

// Volumes with shards on one of the drives, or that may have some there.
uint32_t VolumesOn(const std::set<uint64_t>& drives, const std::vector<VolumeRecord>& volumes) {
  uint32_t count = 0;
  for (const VolumeRecord& volume : volumes) {
    bool on = false;
    for (uint32_t i = 0; i < volume.drives.size() && !on; i++) {
      const std::vector<uint64_t> places = PlacesOf(volume, i);
      on = std::any_of(places.begin(), places.end(),
                       [&](uint64_t id) { return drives.contains(id); });
    }
    count += on;
  }
  return count;
}

std::string Count(uint32_t n, const char* what) {
  return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

std::string Joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

void AddDrive(wire::StorageNodeInfo* info, const wire::DriveInfo& drive) {
  info->drives++;
  info->drives_online += drive.state == DriveState::kOnline;
  if (drive.state == DriveState::kLost) return;
  info->total_bytes += drive.total_bytes;
  info->free_bytes += drive.free_bytes;
}

}  // namespace

Result<wire::NodeReportReply> VolumeManager::NodeReport(const wire::NodeReportRequest& report) {
  if (deps_.nodes == nullptr) return Status(Code::kUnimplemented, "this process takes no nodes");
  PERIGEE_ASSIGN(wire::NodeReportReply reply, deps_.nodes->Report(report));
  // Only what is news is written.
  PERIGEE_TRY(table_->SyncWithDrives());
  return reply;
}

wire::StorageNodeInfo VolumeManager::Describe(const StorageNodes::Member& member) const {
  wire::StorageNodeInfo info;
  const StorageNodeRow& row = member.row;
  info.node = row.node;
  info.name = row.name;
  info.state = row.state;
  info.heard = member.heard;
  info.since = member.since;
  info.addresses = row.doors.network.empty() ? row.address : Joined(row.doors.network);
  int64_t away_since = std::numeric_limits<int64_t>::max();
  for (const wire::DriveInfo& drive : table_->Map()->drives)
    if (drive.node == row.node) AddDrive(&info, drive);
  for (const DriveRecord& drive : table_->Drives()) {
    if (drive.node != row.node) continue;
    if (drive.state == DriveState::kOffline || drive.state == DriveState::kLost)
      away_since = std::min(away_since, drive.since);
  }
  info.volumes = VolumesOn(DrivesOf(row), table_->Volumes());
  const bool away = away_since != std::numeric_limits<int64_t>::max();
  std::vector<std::string> problems;
  if (!member.heard) problems.push_back("it is not heard");
  if (away && info.volumes > 0) {
    info.repair_after = row.repair_now ? away_since : away_since + options_.table.repair_after;
    problems.push_back(info.repair_after <= deps_.clock->Wall()
                           ? "its shards are rebuilt on other drives"
                           : "its shards are rebuilt on other drives if it stays away");
  }
  if (row.state == StorageNodeState::kDraining) {
    const VolumeTable::Picture now = table_->Now();
    const bool moving = std::any_of(now.volumes.begin(), now.volumes.end(),
                                    [](const PlanVolume& v) { return v.moves; });
    const std::set<uint64_t> drives = DrivesOf(row);
    const bool relied_on =
        std::any_of(now.volumes.begin(), now.volumes.end(), [&](const PlanVolume& volume) {
          return std::any_of(volume.drives.begin(), volume.drives.end(),
                             [&](uint64_t id) { return drives.contains(id); });
        });
    const bool stuck =
        relied_on && !moving && !NextLeave(now.volumes, now.drives, options_.repair.moves);
    if (stuck) problems.push_back("no other drive can take its shards: too few, or too full");
  }
  info.problem = Joined(problems);
  return info;
}

wire::NodeListReply VolumeManager::ListNodes() const {
  wire::NodeListReply reply;
  const VolumeTable::Picture now = table_->Now();
  wire::StorageNodeInfo own;
  own.name = deps_.node_name;
  own.heard = true;
  for (const wire::DriveInfo& drive : table_->Map()->drives)
    if (drive.node == 0) AddDrive(&own, drive);
  for (const PlanVolume& volume : now.volumes) {
    own.volumes += std::any_of(volume.drives.begin(), volume.drives.end(), [&](uint64_t id) {
      return std::any_of(now.drives.begin(), now.drives.end(), [&](const PlanDrive& drive) {
        return drive.drive_id == id && drive.node == 0;
      });
    });
    reply.moves += volume.moves;
  }
  reply.nodes.push_back(std::move(own));
  const Survived survived = Survives(now.volumes, now.drives, now.m_of_volume);
  reply.nodes_survived = survived.nodes;
  reply.drives_survived = survived.drives;
  if (deps_.nodes != nullptr) {
    for (const StorageNodes::Member& member : deps_.nodes->Members())
      if (member.row.state != StorageNodeState::kRemoved) reply.nodes.push_back(Describe(member));
  }
  if (survived.drives == 0)
    reply.survives = "no further loss of a drive";
  else if (reply.nodes.size() < 2)
    reply.survives = "any " + Count(survived.drives, "drive");
  else
    reply.survives =
        (survived.nodes == 0 ? "no node as a whole" : "any " + Count(survived.nodes, "node")) +
        std::string(", any ") + Count(survived.drives, "drive");
  return reply;
}

// Whether its shards find room elsewhere, as things are now.
Status VolumeManager::CheckDrain(const StorageNodes::Member& member) const {
  VolumeTable::Picture now = table_->Now();
  uint64_t needed = 0, room = 0;
  size_t takers = 0;
  for (PlanDrive& drive : now.drives) {
    if (drive.node == member.row.node) {
      needed += drive.total_bytes - std::min(drive.free_bytes, drive.total_bytes);
    } else if (drive.takes && !drive.left) {
      takers++;
      room += drive.free_bytes;
    }
  }
  for (const PlanVolume& volume : now.volumes) {
    if (volume.drives.size() <= takers) continue;
    return Status(Code::kPreconditionFailed,
                  "node " + member.row.name + " is not drained: the others have " +
                      Count(static_cast<uint32_t>(takers), "drive") + " that take shards, and " +
                      std::to_string(volume.drives.size()) + " are needed");
  }
  if (needed > room) {
    return Status(Code::kPreconditionFailed,
                  "node " + member.row.name + " is not drained: its drives hold " +
                      std::to_string(needed >> 20) + " MiB, and the others have " +
                      std::to_string(room >> 20) + " MiB free");
  }
  return Status::Ok();
}

Result<wire::StorageNodeInfo> VolumeManager::ChangeNode(const wire::NodeChangeRequest& request) {
  if (deps_.nodes == nullptr) return Status(Code::kUnimplemented, "this process takes no nodes");
  if (request.node == deps_.node_name || request.node == HexEncode64(0)) {
    return Status(Code::kPreconditionFailed,
                  "the namespace node's own drives stay: the namespace is on them");
  }
  PERIGEE_ASSIGN(StorageNodes::Member member, deps_.nodes->FindMember(request.node));
  StorageNodeRow& row = member.row;
  auto refuse = [&](const std::string& why) {
    return Status(Code::kPreconditionFailed, "node " + row.name + " " + why);
  };
  if (row.state == StorageNodeState::kRemoved) return refuse("was removed");
  StorageNodeState state = row.state;
  bool repair_now = row.repair_now;
  switch (request.action) {
    case NodeAction::kDrain:
      if (state == StorageNodeState::kIn) {
        PERIGEE_TRY(CheckDrain(member));
        state = StorageNodeState::kDraining;
      }
      break;
    case NodeAction::kKeep:
      state = StorageNodeState::kIn;
      break;
    case NodeAction::kRepair:
      if (member.heard) return refuse("is there: what it lacks is repaired anyway");
      repair_now = true;
      break;
    case NodeAction::kRemove:
      if (VolumesOn(DrivesOf(row), table_->Volumes()) > 0)
        return refuse(member.heard ? "still holds shards: drain it first (perigee node drain)"
                                   : "still holds shards of volumes: have them rebuilt first "
                                     "(perigee node repair)");
      if (member.heard && state != StorageNodeState::kDrained)
        return refuse("is in use: drain it first (perigee node drain)");
      state = StorageNodeState::kRemoved;
      break;
    default:
      return Status(Code::kInvalidArgument, "unknown action");
  }
  PERIGEE_TRY(deps_.nodes->SetState(row.node, state, repair_now));
  PERIGEE_TRY(table_->SyncWithDrives());
  if (state == StorageNodeState::kRemoved) PERIGEE_TRY(table_->ForgetRetired());
  repair_.Kick();
  row.state = state;
  row.repair_now = repair_now;
  return Describe(member);
}

void VolumeManager::TendNodes() {
  // See Start.
  for (uint64_t drive : deps_.nodes->TakeStartedDrives()) repair_.Clear(drive);
  for (const StorageNodes::Member& member : deps_.nodes->Members()) {
    if (member.row.state == StorageNodeState::kDraining && member.heard) EndDrain(member);
    for (uint64_t drive : member.unknown) {
      if (VolumesOn({drive}, table_->Volumes()) > 0) continue;
      Status forgotten = deps_.nodes->ForgetDrive(member.row.node, drive);
      if (forgotten.ok()) forgotten = table_->ForgetRetired();
      if (!forgotten.ok()) log::Warn("drive_not_forgotten", {{"cause", forgotten}});
    }
  }
}

// Drained is a node on which no volume relies, and whose drives say themselves that they are empty.
void VolumeManager::EndDrain(const StorageNodes::Member& member) {
  if (VolumesOn(DrivesOf(member.row), table_->Volumes()) > 0) return;
  bool empty = true;
  for (const StorageNodeDrive& drive : member.row.drives) {
    auto handle = deps_.nodes->Find(drive.drive_id);
    if (!handle || !handle->online()) continue;  // what it has is no volume's any more
    auto shards = handle->ListShards({}, 1);
    empty = empty && shards.ok() && shards->empty();
    if (!shards.ok() || shards->empty()) continue;
    // Of writers that never committed, or that were deleted while it was away.
    repair_.Clear(drive.drive_id);
  }
  if (!empty) return;
  Status drained =
      deps_.nodes->SetState(member.row.node, StorageNodeState::kDrained, member.row.repair_now);
  if (!drained.ok()) log::Warn("drain_not_ended", {{"cause", drained}});
}

}  // namespace perigee::objectd
