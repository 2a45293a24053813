// perigee node: the machines whose drives hold the shards.

#include "cli/node.h"

#include <poll.h>

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/options.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "rdma/rpc.h"
#include "rdma/wire/control.h"

namespace perigee::cli {

using nlohmann::json;
using wire::NodeAction;
using wire::StorageNodeInfo;
using wire::StorageNodeState;

namespace {

constexpr rdma::CallOptions kSoon{.timeout = 5 * kSecond};
constexpr rdma::CallOptions kChange{.timeout = 60 * kSecond};
constexpr Nanos kLookEvery = 200 * kMillisecond;
constexpr const char* kHelp =
    "The storage nodes: machines with drives, and what of them may be lost. `drain` moves a node's "
    "shards to the others, `keep` gives that up, `remove` forgets a node that holds nothing, "
    "`repair` rebuilds a lost node's shards on others at once. NAME is a node's name or id.";
constexpr const char* kExamples =
    "  perigee node ls\n"
    "  perigee node drain node3 --wait && perigee node remove node3\n"
    "  perigee node repair node3 --wait\n"
    "\nA node is added on the new machine, with the cluster's secret and a certificate of its "
    "own:\n"
    "  perigee up --data /var/lib/perigee --join tls:10.0.0.1:9002 --drive '/srv/d{1...6}' "
    "--detach \\\n"
    "    --listen 10.0.0.3 --secret-file secret --ca-file ca.crt --cert-file n3.crt --key-file "
    "n3.key\n"
    "or, without a supervisor:\n"
    "  perigee-objectd --join tls:10.0.0.1:9002 --drive '/srv/d{1...6}' --state "
    "/var/lib/perigee/objectd \\\n"
    "    --run-dir /run/perigee --listen 10.0.0.3 --secret-file secret --ca-file ca.crt \\\n"
    "    --cert-file n3.crt --key-file n3.key\n";

uint64_t UsedBytes(const StorageNodeInfo& node) {
  return node.total_bytes - std::min(node.total_bytes, node.free_bytes);
}

// Volumes with shards of that node's drives; others may only have something to clear away there.
uint32_t VolumesRelyingOn(const wire::ObjectdStatusReply& status, wire::NodeId node) {
  std::set<uint64_t> drives;
  for (const auto& drive : status.drives)
    if (drive.node == node) drives.insert(drive.drive_id);
  auto relies = [&](const wire::VolumeInfo& v) {
    return std::any_of(v.drives.begin(), v.drives.end(),
                       [&](uint64_t id) { return drives.contains(id); });
  };
  return static_cast<uint32_t>(std::count_if(status.volumes.begin(), status.volumes.end(), relies));
}

// What falls or grows while shards move or are rebuilt.
struct Mark {
  uint32_t volumes = 0;
  uint64_t used = 0;
  uint64_t shards_rebuilt = 0;

  Mark(const wire::ObjectdStatusReply& status, const StorageNodeInfo& node, uint32_t left)
      : volumes(left), used(UsedBytes(node)) {
    for (const auto& count : status.counters) {
      if (count.name == "shards_rebuilt") shards_rebuilt = count.value;
    }
  }
  bool BeyondThat(const Mark& before) const {
    return volumes < before.volumes || used < before.used ||
           shards_rebuilt != before.shards_rebuilt;
  }
};

std::string Volumes(uint32_t n) { return std::to_string(n) + (n == 1 ? " volume" : " volumes"); }

Status StandsStill(const NodeWait& wait, const StorageNodeInfo& node, uint32_t left) {
  return Status(
      Code::kDeadlineExceeded,
      wait.name + ": nothing has moved for " + std::to_string(wait.patience / kSecond) + " s, " +
          Volumes(left) + " left: " +
          (node.problem.empty() ? "no reason is known, see objectd's log" : node.problem));
}

// True: there is nothing more to wait for.
Result<bool> Ended(const NodeWait& wait, const StorageNodeInfo& node, uint32_t left) {
  if (wait.action == NodeAction::kRepair) return node.heard || left == 0;
  if (node.state == StorageNodeState::kIn)
    return Status(Code::kPreconditionFailed, wait.name + " is kept: it is not drained any more");
  return node.state != StorageNodeState::kDraining;
}

std::string HeardCell(const StorageNodeInfo& node) {
  if (node.heard) return "heard";
  return node.since == 0 ? "SILENT" : "SILENT since " + FormatTime(node.since);
}

int List(const Verb& v) {
  auto list = rdma::Call<wire::NodeListReply>(*v.connections->objectd(), wire::Method::kNodeList,
                                              wire::Empty{}, {}, kSoon);
  if (!list.ok()) return v.Fail(list.status());
  if (v.json)
    PrintJson(NodesJson(*list));
  else
    PrintNodes(*list);
  return kExitDone;
}

Result<StorageNodeInfo> Change(const Verb& v, const std::string& node, NodeAction action) {
  wire::NodeChangeRequest q;
  q.node = node;
  q.action = action;
  return rdma::Call<StorageNodeInfo>(*v.connections->objectd(), wire::Method::kNodeChange, q, {},
                                     kChange);
}

Result<StorageNodeInfo> Wait(const Verb& v, const StorageNodeInfo& node, NodeAction action,
                             Nanos patience) {
  NodeWait wait;
  wait.node = node.node;
  wait.name = node.name;
  wait.action = action;
  wait.patience = patience;
  wait.pause = [](Nanos ns) { (void)::poll(nullptr, 0, static_cast<int>(ns / kMillisecond)); };
  std::unique_ptr<Progress> bar;
  wait.progress = [&](uint32_t left, uint32_t of) {
    const char* what = action == NodeAction::kDrain ? "draining" : "rebuilding";
    if (!bar) bar = std::make_unique<Progress>(what, of, "volumes");
    bar->Set(of - left);
  };
  return WaitForNode(*v.connections->objectd(), RealClock::Get(), wait);
}

std::string Said(const std::string& name, NodeAction action, bool waited) {
  switch (action) {
    case NodeAction::kDrain:
      return waited ? name + " is drained: it holds nothing (perigee node remove " + name + ")"
                    : name + " is being drained (perigee node ls)";
    case NodeAction::kKeep:
      return name + " is kept";
    case NodeAction::kRemove:
      return name + " is removed: stop its daemon; its drives may be used for something else";
    case NodeAction::kRepair:
      return waited ? "what " + name + " held is whole again"
                    : "what " + name + " held is being rebuilt on other nodes (perigee node ls)";
  }
  return name;
}

}  // namespace

json NodeJson(const StorageNodeInfo& n) {
  return {{"id", HexEncode64(n.node)},
          {"name", n.name},
          {"namespace", n.node == 0},
          {"state", std::string(NameOf(n.state))},
          {"heard", n.heard},
          {"since", n.since},
          {"addresses", n.addresses},
          {"drives", n.drives},
          {"drives_online", n.drives_online},
          {"total_bytes", n.total_bytes},
          {"free_bytes", n.free_bytes},
          {"volumes", n.volumes},
          {"problem", n.problem},
          {"repair_after", n.repair_after}};
}

json NodesJson(const wire::NodeListReply& list) {
  json nodes = json::array();
  for (const StorageNodeInfo& node : list.nodes) nodes.push_back(NodeJson(node));
  return {{"nodes", nodes},
          {"survives", list.survives},
          {"nodes_survived", list.nodes_survived},
          {"drives_survived", list.drives_survived},
          {"moves", list.moves}};
}

void PrintSurvives(const wire::NodeListReply& list) {
  if (!list.survives.empty()) std::cout << "  may be lost: " << list.survives << "\n";
}

void PrintNodes(const wire::NodeListReply& list) {
  std::vector<std::vector<std::string>> rows = {
      {"  storage node", "state", "", "drives", "free", "of", "volumes", "address"}};
  for (const StorageNodeInfo& n : list.nodes) {
    rows.push_back({"  " + n.name + (n.node == 0 ? " (namespace)" : ""),
                    std::string(NameOf(n.state)), HeardCell(n),
                    std::to_string(n.drives_online) + " of " + std::to_string(n.drives),
                    FormatBytes(n.free_bytes), FormatBytes(n.total_bytes),
                    std::to_string(n.volumes), n.addresses});
  }
  if (!list.nodes.empty()) PrintTable(rows);
  for (const StorageNodeInfo& n : list.nodes) {
    if (!n.problem.empty()) std::cout << "  " << n.name << ": " << n.problem << "\n";
    if (n.repair_after > RealClock::Get().Wall())
      std::cout << "  " << n.name << ": rebuilt on other nodes from " << FormatTime(n.repair_after)
                << " on, or by `perigee node repair`\n";
  }
  PrintSurvives(list);
  if (list.moves != 0) std::cout << "  " << Volumes(list.moves) << " on the way to other drives\n";
}

Result<StorageNodeInfo> WaitForNode(rdma::Channel& objectd, const Clock& clock,
                                    const NodeWait& wait) {
  std::optional<Mark> last;
  Nanos moved_at = clock.Monotonic();
  uint32_t most = 0;
  while (true) {
    auto status = rdma::Call<wire::ObjectdStatusReply>(objectd, wire::Method::kControlObjectdStatus,
                                                       wire::Empty{}, {}, kSoon);
    const bool tired = clock.Monotonic() - moved_at >= wait.patience;
    if (!status.ok()) {
      const bool away = status.code() == Code::kUnavailable ||
                        status.code() == Code::kDeadlineExceeded || status.code() == Code::kBusy;
      if (!away || tired) return std::move(status).TakeStatus().With(wait.name);
    } else {
      const std::vector<StorageNodeInfo>& nodes = status->storage.nodes;
      auto node = std::find_if(nodes.begin(), nodes.end(),
                               [&](const StorageNodeInfo& n) { return n.node == wait.node; });
      if (node == nodes.end())
        return Status(Code::kNotFound, wait.name + " is no storage node any more");
      const uint32_t left =
          wait.action == NodeAction::kRepair ? VolumesRelyingOn(*status, wait.node) : node->volumes;
      PERIGEE_ASSIGN(bool ended, Ended(wait, *node, left));
      if (ended) return *node;
      Mark mark(*status, *node, left);
      if (!last || mark.BeyondThat(*last)) {
        moved_at = clock.Monotonic();
        last = mark;
      } else if (tired) {
        return StandsStill(wait, *node, left);
      }
      most = std::max(most, left);
      wait.progress(left, most);
    }
    wait.pause(kLookEvery);
  }
}

int RunNode(int argc, char** argv) {
  Verb v("node", kHelp);
  std::vector<std::string> words;
  bool wait = false;
  Nanos patience = 1200 * kSecond;  // more than objectd's --lease, which a drain may wait for
  v.options.AddPositional(&words, "ls | drain NAME | keep NAME | remove NAME | repair NAME", 1, 2);
  v.options.AddFlag("wait", &wait, "drain, repair: return when it is done");
  v.options.AddDuration("patience", &patience, "--wait fails when nothing has moved for so long");
  v.options.SetExamples(kExamples);
  if (!v.Start(argc, argv)) return v.exit_code;
  if (words[0] == "ls" && words.size() == 1 && !wait) return List(v);
  static const std::map<std::string, NodeAction> kActions = {{"drain", NodeAction::kDrain},
                                                             {"keep", NodeAction::kKeep},
                                                             {"remove", NodeAction::kRemove},
                                                             {"repair", NodeAction::kRepair}};
  auto action = kActions.find(words[0]);
  if (action == kActions.end() || words.size() != 2)
    return v.Fail(Status(Code::kInvalidArgument,
                         "ls, drain NAME, keep NAME, remove NAME or repair NAME; a node is added "
                         "on its machine (perigee node --help)"));
  const bool waits = action->second == NodeAction::kDrain || action->second == NodeAction::kRepair;
  if (wait && !waits) return v.Fail(Status(Code::kInvalidArgument, "--wait: for drain and repair"));
  auto node = Change(v, words[1], action->second);
  if (!node.ok()) return v.Fail(node.status());
  if (wait) node = Wait(v, *node, action->second, patience);
  if (!node.ok()) return v.Fail(node.status());
  if (v.json)
    PrintJson(NodeJson(*node));
  else
    std::cout << Said(node->name, action->second, wait) << std::endl;
  return kExitDone;
}

}  // namespace perigee::cli
