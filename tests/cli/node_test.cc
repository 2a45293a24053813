// perigee node, and storage nodes in perigee status, against an objectd that is made up.

#include "cli/node.h"

#include <doctest/doctest.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/commands.h"
#include "cli/output.h"
#include "rdma/rpc.h"
#include "rdma/wire/control.h"
#include "temp_dir.h"
#include "tests/client/fake_channel.h"

using namespace perigee;
using namespace perigee::cli;
using wire::NodeAction;
using wire::StorageNodeInfo;
using wire::StorageNodeState;

namespace {

StorageNodeInfo Node(wire::NodeId id, const std::string& name, uint32_t volumes) {
  StorageNodeInfo n;
  n.node = id;
  n.name = name;
  n.heard = true;
  n.since = 1'700'000'000 * kSecond;
  n.addresses = "tls:" + name + ":9002";
  n.drives = n.drives_online = 2;
  n.total_bytes = 100 << 20;
  n.free_bytes = 40 << 20;
  n.volumes = volumes;
  return n;
}

// Answers WaitForNode's looks, one state of the cluster after the other; the last one stays.
struct Waited {
  std::vector<std::function<void(StorageNodeInfo*, wire::ObjectdStatusReply*)>> looks;
  NodeAction action = NodeAction::kDrain;
  Nanos patience = 600 * kSecond;
  Nanos each_pause = 100 * kSecond;

  ManualClock clock;
  size_t asked = 0;
  std::vector<std::pair<uint32_t, uint32_t>> progress;

  Result<StorageNodeInfo> Run() {
    client::FakeChannel objectd([&](const client::FakeChannel::Seen&) -> Result<rdma::Payload> {
      wire::ObjectdStatusReply status;
      StorageNodeInfo node = Node(7, "n7", 5);
      node.state = StorageNodeState::kDraining;
      auto& look = looks[std::min(asked++, looks.size() - 1)];
      if (!look) return Status(Code::kUnavailable, "connection refused");
      status.storage.nodes = {Node(0, "first", 5)};
      look(&node, &status);
      if (node.node != 0) status.storage.nodes.push_back(node);
      return client::ReplyWith(status);
    });
    NodeWait wait;
    wait.node = 7;
    wait.name = "n7";
    wait.action = action;
    wait.patience = patience;
    wait.pause = [&](Nanos) { clock.Advance(each_pause); };
    wait.progress = [&](uint32_t left, uint32_t of) { progress.push_back({left, of}); };
    return WaitForNode(objectd, clock, wait);
  }
};

auto Volumes(uint32_t n) {
  return [n](StorageNodeInfo* node, wire::ObjectdStatusReply*) { node->volumes = n; };
}
auto State(StorageNodeState state) {
  return [state](StorageNodeInfo* node, wire::ObjectdStatusReply*) { node->state = state; };
}

// An objectd behind DATA/run/objectd.sock, with three nodes; remembers what was asked of it.
struct FakeObjectd {
  FakeObjectd() {
    std::filesystem::create_directory(dir.path + "/run");
    StackState state;
    state.config.data = dir.path;
    REQUIRE(SaveState(state).ok());
    list.nodes = {Node(0, "first", 6), Node(0xa, "n2", 6), Node(0xb, "n3", 4)};
    list.survives = "any 1 node, or any 2 drives";
    list.nodes_survived = 1;
    list.drives_survived = 2;
    router->Add<wire::Empty>(
        wire::Method::kNodeList, rdma::Access::kNodesOnly, nullptr,
        [this](rdma::Context&, wire::Empty) -> Result<wire::NodeListReply> { return list; });
    router->Add<wire::Empty>(
        wire::Method::kControlObjectdStatus, rdma::Access::kNodesOnly, nullptr,
        [this](rdma::Context&, wire::Empty) -> Result<wire::ObjectdStatusReply> {
          wire::ObjectdStatusReply reply;
          reply.k = 2;
          reply.m = 1;
          reply.drives = {{.drive_id = 1, .dir = "/srv/d1"},
                          {.drive_id = 2, .dir = "n3:/srv/d1", .node = 0xb}};
          reply.storage = list;
          return reply;
        });
    router->Add<wire::NodeChangeRequest>(
        wire::Method::kNodeChange, rdma::Access::kNodesOnly, nullptr,
        [this](rdma::Context&, wire::NodeChangeRequest q) -> Result<StorageNodeInfo> {
          asked.push_back(q);
          if (q.node != "n3") return Status(Code::kNotFound, "no storage node " + q.node);
          if (q.action == NodeAction::kRemove)
            return Status(Code::kPreconditionFailed, "n3 holds shards of 4 volumes: drain it");
          if (q.action == NodeAction::kDrain) {
            list.nodes[2].state = StorageNodeState::kDrained;
            list.nodes[2].volumes = 0;
          }
          return list.nodes[2];
        });
    auto made = rdma::CreateLocalTransport({});
    REQUIRE(made.ok());
    transport = std::move(*made);
    auto listening = transport->Listen("local:" + dir.path + "/run/objectd.sock", router);
    REQUIRE(listening.ok());
    listener = std::move(*listening);
  }
  ~FakeObjectd() { listener->Stop(); }

  // The exit code; `out` and `err` are what was printed.
  int Run(int (*verb)(int, char**), std::vector<std::string> words) {
    words.insert(words.end(), {"--data", dir.path});
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    std::ostringstream outs, errs;
    auto* was_out = std::cout.rdbuf(outs.rdbuf());
    auto* was_err = std::cerr.rdbuf(errs.rdbuf());
    int code = verb(static_cast<int>(argv.size()), argv.data());
    std::cout.rdbuf(was_out);
    std::cerr.rdbuf(was_err);
    out = outs.str();
    err = errs.str();
    return code;
  }
  int RunNode(std::vector<std::string> words) {
    words.insert(words.begin(), "node");
    return Run(cli::RunNode, std::move(words));
  }

  TempDir dir;
  wire::NodeListReply list;
  std::vector<wire::NodeChangeRequest> asked;
  std::string out, err;
  std::shared_ptr<rdma::Router> router = std::make_shared<rdma::Router>();
  std::unique_ptr<rdma::Transport> transport;
  std::unique_ptr<rdma::Listener> listener;
};

}  // namespace

TEST_CASE("a drain is waited for until the node holds nothing") {
  Waited w;
  w.looks = {Volumes(5), Volumes(3), State(StorageNodeState::kDrained)};
  auto node = w.Run();
  REQUIRE(node.ok());
  CHECK(node->state == StorageNodeState::kDrained);
  CHECK(w.progress == std::vector<std::pair<uint32_t, uint32_t>>{{5, 5}, {3, 5}});
}

TEST_CASE("a drain that moves nothing for as long as one is patient is an error that says why") {
  Waited w;
  w.looks = {[](StorageNodeInfo* node, wire::ObjectdStatusReply*) {
    node->volumes = 2;
    node->problem = "the other nodes have no room";
  }};
  auto node = w.Run();
  CHECK(node.code() == Code::kDeadlineExceeded);
  CHECK(node.status().message() ==
        "n7: nothing has moved for 600 s, 2 volumes left: the other nodes have no room");
  CHECK(w.asked == 7);
}

TEST_CASE("whatever moves starts the patience anew") {
  Waited w;
  w.each_pause = 500 * kSecond;
  w.looks = {Volumes(5), Volumes(4),
             [](StorageNodeInfo* node, wire::ObjectdStatusReply*) {
               node->volumes = 4;
               node->free_bytes += 1;  // shards of a volume that has others left
             },
             [](StorageNodeInfo* node, wire::ObjectdStatusReply* status) {
               node->volumes = 4;
               node->free_bytes += 1;
               status->counters = {{"shards_rebuilt", 1}};
             },
             State(StorageNodeState::kDrained)};
  CHECK(w.Run().ok());
  CHECK(w.asked == 5);
}

TEST_CASE("what goes up and down without getting anywhere is no progress") {
  Waited w;
  w.looks.clear();
  for (uint32_t i = 0; i < 20; ++i) w.looks.push_back(Volumes(i % 2 == 0 ? 4 : 5));
  CHECK(w.Run().code() == Code::kDeadlineExceeded);
  CHECK(w.asked == 7);
}

TEST_CASE("an objectd that is away for a while is waited for, longer it is an error") {
  Waited w;
  w.looks = {Volumes(5), nullptr, nullptr, State(StorageNodeState::kDrained)};
  CHECK(w.Run().ok());
  Waited gone;
  gone.looks = {Volumes(5), nullptr};
  auto node = gone.Run();
  CHECK(node.code() == Code::kUnavailable);
  CHECK(node.status().message().find("n7") != std::string::npos);
}

TEST_CASE("a drain that somebody gave up, and a node that was removed, are told") {
  Waited w;
  w.looks = {Volumes(5), State(StorageNodeState::kIn)};
  auto node = w.Run();
  CHECK(node.code() == Code::kPreconditionFailed);
  CHECK(node.status().message() == "n7 is kept: it is not drained any more");
  Waited removed;
  removed.looks = {Volumes(5), [](StorageNodeInfo* n, wire::ObjectdStatusReply*) { n->node = 0; }};
  CHECK(removed.Run().code() == Code::kNotFound);
}

TEST_CASE("a repair is waited for until others hold it all, or the node is heard again") {
  // `rely` of three volumes have a shard there.
  auto silent = [](uint32_t rely) {
    return [rely](StorageNodeInfo* node, wire::ObjectdStatusReply* status) {
      node->state = StorageNodeState::kIn;
      node->heard = false;
      status->drives = {{.drive_id = 1}, {.drive_id = 2, .node = 7}, {.drive_id = 3, .node = 8}};
      for (uint32_t i = 0; i < 3; ++i)
        status->volumes.push_back({.volume = i + 1, .drives = {1, i < rely ? 2u : 3u}});
    };
  };
  Waited w;
  w.action = NodeAction::kRepair;
  w.looks = {silent(3), silent(1), silent(0)};
  CHECK(w.Run().ok());
  CHECK(w.asked == 3);
  Waited back;
  back.action = NodeAction::kRepair;
  back.looks = {silent(3), State(StorageNodeState::kIn)};
  auto node = back.Run();
  REQUIRE(node.ok());
  CHECK(node->heard);
}

TEST_CASE("node ls shows each node, what is wrong with it, and what may be lost") {
  FakeObjectd objectd;
  StorageNodeInfo& lost = objectd.list.nodes[2];
  lost.heard = false;
  lost.drives_online = 0;
  lost.problem = "connection refused";
  lost.repair_after = RealClock::Get().Wall() + 300 * kSecond;
  objectd.list.moves = 1;
  REQUIRE(objectd.RunNode({"ls"}) == kExitDone);
  CHECK(objectd.out.find("first (namespace)") != std::string::npos);
  CHECK(objectd.out.find("SILENT since " + FormatTime(lost.since)) != std::string::npos);
  CHECK(objectd.out.find("0 of 2") != std::string::npos);
  CHECK(objectd.out.find("  n3: connection refused\n") != std::string::npos);
  CHECK(objectd.out.find("n3: rebuilt on other nodes from " + FormatTime(lost.repair_after)) !=
        std::string::npos);
  CHECK(objectd.out.find("may be lost: any 1 node, or any 2 drives\n") != std::string::npos);
  CHECK(objectd.out.find("1 volume on the way") != std::string::npos);

  REQUIRE(objectd.RunNode({"ls", "--json"}) == kExitDone);
  auto j = nlohmann::json::parse(objectd.out);
  CHECK(j["survives"] == "any 1 node, or any 2 drives");
  CHECK(j["nodes_survived"] == 1);
  CHECK(j["drives_survived"] == 2);
  CHECK(j["moves"] == 1);
  REQUIRE(j["nodes"].size() == 3);
  CHECK(j["nodes"][0]["namespace"] == true);
  CHECK(j["nodes"][2]["name"] == "n3");
  CHECK(j["nodes"][2]["id"] == "000000000000000b");
  CHECK(j["nodes"][2]["heard"] == false);
  CHECK(j["nodes"][2]["state"] == "in");
  CHECK(j["nodes"][2]["volumes"] == 4);
}

TEST_CASE("each word asks for its change, and what is refused is said as objectd says it") {
  FakeObjectd objectd;
  CHECK(objectd.RunNode({"keep", "n3"}) == kExitDone);
  CHECK(objectd.out == "n3 is kept\n");
  CHECK(objectd.RunNode({"repair", "n3"}) == kExitDone);
  CHECK(objectd.RunNode({"remove", "n3"}) == kExitFailed);
  CHECK(objectd.err == "perigee node: n3 holds shards of 4 volumes: drain it\n");
  CHECK(objectd.RunNode({"drain", "n3", "--wait", "--json"}) == kExitDone);
  CHECK(nlohmann::json::parse(objectd.out)["state"] == "drained");
  CHECK(objectd.RunNode({"drain", "n9"}) == kExitFailed);
  std::vector<NodeAction> actions;
  for (const auto& q : objectd.asked) actions.push_back(q.action);
  CHECK(actions == std::vector<NodeAction>{NodeAction::kKeep, NodeAction::kRepair,
                                           NodeAction::kRemove, NodeAction::kDrain,
                                           NodeAction::kDrain});
}

TEST_CASE("words that mean nothing ask nothing") {
  FakeObjectd objectd;
  for (std::vector<std::string> words : {std::vector<std::string>{"add", "n3"},
                                         {"drain"},
                                         {"ls", "n3"},
                                         {"remove", "n3", "--wait"},
                                         {"ls", "--wait"},
                                         {"keep"}})
    CHECK(objectd.RunNode(words) == kExitUsage);
  CHECK(objectd.asked.empty());
}

TEST_CASE("status shows other storage nodes, and alone what may be lost") {
  FakeObjectd objectd;
  objectd.Run(RunStatus, {"status"});
  CHECK(objectd.out.find("storage node") != std::string::npos);
  CHECK(objectd.out.find("\n  /srv/d1 ") != std::string::npos);
  CHECK(objectd.out.find("\n  n3:/srv/d1 ") != std::string::npos);
  objectd.Run(RunStatus, {"status", "--json"});
  auto j = nlohmann::json::parse(objectd.out)["objectd"];
  CHECK(j["storage"]["nodes"].size() == 3);
  CHECK(j["drives"][1]["node"] == j["storage"]["nodes"][2]["id"]);
  objectd.list.nodes.resize(1);
  objectd.list.survives = "any 2 drives";
  objectd.Run(RunStatus, {"status"});
  CHECK(objectd.out.find("storage node") == std::string::npos);
  CHECK(objectd.out.find("may be lost: any 2 drives\n") != std::string::npos);
}

TEST_CASE("a machine with drives only answers status, and sends other verbs to the namespace") {
  FakeObjectd objectd;
  auto state = LoadState(objectd.dir.path);
  REQUIRE(state.ok());
  state->config.join = "tls:10.0.0.1:9002";
  REQUIRE(SaveState(*state).ok());
  CHECK(objectd.RunNode({"ls"}) == kExitFailed);
  CHECK(objectd.err ==
        "perigee node: this machine has drives only: run it where the namespace is, "
        "tls:10.0.0.1:9002\n");
  objectd.Run(RunStatus, {"status"});
  CHECK(objectd.out.find("object tier") != std::string::npos);
  CHECK(objectd.out.find("bufferd") == std::string::npos);
}
