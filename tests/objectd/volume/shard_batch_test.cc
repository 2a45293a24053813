// Batches of shard calls between real nodes on `sim`, and as nobody should send them.

#include "objectd/volume/shard_batch.h"

#include "client/blob/shard_batcher.h"
#include "tests/objectd/drive/drive_fixture.h"
#include "tests/objectd/volume/storage_fixture.h"

namespace perigee::objectd {
namespace {

using wire::Method;

// A storage node with two drives, and a peer that calls it.
struct Scene {
  explicit Scene(uint64_t seed = 3) : storage(seed) {
    node = &storage.Add("far", 2);
    for (const wire::NodeDrive& drive : node->drives->Report()) drives.push_back(drive.drive_id);
    auto made = storage.network->CreateTransport("peer", NodeTransport(storage.volumes.slabs, 77));
    REQUIRE(made.ok());
    transport = std::move(*made);
    channel = *transport->Connect("sim:far");
  }
  ~Scene() { channel->Close(); }
  Scheduler& scheduler() { return storage.volumes.scheduler(); }

  wire::ShardWriteRequest WriteOf(const TestShard& shard, size_t drive) {
    return {.drive_id = drives[drive], .shard = shard.header};
  }
  wire::ShardReadRequest ReadFrom(const TestShard& shard, size_t drive) {
    wire::ShardReadRequest request = ReadOf(shard);
    request.drive_id = drives[drive];
    return request;
  }
  Result<rdma::TypedReply<wire::ShardBatchReply>> Send(const wire::ShardBatchRequest& request,
                                                       ConstBytes bulk = {}) {
    return rdma::CallFull<wire::ShardBatchReply>(*channel, Method::kShardBatch, request, bulk);
  }
  size_t ShardsOn(size_t drive) {
    return node->drives->Find(drives[drive])->ListShards({}, 1 << 20)->size();
  }

  TestStorage storage;
  TestNode* node;
  std::vector<uint64_t> drives;
  std::unique_ptr<rdma::Transport> transport;
  std::shared_ptr<rdma::Channel> channel;
};

// Runs `count` operations, of 64 users; how many failed, by their code.
std::map<Code, size_t> RunAll(Scheduler& pool, size_t count,
                              const std::function<Status(size_t)>& run) {
  constexpr size_t kUsers = 64;
  std::map<Code, size_t> codes;  // one task runs at a time
  size_t next = 0, ended = 0;
  for (size_t user = 0; user < kUsers; ++user) {
    REQUIRE(pool.Post([&] {
                  while (next < count) {
                    size_t mine = next++;
                    codes[run(mine).code()]++;
                    ended++;
                  }
                })
                .ok());
  }
  REQUIRE(static_cast<ManualScheduler&>(pool).RunUntil([&] { return ended == count; }));
  return codes;
}

double CallsOf(metrics::Registry& registry) {
  const std::string text = registry.ExposeText();
  const std::string name = "\nperigee_shard_operations_per_call_count ";
  size_t at = text.find(name);
  REQUIRE(at != std::string::npos);
  return std::stod(text.substr(at + name.size()));
}

}  // namespace

TEST_CASE("a thousand small shards go in few calls, and come back as they were") {
  Scene s;
  auto registry = metrics::Registry::Create();
  auto batcher = client::ShardBatcher::Create(s.scheduler().clock(), registry.get());
  std::vector<TestShard> shards;
  for (uint64_t seq = 1; seq <= 1000; ++seq) shards.push_back(MakeShard(9, seq, 0, 500 + seq));

  auto written = RunAll(s.scheduler(), shards.size(), [&](size_t i) {
    wire::ShardWriteRequest request = s.WriteOf(shards[i], i % 2);
    return batcher->Run(s.channel, {&request, shards[i].bytes.span()}, {}).TakeStatus();
  });
  CHECK(written == std::map<Code, size_t>{{Code::kOk, 1000}});
  CHECK(CallsOf(*registry) < 250);
  CHECK(s.ShardsOn(0) == 500);
  CHECK(s.ShardsOn(1) == 500);

  size_t same = 0;
  auto read = RunAll(s.scheduler(), shards.size(), [&](size_t i) {
    wire::ShardReadRequest request = s.ReadFrom(shards[i], i % 2);
    auto data = batcher->Run(s.channel, {&request}, {});
    if (data.ok() && data->header.chunk_crcs == shards[i].header.chunk_crcs &&
        AsView(data->bytes.span()) == AsView(shards[i].bytes.span()))
      same++;
    return std::move(data).TakeStatus();
  });
  CHECK(read == std::map<Code, size_t>{{Code::kOk, 1000}});
  CHECK(same == 1000);
  CHECK(CallsOf(*registry) < 500);

  auto deleted = RunAll(s.scheduler(), shards.size(), [&](size_t i) {
    wire::ShardName name{.drive_id = s.drives[i % 2], .blob = shards[i].header.blob};
    return batcher->Run(s.channel, {&name}, {}).TakeStatus();
  });
  CHECK(deleted == std::map<Code, size_t>{{Code::kOk, 1000}});
  CHECK(CallsOf(*registry) < 750);
  CHECK(s.ShardsOn(0) + s.ShardsOn(1) == 0);
  CHECK(s.storage.volumes.slabs->BytesInUse() == 0);
}

TEST_CASE("what was acknowledged in a batch survives a power cut, whatever the network does") {
  Scene s(11);
  auto batcher = client::ShardBatcher::Create(s.scheduler().clock(), nullptr);
  std::vector<TestShard> shards;
  for (uint64_t seq = 1; seq <= 300; ++seq) shards.push_back(MakeShard(9, seq, 0, 3000));
  s.storage.network->SetFaultsBetween(
      "peer", "far",
      {.lose_per_million = 20'000, .duplicate_per_million = 50'000, .reset_per_million = 30'000});
  std::vector<bool> acknowledged(shards.size());
  auto codes = RunAll(s.scheduler(), shards.size(), [&](size_t i) {
    wire::ShardWriteRequest request = s.WriteOf(shards[i], i % 2);
    auto outcome = batcher->Run(s.channel, {&request, shards[i].bytes.span()}, {});
    acknowledged[i] = outcome.ok();
    return std::move(outcome).TakeStatus();
  });
  CHECK(codes[Code::kOk] > 0);
  CHECK(codes[Code::kUnavailable] > 0);
  CHECK(codes[Code::kOk] + codes[Code::kUnavailable] + codes[Code::kDeadlineExceeded] == 300);
  s.node->Stop();
  s.node->disk->Crash();
  REQUIRE(s.node->Start().ok());
  for (size_t i = 0; i < shards.size(); ++i)
    if (acknowledged[i]) CHECK(Holds(*s.node->drives->Find(s.drives[i % 2]), shards[i]));
}

TEST_CASE("operations of a batch fail one by one, with their own errors") {
  Scene s;
  TestShard first = MakeShard(9, 1, 0, 2000), second = MakeShard(9, 2, 0, 3000);
  wire::ShardBatchRequest changes;
  changes.writes = {s.WriteOf(first, 0), s.WriteOf(second, 1), s.WriteOf(first, 0)};
  changes.writes[1].drive_id = 4711;
  changes.write_bytes = {2000, 3000, 2000};
  changes.deletes = {{.drive_id = 4711}, {.drive_id = s.drives[0], .blob = {9, 5}}};
  std::string bulk;
  for (const TestShard* shard : {&first, &second, &first}) bulk += AsView(shard->bytes.span());
  auto changed = s.Send(changes, AsBytes(bulk));
  REQUIRE(changed.ok());
  std::vector<Code> codes;
  for (const wire::ShardOutcome& outcome : changed->message.outcomes) codes.push_back(outcome.code);
  CHECK(codes ==
        std::vector<Code>{Code::kOk, Code::kUnavailable, Code::kOk, Code::kUnavailable, Code::kOk});

  wire::ShardBatchRequest reads;
  reads.reads = {s.ReadFrom(second, 1), s.ReadFrom(first, 0), s.ReadFrom(first, 0),
                 s.ReadFrom(first, 0)};
  reads.reads[2].offset = 1;  // one byte past the end
  reads.reads[3].offset = 1500;
  reads.reads[3].length = 500;
  auto read = s.Send(reads);
  REQUIRE(read.ok());
  codes.clear();
  for (const wire::ShardOutcome& outcome : read->message.outcomes) codes.push_back(outcome.code);
  CHECK(codes == std::vector<Code>{Code::kNotFound, Code::kOk, Code::kInvalidArgument, Code::kOk});
  REQUIRE(read->message.reads.size() == 2);
  CHECK(read->message.reads[0].shard.chunk_crcs == first.header.chunk_crcs);
  CHECK(AsView(read->bulk.span()) ==
        std::string(AsView(first.bytes.span())) +
            std::string(AsView(first.bytes.span().subspan(1500, 500))));
}

TEST_CASE("a malformed batch is refused whole, and nothing of it is stored") {
  Scene s;
  TestShard shard = MakeShard(9, 1, 0, 2000);
  wire::ShardBatchRequest batch;
  batch.writes = {s.WriteOf(shard, 0), s.WriteOf(shard, 1)};
  batch.write_bytes = {2000, 2000};
  std::string bulk =
      std::string(AsView(shard.bytes.span())) + std::string(AsView(shard.bytes.span()));
  Code expected = Code::kInvalidArgument;
  SUBCASE("empty") {
    batch = {};
    bulk.clear();
  }
  SUBCASE("more bulk than lengths") { batch.write_bytes = {2000, 1999}; }
  SUBCASE("less bulk than lengths") { batch.write_bytes = {2000, 2001}; }
  SUBCASE("lengths whose sum wraps") {
    batch.write_bytes = {~uint64_t{0}, 4001};
    expected = Code::kTooLarge;
  }
  SUBCASE("a length too few") { batch.write_bytes = {4000}; }
  SUBCASE("a length too many") { batch.write_bytes = {2000, 1000, 1000}; }
  SUBCASE("reads beside writes") { batch.reads = {s.ReadFrom(shard, 0)}; }
  SUBCASE("too many operations") {
    batch.deletes.resize(wire::kBatchOperationsMax - 1, {.drive_id = s.drives[0]});
    expected = Code::kTooLarge;
  }
  SUBCASE("bulk without a write") {
    batch = {};
    batch.reads = {s.ReadFrom(shard, 0)};
  }
  SUBCASE("reads of more than a reply has room for") {
    batch = {};
    bulk.clear();
    batch.reads.resize(3, s.ReadFrom(shard, 0));
    batch.reads[0].length = ~uint64_t{0};
    batch.reads[1].length = 2;
    expected = Code::kTooLarge;
  }
  CHECK(s.Send(batch, AsBytes(bulk)).code() == expected);
  CHECK(s.ShardsOn(0) + s.ShardsOn(1) == 0);
  CHECK(s.storage.volumes.slabs->BytesInUse() == 0);
}

TEST_CASE("batches are for nodes of the cluster, and are not all that anybody may send") {
  Scene s;
  auto garbage = s.channel->CallAndWait(Method::kShardBatch, std::string(100, '\xff'));
  CHECK(garbage.code() == Code::kCorrupt);
  rdma::TransportOptions options;
  options.pool = s.storage.volumes.slabs;
  auto user = s.storage.network->CreateTransport("user", options, {.uid = 1000});
  REQUIRE(user.ok());
  auto channel = *(*user)->Connect("sim:far");
  CHECK(channel->CallAndWait(Method::kShardBatch, "").code() == Code::kPermissionDenied);
}

TEST_CASE("a shard whose header is too long for a batch is read by itself") {
  Scene s;
  TestShard shard = MakeShard(9, 1, 0, 2000);
  shard.header.chunk_bytes = 3;
  shard.header.chunk_crcs.assign(700, 0x12345678);
  wire::ShardWriteRequest write = s.WriteOf(shard, 0);
  CHECK(rdma::Call<wire::Empty>(*s.channel, Method::kShardWrite, write, shard.bytes.span()).ok());
  wire::ShardBatchRequest batch;
  batch.reads = {s.ReadFrom(shard, 0)};
  auto refused = s.Send(batch);
  REQUIRE(refused.ok());
  CHECK(refused->message.outcomes.at(0).code == Code::kTooLarge);
  CHECK(refused->bulk.size() == 0);
  CHECK(rdma::CallFull<wire::ShardReadReply>(*s.channel, Method::kShardRead, batch.reads[0]).ok());
}

}  // namespace perigee::objectd
