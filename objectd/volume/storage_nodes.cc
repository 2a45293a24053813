#include "objectd/volume/storage_nodes.h"

#include <algorithm>
#include <set>

#include "base/bytes.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "rdma/rails/address_list.h"

namespace perigee::objectd {
namespace {

using wire::DriveState;
using wire::StorageNodeState;

constexpr size_t kNodesMax = 10'000;
constexpr size_t kDrivesOfNodeMax = 256;
constexpr size_t kTextMax = 1024;

std::string AddressOf(const StorageNodeRow& row) {
  return row.doors.network.empty() ? row.address : rdma::JoinAddresses(row.doors.network);
}

Status CheckReport(const wire::NodeReportRequest& report) {
  auto bad = [](const char* what) { return Status(Code::kInvalidArgument, what); };
  if (report.node == 0) return bad("a storage node reports with its id");
  if (report.name.empty() || report.name.size() > kTextMax || report.doors.network.size() > 16)
    return bad("a storage node reports with its name and doors");
  if (report.drives.size() > kDrivesOfNodeMax) return bad("too many drives for one node");
  std::set<uint64_t> ids;
  for (const wire::NodeDrive& drive : report.drives) {
    if (drive.drive_id == 0 || drive.dir.size() > kTextMax || drive.reason.size() > kTextMax ||
        !ids.insert(drive.drive_id).second)
      return bad("a storage node reports drives that make no sense");
  }
  return Status::Ok();
}

}  // namespace

StorageNodes::StorageNodes(Options options, Deps deps)
    : options_(options),
      deps_(deps),
      channels_(std::make_shared<rdma::NodeChannels>(
          *deps.transport, *deps.clock, [this](wire::NodeId id) { return DoorsOf(id); })),
      batcher_(client::ShardBatcher::Create(*deps.clock, deps.metrics)) {}

Result<std::unique_ptr<StorageNodes>> StorageNodes::Create(Options options, Deps deps) {
  std::unique_ptr<StorageNodes> nodes(new StorageNodes(options, deps));
  PERIGEE_TRY(nodes->Load());
  return nodes;
}

Status StorageNodes::Load() {
  std::vector<StorageNodeRow> rows;
  std::map<uint64_t, DriveRecord> records;
  auto read = deps_.store->Run([&](kv::Transaction& txn) -> Status {
    rows.clear();
    records.clear();
    PERIGEE_ASSIGN(auto found, txn.Scan(StorageNodeRange(), kNodesMax, kv::Direction::kForward,
                                        kv::ReadMode::kSnapshot));
    for (const auto& [key, value] : found) {
      PERIGEE_ASSIGN(StorageNodeRow row, wire::Decode<StorageNodeRow>(value));
      for (const StorageNodeDrive& drive : row.drives) {
        PERIGEE_ASSIGN(auto record, txn.Get(DriveKey(drive.drive_id), kv::ReadMode::kSnapshot));
        if (!record) continue;
        PERIGEE_ASSIGN(records[drive.drive_id], wire::Decode<DriveRecord>(*record));
      }
      rows.push_back(std::move(row));
    }
    return Status::Ok();
  });
  if (!read.ok()) return std::move(read).TakeStatus();
  std::lock_guard lock(mu_);
  for (StorageNodeRow& row : rows) {
    const wire::NodeId id = row.node;
    TakeRow(std::move(row));
    Node& node = nodes_[id];
    node.heard_at = deps_.clock->Monotonic() + options_.heard_within - options_.silent_after;
    node.heard = true;  // until that is over
    node.since = deps_.clock->Wall();
    for (auto& [id, drive] : node.drives) {
      auto record = records.find(id);
      if (record == records.end()) continue;
      const DriveState state = record->second.state;
      if (state != DriveState::kOnline && state != DriveState::kRepairing)
        drive->SetOffline(record->second.reason);
    }
  }
  return Status::Ok();
}

Status StorageNodes::Save(const std::vector<StorageNodeRow>& rows) {
  PERIGEE_FAILPOINT_STATUS(storage_node_before_commit);
  PERIGEE_TRY(deps_.store->RunDurable([&](kv::Transaction& txn) -> Status {
    for (const StorageNodeRow& row : rows) txn.Put(StorageNodeKey(row.node), wire::Encode(row));
    return Status::Ok();
  }));
  PERIGEE_FAILPOINT_STATUS(storage_node_after_commit);
  return Status::Ok();
}

// With mu_: the row is the node's from now on, and has an object for each of its drives.
void StorageNodes::TakeRow(StorageNodeRow row) {
  Node& node = nodes_[row.node];
  node.row = std::move(row);
  std::map<uint64_t, std::shared_ptr<RemoteDrive>> drives;
  for (const StorageNodeDrive& drive : node.row.drives) {
    auto& mine = drives[drive.drive_id] = node.drives[drive.drive_id];
    if (mine) continue;
    mine = std::make_shared<RemoteDrive>(node.row.node, drive.drive_id,
                                         node.row.name + ":" + drive.dir, channels_, batcher_);
  }
  node.drives = std::move(drives);
}

Result<wire::GetNodeReply> StorageNodes::DoorsOf(wire::NodeId id) const {
  std::lock_guard lock(mu_);
  auto found = nodes_.find(id);
  if (found == nodes_.end()) return Status(Code::kNotFound, "no such storage node");
  const StorageNodeRow& row = found->second.row;
  return wire::GetNodeReply{.address = row.address, .name = row.name, .doors = row.doors};
}

std::vector<DriveSlot> StorageNodes::Slots() const {
  std::vector<DriveSlot> slots = deps_.own->Slots();
  std::lock_guard lock(mu_);
  for (const auto& [id, node] : nodes_) {
    if (node.row.state == StorageNodeState::kRemoved) continue;
    for (const StorageNodeDrive& drive : node.row.drives) {
      DriveSlot slot;
      slot.drive_id = drive.drive_id;
      slot.slot = drive.slot;
      slot.dir = node.row.name + ":" + drive.dir;
      slot.drive = node.drives.at(drive.drive_id);
      slot.node = id;
      slot.address = AddressOf(node.row);
      slot.closed = node.row.state != StorageNodeState::kIn;
      const bool replaced = !node.told.empty() && !node.told.contains(drive.drive_id);
      slot.leaving = slot.closed || replaced || (node.row.repair_now && !slot.drive->online());
      slots.push_back(std::move(slot));
    }
  }
  return slots;
}

std::shared_ptr<Drive> StorageNodes::Find(uint64_t drive_id) const {
  if (auto own = deps_.own->Find(drive_id)) return own;
  std::lock_guard lock(mu_);
  for (const auto& [id, node] : nodes_) {
    auto found = node.drives.find(drive_id);
    if (found != node.drives.end() && node.row.state != StorageNodeState::kRemoved)
      return found->second;
  }
  return nullptr;
}

// What the node's row is to be, first, and those of nodes that drives are taken from.
Result<std::vector<StorageNodeRow>> StorageNodes::RowsFor(const wire::NodeReportRequest& report,
                                                          const StorageNodeRow* known) {
  std::map<uint64_t, const DriveSlot*> taken;
  uint32_t next_slot = 0;
  const std::vector<DriveSlot> slots = Slots();
  for (const DriveSlot& slot : slots) {
    taken[slot.drive_id] = &slot;
    next_slot = std::max(next_slot, slot.slot + 1);
  }
  StorageNodeRow row;
  if (known != nullptr)
    row = *known;
  else
    row.joined = deps_.clock->Wall();
  row.node = report.node;
  row.name = report.name;
  row.address = report.address;
  row.doors = report.doors;
  row.repair_now = false;  // it is back
  std::map<wire::NodeId, StorageNodeRow> losers;
  for (const wire::NodeDrive& drive : report.drives) {
    auto is_it = [&](const StorageNodeDrive& d) { return d.drive_id == drive.drive_id; };
    auto mine = std::find_if(row.drives.begin(), row.drives.end(), is_it);
    if (mine != row.drives.end()) {
      mine->dir = drive.dir;
      continue;
    }
    uint32_t slot = next_slot;
    if (auto other = taken.find(drive.drive_id); other != taken.end()) {
      std::lock_guard lock(mu_);
      auto owner = nodes_.find(other->second->node);
      if (owner == nodes_.end() || owner->second.heard || drive.state != DriveState::kOnline) {
        return Status(Code::kAlreadyExists,
                      "drive " + HexEncode64(drive.drive_id) + " (" + drive.dir +
                          ") is a drive of another node; move it back, or empty the directory");
      }
      StorageNodeRow& loser = losers.try_emplace(owner->first, owner->second.row).first->second;
      std::erase_if(loser.drives, is_it);
      slot = other->second->slot;
    } else {
      next_slot++;
    }
    row.drives.push_back({.drive_id = drive.drive_id, .slot = slot, .dir = drive.dir});
  }
  std::vector<StorageNodeRow> rows = {std::move(row)};
  for (auto& [id, loser] : losers) rows.push_back(std::move(loser));
  return rows;
}

Result<wire::NodeReportReply> StorageNodes::Report(const wire::NodeReportRequest& report) {
  PERIGEE_TRY(CheckReport(report));
  wire::NodeReportReply reply{.cluster_id = cluster_id()};
  if (report.cluster_id != 0 && report.cluster_id != cluster_id()) {
    return Status(Code::kPreconditionFailed, "this is cluster " + HexEncode64(cluster_id()) +
                                                 ", and the node's drives are of cluster " +
                                                 HexEncode64(report.cluster_id));
  }
  std::lock_guard change(change_mu_);
  std::optional<StorageNodeRow> known;
  {
    std::lock_guard lock(mu_);
    auto found = nodes_.find(report.node);
    if (found != nodes_.end()) known = found->second.row;
    if (!known && nodes_.size() >= kNodesMax)
      return Status(Code::kTooLarge, "the cluster has as many nodes as it can");
  }
  if (known && known->state == StorageNodeState::kRemoved) {
    return Status(
        Code::kPreconditionFailed,
        "the node was removed from the cluster (perigee node remove); to join anew, empty "
        "its drives and its state directory");
  }
  if (report.drives.empty()) {
    std::lock_guard lock(mu_);
    if (auto found = nodes_.find(report.node); found != nodes_.end()) found->second.starting = true;
    return reply;
  }
  PERIGEE_ASSIGN(std::vector<StorageNodeRow> rows, RowsFor(report, known ? &*known : nullptr));
  const StorageNodeRow row = rows.front();
  if (!known || wire::Encode(*known) != wire::Encode(row)) PERIGEE_TRY(Save(rows));
  if (!known) {
    log::Info("storage_node_joined", {{"node", row.name},
                                      {"id", HexEncode64(row.node)},
                                      {"drives", row.drives.size()},
                                      {"address", AddressOf(row)}});
  }
  reply.state = row.state;
  std::lock_guard lock(mu_);
  for (StorageNodeRow& changed : rows) TakeRow(std::move(changed));
  Node& node = nodes_[row.node];
  if (!std::exchange(node.heard, true)) {
    node.since = deps_.clock->Wall();
    log::Info("storage_node_heard", {{"node", node.row.name}});
  }
  node.heard_at = deps_.clock->Monotonic();
  node.told.clear();
  const bool started = std::exchange(node.starting, false) && known;
  for (const wire::NodeDrive& drive : report.drives) {
    if (started) started_drives_.push_back(drive.drive_id);
    node.told.insert(drive.drive_id);
    node.drives.at(drive.drive_id)->Told(drive);
  }
  for (auto& [id, drive] : node.drives)
    if (!node.told.contains(id)) drive->SetOffline("its node does not know it any more");
  return reply;
}

void StorageNodes::Silence(Node* node, const std::string& why) {
  for (auto& [id, drive] : node->drives) drive->SetOffline(why);
}

void StorageNodes::Watch() {
  const Nanos now = deps_.clock->Monotonic();
  std::lock_guard lock(mu_);
  for (auto& [id, node] : nodes_) {
    if (node.row.state == StorageNodeState::kRemoved) continue;
    if (now - node.heard_at < options_.silent_after) continue;
    const std::string why = "node " + node.row.name + " is not heard";
    // A drive that a late answer has brought back is taken away again.
    Silence(&node, why);
    if (!std::exchange(node.heard, false)) continue;
    node.since = deps_.clock->Wall();
    log::Warn("storage_node_silent",
              {{"node", node.row.name},
               {"address", AddressOf(node.row)},
               {"remedy", "look at the node, or `perigee node repair " + node.row.name + "`"}});
  }
}

std::vector<uint64_t> StorageNodes::TakeStartedDrives() {
  std::lock_guard lock(mu_);
  return std::exchange(started_drives_, {});
}

std::vector<StorageNodes::Member> StorageNodes::Members() const {
  std::vector<Member> all;
  {
    std::lock_guard lock(mu_);
    for (const auto& [id, node] : nodes_) {
      Member member{node.row, node.heard, node.since, {}};
      for (const StorageNodeDrive& drive : node.row.drives)
        if (!node.told.empty() && !node.told.contains(drive.drive_id))
          member.unknown.push_back(drive.drive_id);
      all.push_back(std::move(member));
    }
  }
  std::sort(all.begin(), all.end(), [](const Member& a, const Member& b) {
    return std::tie(a.row.name, a.row.node) < std::tie(b.row.name, b.row.node);
  });
  return all;
}

Result<StorageNodes::Member> StorageNodes::FindMember(const std::string& name) const {
  std::optional<Member> found;
  for (Member& member : Members()) {
    if (HexEncode64(member.row.node) == name) return std::move(member);
    if (member.row.name != name || member.row.state == StorageNodeState::kRemoved) continue;
    if (found)
      return Status(Code::kPreconditionFailed,
                    "several nodes are called " + name + ": say its id (perigee node ls --json)");
    found = std::move(member);
  }
  if (!found) return Status(Code::kNotFound, "no storage node is called " + name);
  return std::move(*found);
}

// True: the row was changed by `change`, durably.
Result<bool> StorageNodes::ChangeRow(wire::NodeId id,
                                     const std::function<void(StorageNodeRow*)>& change) {
  std::lock_guard turn(change_mu_);
  StorageNodeRow row;
  {
    std::lock_guard lock(mu_);
    auto found = nodes_.find(id);
    if (found == nodes_.end()) return Status(Code::kNotFound, "no such storage node");
    row = found->second.row;
  }
  const std::string before = wire::Encode(row);
  change(&row);
  if (wire::Encode(row) == before) return false;
  PERIGEE_TRY(Save({row}));
  std::lock_guard lock(mu_);
  TakeRow(std::move(row));
  return true;
}

Status StorageNodes::SetState(wire::NodeId id, StorageNodeState state, bool repair_now) {
  std::string name;
  PERIGEE_ASSIGN(bool changed, ChangeRow(id, [&](StorageNodeRow* row) {
                   row->state = state;
                   row->repair_now = repair_now;
                   name = row->name;
                 }));
  if (changed)
    log::Info("storage_node_state",
              {{"node", name}, {"state", NameOf(state)}, {"repair_now", repair_now}});
  return Status::Ok();
}

Status StorageNodes::ForgetDrive(wire::NodeId id, uint64_t drive_id) {
  auto changed = ChangeRow(id, [&](StorageNodeRow* row) {
    std::erase_if(row->drives, [&](const StorageNodeDrive& d) { return d.drive_id == drive_id; });
  });
  return changed.ok() ? Status::Ok() : std::move(changed).TakeStatus();
}

}  // namespace perigee::objectd
