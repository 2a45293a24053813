#include "client/blob/remote_cluster.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "base/clock.h"
#include "fake_channel.h"

using namespace perigee;
using namespace perigee::client;

namespace {

// objectd and a second storage node, by their addresses.
struct Nodes final : public rdma::Transport {
  Nodes() {
    map.epoch = 5;
    for (uint64_t id : {1, 2, 3}) {
      wire::DriveInfo d;
      d.drive_id = id;
      d.node = 0x10 + id / 2;
      d.address = id == 1 ? "" : id == 2 ? "local:/objectd" : "sim:other";
      map.drives.push_back(d);
    }
    wire::VolumeInfo v;
    v.volume = 9;
    v.k = 1;
    v.drives = {1};
    map.volumes.push_back(v);
    RemoteCluster::Options options;
    options.objectd_address = "local:/objectd";
    auto made = RemoteCluster::Create({this, nullptr, &clock}, options);
    REQUIRE(made.ok());
    cluster = std::move(*made);
  }
  Result<std::unique_ptr<rdma::Listener>> Listen(const std::string&,
                                                 std::shared_ptr<rdma::Handler>) override {
    return Status(Code::kUnimplemented, "a test");
  }
  Result<std::shared_ptr<rdma::Channel>> Connect(const std::string& address) override {
    ++connects;
    if (address == "sim:gone") return Status(Code::kInvalidArgument, "no such provider");
    auto channel = std::make_shared<FakeChannel>(
        [this, address](const FakeChannel::Seen& s) -> Result<rdma::Payload> {
          if (address == away) return Status(Code::kUnavailable, "nobody is there");
          return Answer(s);
        });
    channels[address] = channel;
    return std::shared_ptr<rdma::Channel>(channel);
  }
  std::string name() const override { return "nodes"; }
  bool passes_fds() const override { return false; }

  Result<rdma::Payload> Answer(const FakeChannel::Seen& s) {
    if (!failing.empty()) return Status(Code::kUnavailable, failing);
    switch (s.method) {
      case wire::Method::kVolumeMap:
        ++map_calls;
        return ReplyWith(map);
      case wire::Method::kVolumeLease: {
        wire::LeaseReply reply;
        reply.count = wire::Decode<wire::LeaseRequest>(s.header)->count;
        return ReplyWith(reply);
      }
      case wire::Method::kVolumeAddExtents: {
        wire::AddExtentsReply reply;
        reply.list_id = 77;
        return ReplyWith(reply);
      }
      case wire::Method::kMetaGetExtents: {
        wire::GetExtentsReply reply;
        reply.end = true;
        return ReplyWith(reply);
      }
      case wire::Method::kShardRead: {
        wire::ShardReadReply reply;
        reply.shard.index = 3;
        return ReplyWith(reply);
      }
      default:
        return ReplyWith(wire::Empty{});
    }
  }
  size_t CallsTo(const std::string& address) { return channels[address]->seen.size(); }

  ManualClock clock;
  wire::VolumeMapReply map;
  std::map<std::string, std::shared_ptr<FakeChannel>> channels;
  int connects = 0, map_calls = 0;
  std::string failing;
  std::string away;  // the address that does not answer
  std::unique_ptr<RemoteCluster> cluster;
};

}  // namespace

TEST_CASE("the map is fetched once and again when it is old or too old for the caller") {
  Nodes n;
  CHECK((*n.cluster->Map())->epoch == 5);
  CHECK((*n.cluster->Map())->Find(9) != nullptr);
  CHECK((*n.cluster->Map())->Find(8) == nullptr);
  CHECK((*n.cluster->Map(5))->FindDrive(3)->address == "sim:other");
  CHECK(n.map_calls == 1);
  n.map.epoch = 6;
  CHECK((*n.cluster->Map(6))->epoch == 6);
  CHECK(n.map_calls == 2);
  CHECK((*n.cluster->Map(7))->epoch == 6);  // there is none newer
  CHECK(n.map_calls == 3);
  n.clock.Advance(3 * kSecond);
  n.map.epoch = 8;
  CHECK((*n.cluster->Map())->epoch == 8);
  CHECK(n.map_calls == 4);
  n.map.epoch = 7;  // an answer that was overtaken
  n.clock.Advance(3 * kSecond);
  CHECK((*n.cluster->Map())->epoch == 8);
}

TEST_CASE("while objectd is away the last map serves, and is not asked for each time") {
  Nodes n;
  n.failing = "objectd is away";
  CHECK(n.cluster->Map().code() == Code::kUnavailable);
  n.failing.clear();
  CHECK(n.cluster->Map().ok());
  n.failing = "objectd is away";
  n.clock.Advance(3 * kSecond);
  CHECK((*n.cluster->Map())->epoch == 5);
  size_t calls = n.CallsTo("local:/objectd");
  CHECK(n.cluster->Map().ok());
  CHECK(n.CallsTo("local:/objectd") == calls);
}

TEST_CASE("shards go to their drive's address, over one channel each") {
  Nodes n;
  wire::ShardHeader header;
  header.index = 4;
  for (uint64_t drive : {1, 2, 3, 3})
    CHECK(n.cluster->WriteShard(drive, header, AsBytes("bytes")).ok());
  CHECK(n.connects == 2);
  CHECK(n.CallsTo("local:/objectd") == 3);  // the map and two shards
  REQUIRE(n.CallsTo("sim:other") == 2);
  const FakeChannel::Seen& call = n.channels["sim:other"]->seen[0];
  CHECK(call.method == wire::Method::kShardWrite);
  CHECK(call.bulk == "bytes");
  auto request = wire::Decode<wire::ShardWriteRequest>(call.header);
  REQUIRE(request.ok());
  CHECK(request->drive_id == 3);
  CHECK(request->shard.index == 4);
  wire::ShardReadRequest read;
  read.drive_id = 3;
  auto data = n.cluster->ReadShard(read);
  REQUIRE(data.ok());
  CHECK(data->header.index == 3);
}

TEST_CASE("calls have the class that was asked for, over the same map and channels") {
  Nodes n;
  CHECK(n.cluster->WriteShard(3, {}, AsBytes("bytes")).ok());
  auto flush = n.cluster->In(rdma::TrafficClass::kFlush);
  auto ahead = flush->In(rdma::TrafficClass::kPrefetch);
  CHECK(flush->WriteShard(3, {}, AsBytes("bytes")).ok());
  CHECK(flush->Lease({}).ok());
  wire::ShardReadRequest read;
  read.drive_id = 3;
  CHECK(ahead->ReadShard(read).ok());
  CHECK(n.connects == 2);
  CHECK(n.map_calls == 1);
  const auto& seen = n.channels["sim:other"]->seen;
  REQUIRE(seen.size() == 3);
  CHECK(seen[0].traffic == rdma::TrafficClass::kForeground);
  CHECK(seen[1].traffic == rdma::TrafficClass::kFlush);
  CHECK(seen[2].traffic == rdma::TrafficClass::kPrefetch);
  CHECK(n.channels["local:/objectd"]->seen.back().traffic == rdma::TrafficClass::kFlush);
}

TEST_CASE("a drive nobody knows is an error of that drive") {
  Nodes n;
  CHECK(n.cluster->WriteShard(12, {}, {}).Is(Code::kUnavailable));
  CHECK(n.map_calls == 2);  // it might have been new
}

TEST_CASE("what a drive's node does not answer here goes by way of objectd, whose answer counts") {
  Nodes n;
  CHECK(n.cluster->WriteShard(3, {}, AsBytes("bytes")).ok());
  auto shards_at_objectd = [&] {
    const auto& seen = n.channels["local:/objectd"]->seen;
    return std::count_if(seen.begin(), seen.end(), [](const FakeChannel::Seen& call) {
      return call.method == wire::Method::kShardWrite || call.method == wire::Method::kShardRead;
    });
  };
  CHECK(shards_at_objectd() == 0);
  SUBCASE("it speaks what this process does not") {
    n.map.epoch = 6;
    n.map.drives[2].address = "sim:gone";
    CHECK(n.cluster->Map(6).ok());
  }
  SUBCASE("it is away") { n.away = "sim:other"; }
  CHECK(n.cluster->WriteShard(3, {}, AsBytes("bytes")).ok());
  CHECK(n.channels["local:/objectd"]->seen.back().bulk == "bytes");
  wire::ShardReadRequest read;
  read.drive_id = 3;
  CHECK(n.cluster->ReadShard(read).ok());
  CHECK(shards_at_objectd() == 2);
  n.failing = "nobody is there";
  CHECK(n.cluster->WriteShard(3, {}, AsBytes("bytes")).Is(Code::kUnavailable));
}

TEST_CASE("a node that broke the connection is left alone, until a ping reaches it again") {
  Nodes n;
  CHECK(n.cluster->WriteShard(3, {}, {}).ok());
  CHECK(n.cluster->WriteShard(2, {}, {}).ok());
  auto links = n.cluster->Links();
  REQUIRE(links.size() == 1);  // objectd's own is told elsewhere
  CHECK(links[0].address == "sim:other");
  CHECK(links[0].to == "storage node 0000000000000011");
  CHECK(links[0].connected);

  FakeChannel& other = *n.channels["sim:other"];
  n.away = "sim:other";
  other.healthy = false;
  n.clock.Advance(kSecond);
  CHECK(n.cluster->WriteShard(3, {}, {}).ok());  // by way of objectd
  const size_t asked = other.seen.size();
  CHECK(n.cluster->WriteShard(3, {}, {}).ok());
  CHECK(other.seen.size() == asked);
  links = n.cluster->Links();
  CHECK(!links[0].connected);
  CHECK(links[0].since == n.clock.Wall());
  CHECK(links[0].problem == "nobody is there");

  n.clock.Advance(StorageDoor::kPingEvery);
  CHECK(n.cluster->WriteShard(3, {}, {}).ok());
  CHECK(other.seen.size() == asked + 1);
  CHECK(other.seen.back().method == wire::Method::kPing);
  CHECK(!n.cluster->Links()[0].connected);

  n.away.clear();
  other.healthy = true;
  n.clock.Advance(StorageDoor::kPingEvery);
  CHECK(n.cluster->WriteShard(3, {}, {}).ok());  // still the other way: it only pings
  CHECK(other.seen.back().method == wire::Method::kPing);
  CHECK(n.cluster->Links()[0].connected);
  CHECK(n.cluster->WriteShard(3, {}, {}).ok());
  CHECK(other.seen.back().method == wire::Method::kShardWrite);
}

TEST_CASE("a node whose connection broke while nobody used it is asked by whoever wants to know") {
  Nodes n;
  CHECK(n.cluster->WriteShard(3, {}, {}).ok());
  FakeChannel& other = *n.channels["sim:other"];
  other.healthy = false;
  CHECK(!n.cluster->Links()[0].connected);
  other.healthy = true;
  n.clock.Advance(StorageDoor::kPingEvery);
  (void)n.cluster->Links();
  CHECK(n.cluster->Links()[0].connected);
  SUBCASE("and is forgotten once it has no drives") {
    n.map.epoch = 6;
    n.map.drives.pop_back();
    CHECK(n.cluster->Map(6).ok());
    CHECK(n.cluster->Links().empty());
  }
}

TEST_CASE("leases, lists and reports reach objectd") {
  Nodes n;
  wire::LeaseRequest lease;
  lease.count = 12;
  auto leased = n.cluster->Lease(lease);
  REQUIRE(leased.ok());
  CHECK(leased->count == 12);
  auto list = n.cluster->AddExtents({});
  REQUIRE(list.ok());
  CHECK(*list == 77);
  CHECK(n.cluster->GetExtents({})->end);
  wire::VolumeReportRequest report;
  report.bad_shards = {1, 2};
  n.cluster->Report(report);
  CHECK(n.channels["local:/objectd"]->seen.back().method == wire::Method::kVolumeReport);
  n.failing = "away";
  n.cluster->Report(report);  // best effort: nothing to see
  CHECK(n.cluster->Lease(lease).code() == Code::kUnavailable);
}
