// Storage nodes: joining, dying, coming back, draining, removed; on a simulated network.

#include "base/failpoint.h"
#include "objectd/volume/shard_check.h"
#include "tests/objectd/volume/storage_fixture.h"

namespace perigee::objectd {
namespace {

using wire::DriveState;
using wire::NodeAction;
using wire::StorageNodeState;

std::vector<TestObject> WriteSome(TestStorage& s) {
  std::vector<TestObject> objects;
  for (size_t bytes : {3'000u, 200'000u, 2'000'000u, 5'000'000u})
    for (int i = 0; i < 4; i++) objects.push_back(s.volumes.Write(bytes));
  return objects;
}

bool AllRead(TestStorage& s, const std::vector<TestObject>& objects) {
  return std::all_of(objects.begin(), objects.end(),
                     [&](const TestObject& object) { return s.volumes.Reads(object); });
}

// Three nodes of two drives, joined and covered by volumes.
void AddThree(TestStorage& s) {
  for (const char* name : {"n1", "n2", "n3"}) s.Add(name);
  REQUIRE(s.RunUntil([&] { return s.AllOnline(9); }));
  REQUIRE(s.RunUntil([&] { return s.volumes.table().Volumes().size() > 3; }));
}

TEST_CASE("nodes join, volumes are spread over them, and what is survived is told") {
  TestStorage s;
  CHECK(s.List().survives == "any 1 drive");
  std::vector<TestObject> before = WriteSome(s);
  AddThree(s);
  std::vector<TestObject> objects = WriteSome(s);
  // New blobs are on three nodes each, at once.
  auto map = s.volumes.table().Map();
  for (const TestObject& object : objects) {
    for (const wire::BlobId& blob : TestVolumes::BlobsOf(object)) {
      std::set<wire::NodeId> on;
      for (uint64_t id : map->Find(blob.volume)->drives) on.insert(map->FindDrive(id)->node);
      CHECK(on.size() == 3);
    }
  }
  // Old volumes follow, at the pace of leases.
  REQUIRE(s.RunUntil([&] { return s.Spread(); }));
  CHECK(s.List().survives == "any 1 node, any 1 drive");
  CHECK(AllRead(s, before));
  CHECK(AllRead(s, objects));
  const wire::NodeListReply list = s.List();
  REQUIRE(list.nodes.size() == 4);
  CHECK(list.nodes[0].name == "namespace");
  CHECK(list.nodes[1].drives_online == 2);
  CHECK(list.nodes[1].heard);
}

TEST_CASE("what goes to other nodes' drives is of its caller's class") {
  TestStorage s;
  AddThree(s);
  REQUIRE(s.RunUntil([&] { return s.Spread(); }));
  auto in = [&](rdma::TrafficClass traffic) {
    double bytes = 0;
    for (auto& node : s.nodes) bytes += node->BytesIn(traffic);
    return bytes;
  };
  const double written = in(rdma::TrafficClass::kForeground);
  double repaired = in(rdma::TrafficClass::kRepair);
  std::vector<TestObject> objects = WriteSome(s);
  CHECK(in(rdma::TrafficClass::kForeground) > written + 1'000'000);
  CHECK(in(rdma::TrafficClass::kRepair) < repaired + 100'000);
  const double foreground = in(rdma::TrafficClass::kForeground);
  repaired = in(rdma::TrafficClass::kRepair);
  REQUIRE(s.Change("n1", NodeAction::kDrain).ok());
  REQUIRE(s.RunUntil([&] { return s.Info("n1").volumes == 0; }));
  CHECK(in(rdma::TrafficClass::kRepair) > repaired + 1'000'000);
  CHECK(in(rdma::TrafficClass::kForeground) < foreground + 100'000);
}

TEST_CASE("a node that dies: reads and writes go on; when it comes back it gets what it missed") {
  TestStorage s;
  AddThree(s);
  REQUIRE(s.RunUntil([&] { return s.Spread(); }));
  std::vector<TestObject> objects = WriteSome(s);
  s.nodes[1]->Stop();
  CHECK(AllRead(s, objects));
  for (TestObject& object : WriteSome(s)) objects.push_back(std::move(object));
  CHECK(AllRead(s, objects));
  REQUIRE(s.RunUntil([&] { return !s.Info("n2").heard; }));
  CHECK(s.Info("n2").drives_online == 0);
  for (TestObject& object : WriteSome(s)) objects.push_back(std::move(object));
  REQUIRE(s.nodes[1]->Start().ok());
  REQUIRE(s.RunUntil([&] { return s.AllOnline(9); }));
  CHECK(s.Info("n2").heard);
  // What lease-holders left out meanwhile is found when the leases are over.
  s.RunFor(3 * 60 * kSecond);
  REQUIRE(s.RunUntil([&] { return s.AllOnline(9); }));
  s.nodes[0]->Stop();
  CHECK(AllRead(s, objects));
}

TEST_CASE("what a lost node had is rebuilt on others after a while, or at once by command") {
  TestStorage s;
  AddThree(s);
  REQUIRE(s.RunUntil([&] { return s.Spread(); }));
  std::vector<TestObject> objects = WriteSome(s);
  s.nodes[0]->Stop();
  REQUIRE(s.RunUntil([&] { return !s.Info("n1").heard; }));
  const Nanos silent = s.volumes.clock().Monotonic();
  bool command = false;
  SUBCASE("after a while") {}
  SUBCASE("by command") {
    command = true;
    CHECK(s.Change("n1", NodeAction::kRemove).code() == Code::kPreconditionFailed);
    CHECK(s.Change("n2", NodeAction::kRepair).code() == Code::kPreconditionFailed);
    REQUIRE(s.Change("n1", NodeAction::kRepair).ok());
  }
  REQUIRE(s.RunUntil([&] {
    auto map = s.volumes.table().Map();
    return std::all_of(map->volumes.begin(), map->volumes.end(), [&](const auto& volume) {
      return std::all_of(volume.drives.begin(), volume.drives.end(), [&](uint64_t id) {
        return map->FindDrive(id)->state == DriveState::kOnline;
      });
    });
  }));
  const Nanos took = s.volumes.clock().Monotonic() - silent;
  CHECK((took > 115 * kSecond) == !command);
  s.nodes[1]->Stop();
  CHECK(AllRead(s, objects));
  REQUIRE(s.nodes[1]->Start().ok());
  REQUIRE(s.RunUntil([&] { return s.Info("n2").drives_online == 2; }));
  // It holds nothing any more, and can be forgotten.
  REQUIRE(s.RunUntil([&] { return s.Info("n1").volumes == 0; }));
  REQUIRE(s.Change("n1", NodeAction::kRemove).ok());
  CHECK(s.List().nodes.size() == 3);
  CHECK(s.AllOnline(7));
  Status back = s.nodes[0]->Start();
  CHECK(back.Is(Code::kPreconditionFailed));
  CHECK(back.message().find("removed") != std::string::npos);
  CHECK(AllRead(s, objects));
}

TEST_CASE("a drained node ends empty, and then may be removed") {
  TestStorage s;
  AddThree(s);
  std::vector<TestObject> objects = WriteSome(s);
  CHECK(s.nodes[2]->Shards() > 0);
  CHECK(s.Change("n3", NodeAction::kRemove).code() == Code::kPreconditionFailed);
  CHECK(s.Change("nobody", NodeAction::kDrain).code() == Code::kNotFound);
  CHECK(s.Change("namespace", NodeAction::kDrain).code() == Code::kPreconditionFailed);
  auto leased = s.volumes.WriteOnly(2'000'000);  // its commit comes after the drain has begun
  REQUIRE(leased.ok());
  REQUIRE(s.Change("n3", NodeAction::kDrain).ok());
  for (TestObject& object : WriteSome(s)) objects.push_back(std::move(object));
  SUBCASE("in one go") {}
  SUBCASE("with the namespace node restarted on the way") {
    s.RunFor(300 * kMillisecond);
    s.StopNamespace();
    s.StartNamespace();
  }
  REQUIRE(s.volumes.Commit(*leased).ok());
  objects.push_back(std::move(*leased));
  REQUIRE(s.RunUntil([&] { return s.Info("n3").state == StorageNodeState::kDrained; }));
  CHECK(s.nodes[2]->Shards() == 0);
  CHECK(s.Info("n3").volumes == 0);
  CHECK(AllRead(s, objects));
  REQUIRE(s.Change("n3", NodeAction::kRemove).ok());
  CHECK_FALSE(s.nodes[2]->Report().ok());
  s.nodes[2]->Stop();
  CHECK(AllRead(s, objects));
  REQUIRE(s.RunUntil([&] { return s.Spread(); }));
  s.nodes[0]->Stop();
  CHECK(AllRead(s, objects));
}

TEST_CASE("a drain may be called off, and is refused where the others cannot take the shards") {
  TestStorage s;
  s.Add("n1", 1);
  REQUIRE(s.RunUntil([&] { return s.AllOnline(4) && s.Info("n1").volumes > 0; }));
  std::vector<TestObject> objects = WriteSome(s);
  REQUIRE(s.Change("n1", NodeAction::kDrain).ok());
  REQUIRE(s.Change("n1", NodeAction::kKeep).ok());
  CHECK(s.Info("n1").state == StorageNodeState::kIn);
  s.RunFor(60 * kSecond);
  CHECK(s.List().moves == 0);
  CHECK(AllRead(s, objects));
  // A drive of the namespace node goes: the three that are left are needed.
  s.volumes.drives->Find(s.volumes.drives->Slots()[0].drive_id)->SetOffline("pulled");
  REQUIRE(s.volumes.manager->WatchDrives().ok());
  auto refused = s.Change("n1", NodeAction::kDrain);
  CHECK(refused.code() == Code::kPreconditionFailed);
  CHECK(refused.status().message().find("drives") != std::string::npos);
}

TEST_CASE("the namespace node restarts: nodes are heard again and nothing is repaired") {
  TestStorage s;
  AddThree(s);
  REQUIRE(s.RunUntil([&] { return s.Spread(); }));
  s.RunFor(3 * 60 * kSecond);
  std::vector<TestObject> objects = WriteSome(s);
  std::map<uint64_t, int64_t> since;
  for (const DriveRecord& record : s.volumes.table().Drives())
    since[record.drive_id] = record.since;
  s.StopNamespace();
  s.RunFor(60 * kSecond);
  s.StartNamespace();
  CHECK(AllRead(s, objects));
  s.RunFor(30 * kSecond);
  for (const DriveRecord& record : s.volumes.table().Drives()) {
    CHECK(record.state == DriveState::kOnline);
    CHECK(record.since == since[record.drive_id]);
  }
  CHECK(AllRead(s, objects));
}

// What a deletion missed, or a power cut brought back: a shard of a blob that nobody refers to.
void LeaveBehind(Drive& drive) {
  auto shards = drive.ListShards({}, 1);
  REQUIRE(shards.ok());
  REQUIRE(!shards->empty());
  auto shard = drive.ReadShard({.blob = shards->front().first, .index = shards->front().second});
  REQUIRE(shard.ok());
  shard->header.blob.seq += 1'000'000;
  REQUIRE(drive.WriteShard(shard->header, shard->bytes.span()).ok());
}

TEST_CASE("shards that nobody refers to go after a start of their process, and with a scrub") {
  TestStorage s;
  AddThree(s);
  std::vector<TestObject> objects = WriteSome(s);
  REQUIRE(s.RunUntil([&] { return s.Spread(); }));
  s.RunFor(3 * 60 * kSecond);
  TestNode& n1 = *s.nodes[0];
  const size_t shards = n1.Shards();
  auto gone = [&] { return n1.Shards() == shards; };
  auto drive_of_n1 = [&] { return n1.drives->Find(n1.drives->Report()[0].drive_id); };
  LeaveBehind(*drive_of_n1());
  s.RunFor(3 * 60 * kSecond);
  CHECK(!gone());
  SUBCASE("of the node, too quick for its drives to be taken offline") {
    n1.Stop();
    REQUIRE(n1.Start().ok());
    CHECK(s.AllOnline(9));
  }
  SUBCASE("of the namespace node") {
    s.StopNamespace();
    s.StartNamespace();
  }
  SUBCASE("a scrub") { s.volumes.manager->DoScrub({.action = wire::ScrubAction::kStart}); }
  CHECK(s.RunUntil(gone));
  CHECK(AllRead(s, objects));
}

// As a power cut brings a shard back that has moved to another drive since.
void BringBack(TestStorage& s, const wire::BlobId& blob, uint32_t index, uint64_t to) {
  const VolumeRecord volume = *s.volumes.table().FindVolume(blob.volume);
  auto from = s.volumes.storage_nodes->Find(volume.drives[index]);
  auto shard = ReadCheckedShard(*from, volume, blob, index);
  REQUIRE_MESSAGE(shard.ok(), shard.status().ToString());
  REQUIRE(s.volumes.drives->Find(to)->WriteShard(shard->header, shard->bytes.span()).ok());
}

TEST_CASE("shards that a power cut brings back elsewhere go, though their volume is unverified") {
  TestStorage s;
  AddThree(s);
  REQUIRE(s.RunUntil([&] { return s.Spread(); }));
  TestObject object = s.volumes.Write(2'000'000);
  const wire::BlobId blob = TestVolumes::BlobsOf(object).front();
  auto record = [&] { return *s.volumes.table().FindVolume(blob.volume); };
  REQUIRE(s.RunUntil([&] { return record().verify_after == 0 && record().left.empty(); }));
  std::vector<uint64_t> strangers;
  std::optional<uint64_t> member;
  for (const DriveSlot& slot : s.volumes.drives->Slots()) {
    const std::vector<uint64_t> drives = record().drives;
    const bool in = std::find(drives.begin(), drives.end(), slot.drive_id) != drives.end();
    if (in) member = slot.drive_id;
    if (!in) strangers.push_back(slot.drive_id);
  }
  REQUIRE(!strangers.empty());
  const size_t before = s.volumes.ShardsOf(blob).size();
  SUBCASE("on a drive that the volume has left") { BringBack(s, blob, 0, strangers.front()); }
  SUBCASE("on a drive that has another shard of it") {
    REQUIRE(member);
    BringBack(s, blob, record().drives[0] == *member ? 1 : 0, *member);
  }
  CHECK(s.volumes.ShardsOf(blob).size() == before + 1);
  // As when one of its drives has been away.
  REQUIRE(s.volumes.table().SetVerify({blob.volume}, s.volumes.table().LeasesOver()).ok());
  s.StopNamespace();
  s.StartNamespace();
  s.RunFor(10 * kSecond);
  CHECK(record().verify_after != 0);
  // Perhaps the only shard that a writer with an old lease has sent.
  CHECK(s.volumes.ShardsOf(blob).size() == before + 1);
  CHECK(s.RunUntil([&] { return s.volumes.ShardsOf(blob).size() == before; }));
  CHECK(s.RunUntil([&] { return record().left.empty(); }));
  CHECK(s.volumes.Reads(object));
}

TEST_CASE("a partition between the namespace node and a node ends as an absence does") {
  TestStorage s;
  AddThree(s);
  std::vector<TestObject> objects = WriteSome(s);
  s.network->Partition("namespace", "n2");
  for (TestObject& object : WriteSome(s)) objects.push_back(std::move(object));
  CHECK(AllRead(s, objects));
  REQUIRE(s.RunUntil([&] { return !s.Info("n2").heard; }));
  s.network->HealAll();
  REQUIRE(s.RunUntil([&] { return s.AllOnline(9); }));
  CHECK(AllRead(s, objects));
}

TEST_CASE("reports that make no sense, or of others' drives, change nothing") {
  TestStorage s;
  TestNode& n1 = s.Add("n1");
  auto report = [&](wire::NodeReportRequest q) {
    auto reply = s.volumes.manager->NodeReport(q);
    return reply.ok() ? Code::kOk : reply.code();
  };
  wire::NodeReportRequest good{.node = 77, .name = "x", .address = "sim:x"};
  good.drives = {{.drive_id = 5, .dir = "/d"}};
  auto with = [&](auto change) {
    wire::NodeReportRequest q = good;
    change(q);
    return report(q);
  };
  CHECK(with([](auto& q) { q.node = 0; }) == Code::kInvalidArgument);
  CHECK(with([](auto& q) { q.name.clear(); }) == Code::kInvalidArgument);
  CHECK(with([](auto& q) { q.name = std::string(5000, 'n'); }) == Code::kInvalidArgument);
  CHECK(with([](auto& q) { q.drives.push_back(q.drives[0]); }) == Code::kInvalidArgument);
  CHECK(with([](auto& q) { q.drives.resize(1000); }) == Code::kInvalidArgument);
  CHECK(with([](auto& q) { q.cluster_id = 12345; }) == Code::kPreconditionFailed);
  const uint64_t own = s.volumes.drives->Slots()[0].drive_id;
  CHECK(with([&](auto& q) { q.drives[0].drive_id = own; }) == Code::kAlreadyExists);
  CHECK(with([&](auto& q) { q.drives[0].drive_id = n1.drives->Report()[0].drive_id; }) ==
        Code::kAlreadyExists);
  CHECK(s.List().nodes.size() == 2);
}

TEST_CASE("a node's directories: new ones are formatted, its own never, strange ones refused") {
  TestStorage s;
  TestNode& n1 = s.Add("n1");
  REQUIRE(s.RunUntil([&] { return s.AllOnline(5) && s.Info("n1").volumes > 0; }));
  std::vector<TestObject> objects = WriteSome(s);
  SUBCASE("an emptied one is a lost drive") {
    n1.Stop();
    REQUIRE(ClearTree(*n1.disk, "/d1").ok());
    REQUIRE(n1.Start().ok());
    REQUIRE(s.RunUntil([&] { return s.Info("n1").drives_online == 1; }));
    CHECK(ReadSuperblock(*n1.disk, "/d1").code() == Code::kNotFound);
    CHECK(AllRead(s, objects));
    // And is replaced by command only.
    auto fresh = n1.drives->Replace("/d1");
    REQUIRE_MESSAGE(fresh.ok(), fresh.status().ToString());
    REQUIRE(s.RunUntil([&] { return s.Info("n1").drives_online == 2; }));
    CHECK(AllRead(s, objects));
    REQUIRE(s.RunUntil([&] { return s.Info("n1").drives == 2; }));  // the old one is forgotten
    REQUIRE(s.RunUntil([&] { return s.AllOnline(5); }));
  }
  SUBCASE("drives of a node whose state was lost are taken over") {
    n1.Stop();
    REQUIRE(ClearTree(*n1.disk, "/state").ok());
    CHECK(n1.Start().Is(Code::kAlreadyExists));  // it was heard a moment ago
    n1.Stop();
    REQUIRE(s.RunUntil([&] { return !s.Info("n1").heard; }));
    REQUIRE(n1.Start().ok());
    REQUIRE(s.RunUntil([&] { return s.AllOnline(5); }));
    CHECK(s.List().nodes.size() == 3);  // the node as it was has no drives any more
    CHECK(AllRead(s, objects));
  }
  SUBCASE("swapped ones are found") {
    n1.Stop();
    REQUIRE(n1.disk->Rename("/d1", "/x").ok());
    REQUIRE(n1.disk->Rename("/d2", "/d1").ok());
    REQUIRE(n1.disk->Rename("/x", "/d2").ok());
    REQUIRE(n1.Start().ok());
    REQUIRE(s.RunUntil([&] { return s.AllOnline(5); }));
    CHECK(AllRead(s, objects));
  }
  SUBCASE("one with something in it is not formatted") {
    n1.Stop();
    n1.options.dirs.push_back("/other");
    REQUIRE(n1.disk->CreateDirs("/other/home").ok());
    Status refused = n1.Start();
    CHECK(refused.Is(Code::kPreconditionFailed));
    CHECK(refused.message().find("/other") != std::string::npos);
  }
  SUBCASE("a namespace node's state is not a storage node's") {
    n1.Stop();
    DriveSet::Options options;
    options.dirs = {"/e1"};
    options.state_dir = "/state";
    auto opened = DriveSet::Open(options, n1.Deps());
    CHECK(opened.code() == Code::kPreconditionFailed);
  }
}

TEST_CASE("a commit of a node's row that fails leaves the node unknown, and it tries again") {
  TestStorage s;
  auto node =
      std::make_unique<TestNode>("n1", 1, *s.network, s.volumes.scheduler(), s.volumes.slabs);
  REQUIRE(failpoint::Arm("storage_node_before_commit=error").ok());
  CHECK_FALSE(node->Start().ok());
  CHECK(s.List().nodes.size() == 1);
  node->Stop();
  failpoint::DisarmAll();
  CHECK(node->Start().ok());
  CHECK(s.List().nodes.size() == 2);
}

}  // namespace
}  // namespace perigee::objectd
