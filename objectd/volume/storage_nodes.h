#pragma once
// StorageNodes: the storage nodes of a cluster, as its namespace node keeps them, and with them all
// drives: its own and theirs.
//
// A node (`perigee-objectd --join`) reports each second. What it says of itself is a row in the
// store, durable before it is answered; its drives have slots behind the own ones. One that is
// silent for `silent_after` has all its drives offline. After a start of this process nodes have
// `heard_within` to be heard, with their drives taken to be what the records say. A drive that one
// node reports is taken from another that is silent: it was moved, or the node made anew.
// Which volumes that concerns is VolumeTable's and Repair's to see to. Thread-safe; blocks on the
// store. Format of the rows: docs/formats/volumes.md.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "objectd/kv/store.h"
#include "objectd/volume/drive_set.h"
#include "objectd/volume/remote_drive.h"
#include "objectd/volume/volume_records.h"

namespace perigee::objectd {

class StorageNodes final : public DriveCatalog {
 public:
  struct Options {
    Nanos silent_after = 3 * kSecond;
    Nanos heard_within = 10 * kSecond;
  };
  struct Deps {
    kv::Store* store = nullptr;
    DriveSet* own = nullptr;
    rdma::Transport* transport = nullptr;
    Clock* clock = nullptr;
    metrics::Registry* metrics = nullptr;  // may be null
  };
  struct Member {
    StorageNodeRow row;
    bool heard = false;
    int64_t since = 0;              // wall: heard, or silent, since
    std::vector<uint64_t> unknown;  // drives of the row that the node does not know any more
  };
  // Reads the rows, and what the records say of the drives' states.
  static Result<std::unique_ptr<StorageNodes>> Create(Options options, Deps deps);

  uint64_t cluster_id() const override { return deps_.own->cluster_id(); }
  uint32_t k() const override { return deps_.own->k(); }
  uint32_t m() const override { return deps_.own->m(); }
  std::vector<DriveSlot> Slots() const override;
  std::shared_ptr<Drive> Find(uint64_t drive_id) const override;

  // Errors as wire::NodeReportRequest says.
  Result<wire::NodeReportReply> Report(const wire::NodeReportRequest& report);
  // Takes the drives of silent nodes offline. Now and then.
  void Watch();
  // Of nodes that started, or were heard first by this process, since the last call.
  std::vector<uint64_t> TakeStartedDrives();
  std::vector<Member> Members() const;  // by name; removed ones too
  // By name, or id in hex. kNotFound; kPreconditionFailed: several have that name.
  Result<Member> FindMember(const std::string& name) const;
  // Durable on return. A removed node's drives are gone from the slots.
  Status SetState(wire::NodeId node, wire::StorageNodeState state, bool repair_now);
  // Durable on return: the node has that drive no more.
  Status ForgetDrive(wire::NodeId node, uint64_t drive_id);
  std::vector<wire::LinkInfo> Links() const { return channels_->Links(); }  // to those called
  void Close() { channels_->Close(); }

 private:
  struct Node {
    StorageNodeRow row;
    std::map<uint64_t, std::shared_ptr<RemoteDrive>> drives;
    std::set<uint64_t> told;  // drives of the last report
    bool starting = true;     // it reports without drives, or has not reported to this process
    bool heard = false;
    Nanos heard_at = 0;  // monotonic; of this process's start at first
    int64_t since = 0;
  };
  StorageNodes(Options options, Deps deps);
  Status Load();
  Status Save(const std::vector<StorageNodeRow>& rows);
  void TakeRow(StorageNodeRow row);
  Result<bool> ChangeRow(wire::NodeId id, const std::function<void(StorageNodeRow*)>& change);
  Result<std::vector<StorageNodeRow>> RowsFor(const wire::NodeReportRequest& report,
                                              const StorageNodeRow* known);
  Result<wire::GetNodeReply> DoorsOf(wire::NodeId id) const;
  static void Silence(Node* node, const std::string& why);

  const Options options_;
  const Deps deps_;
  const std::shared_ptr<rdma::NodeChannels> channels_;
  const std::shared_ptr<client::ShardBatcher> batcher_;
  std::mutex change_mu_;   // one change of rows at a time; held over commits; before mu_
  mutable std::mutex mu_;  // guards what follows
  std::map<wire::NodeId, Node> nodes_;
  std::vector<uint64_t> started_drives_;
};

}  // namespace perigee::objectd
