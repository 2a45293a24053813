#include "client/blob/shard_batcher.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "base/scheduler.h"
#include "rdma/rpc.h"
#include "rdma/wire/shard_batch.h"

using namespace perigee;
using namespace perigee::client;
using wire::Method;

namespace {

std::shared_ptr<rdma::SlabPool> TestPool() {
  auto made = rdma::SlabPool::Create({.bytes_max = 64 << 20});
  REQUIRE(made.ok());
  return *made;
}

// A node that keeps shards by their number. Its calls come to an end when the test says so.
class Node final : public rdma::Channel {
 public:
  struct Held {
    Method method;
    std::string header, bulk;
    Nanos timeout;
    Done done;
  };
  void Call(Method method, std::string header, ConstBytes bulk, rdma::CallOptions options,
            Done done) override {
    calls++;
    held.push_back(
        {method, std::move(header), std::string(AsView(bulk)), options.timeout, std::move(done)});
    in_flight_max = std::max(in_flight_max, held.size());
  }
  bool Healthy() const override { return true; }
  std::string Describe() const override { return "node"; }
  void Close() override {}

  Held TakeFirst() {
    REQUIRE(!held.empty());
    Held call = std::move(held.front());
    held.erase(held.begin());
    return call;
  }
  void AnswerFirst() {
    Held call = TakeFirst();
    call.done(Answer(call));
  }
  void FailAll(Code code) {
    for (Held& call : std::exchange(held, {})) call.done(Status(code, "the connection was lost"));
  }

  std::vector<Held> held;
  size_t calls = 0, batches = 0, in_flight_max = 0;
  std::map<uint64_t, std::string> shards;  // by sequence
  uint64_t refused = 0;                    // the shard that is answered kNoSpace
  bool knows_batches = true;
  bool long_headers = false;

 private:
  Result<rdma::Payload> Answer(const Held& call) {
    if (call.method == Method::kShardBatch) return AnswerBatch(call);
    rdma::Payload payload;
    Status status;
    if (call.method == Method::kShardWrite) {
      status = Write(*wire::Decode<wire::ShardWriteRequest>(call.header), call.bulk);
    } else if (call.method == Method::kShardRead) {
      auto request = *wire::Decode<wire::ShardReadRequest>(call.header);
      std::string bytes;
      status = Read(request, &bytes);
      wire::ShardReadReply reply;
      reply.shard.blob = request.blob;
      payload.header = wire::Encode(reply);
      payload.bulk = PieceOf(bytes);
    } else {
      shards.erase(wire::Decode<wire::ShardName>(call.header)->blob.seq);
    }
    if (!status.ok()) return status;
    return payload;
  }
  Result<rdma::Payload> AnswerBatch(const Held& call) {
    batches++;
    if (!knows_batches) return Status(Code::kUnimplemented, "no such method: 68");
    auto request = *wire::Decode<wire::ShardBatchRequest>(call.header);
    wire::ShardBatchReply reply;
    auto outcome = [&](const Status& status) {
      reply.outcomes.push_back(
          {.code = status.code(), .message = status.ok() ? "" : status.message()});
      return status.ok();
    };
    size_t at = 0;
    for (size_t i = 0; i < request.writes.size(); ++i) {
      outcome(Write(request.writes[i], call.bulk.substr(at, request.write_bytes[i])));
      at += request.write_bytes[i];
    }
    CHECK(at == call.bulk.size());
    for (const wire::ShardName& name : request.deletes) {
      shards.erase(name.blob.seq);
      outcome(Status::Ok());
    }
    std::string bulk;
    for (const wire::ShardReadRequest& read : request.reads) {
      std::string bytes;
      Status status = Read(read, &bytes);
      if (long_headers) status = Status(Code::kTooLarge, "no room for its header");
      if (!outcome(status)) continue;
      bulk += bytes;
      reply.reads.emplace_back().shard.blob = read.blob;
    }
    rdma::Payload payload;
    payload.header = wire::Encode(reply);
    payload.bulk = PieceOf(bulk);
    return payload;
  }
  Status Write(const wire::ShardWriteRequest& request, std::string bytes) {
    if (request.shard.blob.seq == refused) return Status(Code::kNoSpace, "the drive is full");
    shards[request.shard.blob.seq] = std::move(bytes);
    return Status::Ok();
  }
  Status Read(const wire::ShardReadRequest& request, std::string* bytes) {
    auto found = shards.find(request.blob.seq);
    if (found == shards.end()) return Status(Code::kNotFound, "no such shard");
    *bytes = found->second.substr(request.offset, request.length);
    return Status::Ok();
  }
  rdma::Piece PieceOf(const std::string& bytes) {
    if (bytes.empty()) return {};
    rdma::Piece piece = pool_->TryAllocate(bytes.size());
    std::copy(bytes.begin(), bytes.end(), piece.data());
    return piece;
  }
  const std::shared_ptr<rdma::SlabPool> pool_ = TestPool();
};

std::string BytesOf(uint64_t seq, size_t bytes) {
  std::string text = std::to_string(seq) + ":";
  text.resize(bytes, static_cast<char>('a' + seq % 26));
  return text;
}

// Users of one batcher, as tasks in manual time.
struct Scene {
  explicit Scene(ShardBatcher::Options options = {})
      : batcher(ShardBatcher::Create(scheduler->clock(), nullptr, options)) {}
  ~Scene() { scheduler->Stop(); }

  void Write(uint64_t seq, size_t bytes = 100, Nanos timeout = 30 * kSecond) {
    Post(
        [this, seq, bytes, timeout] {
          wire::ShardWriteRequest request;
          request.shard.blob.seq = seq;
          const std::string text = BytesOf(seq, bytes);
          return batcher->Run(node, {&request, AsBytes(text)}, {.timeout = timeout});
        },
        seq);
  }
  void Read(uint64_t seq, size_t bytes = 100, uint64_t offset = 0) {
    Post(
        [this, seq, bytes, offset] {
          wire::ShardReadRequest request{.blob = {.seq = seq}, .offset = offset, .length = bytes};
          return batcher->Run(node, {&request}, {.lent_reply = true});
        },
        seq);
  }
  void Delete(uint64_t seq) {
    Post(
        [this, seq] {
          wire::ShardName name{.blob = {.seq = seq}};
          return batcher->Run(node, {&name}, {});
        },
        seq);
  }
  void Post(std::function<Result<ShardData>()> run, uint64_t seq) {
    posted++;
    REQUIRE(scheduler
                ->Post([this, run, seq] {
                  begun++;
                  Result<ShardData> outcome = run();
                  codes[seq] = outcome.code();
                  if (outcome.ok()) data[seq] = std::move(*outcome);
                })
                .ok());
  }
  // Until each that was posted waits for something, or has ended.
  void AllBegin() {
    REQUIRE(scheduler->RunUntil([&] { return begun == posted; }));
  }
  void AnswerAll() {
    AllBegin();
    auto ended = [&] { return codes.size() == posted; };
    while (!ended()) {
      REQUIRE(scheduler->RunUntil([&] { return ended() || !node->held.empty(); }));
      if (!ended()) node->AnswerFirst();
    }
  }
  size_t Count(Code code) const {
    return static_cast<size_t>(std::count_if(codes.begin(), codes.end(),
                                             [code](auto& entry) { return entry.second == code; }));
  }

  std::unique_ptr<ManualScheduler> scheduler = ManualScheduler::Create(5);
  std::shared_ptr<Node> node = std::make_shared<Node>();
  std::shared_ptr<ShardBatcher> batcher;
  size_t posted = 0, begun = 0;
  std::map<uint64_t, Code> codes;  // of those that ended
  std::map<uint64_t, ShardData> data;
};

}  // namespace

TEST_CASE(
    "an operation that finds a call free goes out at once and alone; those that wait go together") {
  Scene s;
  for (uint64_t seq = 1; seq <= 30; ++seq) s.Write(seq, 1000 + seq);
  s.AllBegin();
  REQUIRE(s.node->held.size() == 4);
  for (const Node::Held& call : s.node->held) CHECK(call.method == Method::kShardWrite);
  s.node->AnswerFirst();
  REQUIRE(s.scheduler->RunUntil([&] { return s.node->calls == 5; }));
  CHECK(s.node->held.back().method == Method::kShardBatch);
  s.AnswerAll();
  CHECK(s.node->calls == 5);
  CHECK(s.Count(Code::kOk) == 30);
  for (uint64_t seq = 1; seq <= 30; ++seq) CHECK(s.node->shards[seq] == BytesOf(seq, 1000 + seq));
}

TEST_CASE("small reads come together and each gets its own bytes, for as long as it likes") {
  Scene s;
  for (uint64_t seq = 1; seq <= 40; ++seq) s.node->shards[seq] = BytesOf(seq, 5000);
  for (uint64_t seq = 1; seq <= 41; ++seq) s.Read(seq, 100 * seq, seq);
  s.Read(42, 0);
  s.node->shards[42] = "";
  s.AnswerAll();
  CHECK(s.node->calls == 5);
  CHECK(s.codes[41] == Code::kNotFound);
  CHECK(s.Count(Code::kOk) == 41);
  s.data.erase(20);
  for (auto& [seq, data] : s.data) {
    CHECK(data.header.blob.seq == seq);
    if (seq <= 40) CHECK(AsView(data.bytes.span()) == BytesOf(seq, 5000).substr(seq, 100 * seq));
  }
}

TEST_CASE("writes and deletes share a batch, and one that fails fails alone") {
  Scene s;
  s.node->refused = 13;
  for (uint64_t seq = 100; seq < 110; ++seq) s.node->shards[seq] = "old";
  for (uint64_t seq = 1; seq <= 20; ++seq) {
    s.Write(seq);
    if (seq <= 10) s.Delete(99 + seq);
  }
  s.AnswerAll();
  CHECK(s.node->calls == 5);
  CHECK(s.codes[13] == Code::kNoSpace);
  CHECK(s.Count(Code::kOk) == 29);
  CHECK(s.node->shards.size() == 19);
  CHECK(s.node->shards[20] == BytesOf(20, 100));
}

TEST_CASE("a lost connection fails what is in flight, and what waits goes on") {
  Scene s;
  for (uint64_t seq = 1; seq <= 10; ++seq) s.Write(seq);
  s.AllBegin();
  s.node->AnswerFirst();  // the batch of the other six goes out
  REQUIRE(s.scheduler->RunUntil([&] { return s.node->calls == 5; }));
  for (uint64_t seq = 11; seq <= 20; ++seq) s.Write(seq);
  s.AllBegin();
  CHECK(s.node->held.size() == 4);
  s.node->FailAll(Code::kUnavailable);
  s.AnswerAll();
  CHECK(s.Count(Code::kUnavailable) == 9);
  CHECK(s.Count(Code::kOk) == 11);
}

TEST_CASE("each operation has its own deadline, waiting or in a batch") {
  Scene s;
  for (uint64_t seq = 1; seq <= 4; ++seq) s.Write(seq);
  s.AllBegin();
  s.Write(5, 100, kSecond);
  s.Write(6, 100, 3 * kSecond);
  s.Write(7);
  s.AllBegin();
  SUBCASE("the first goes at its time, and does not go out") {
    s.scheduler->RunFor(2 * kSecond);
    CHECK(s.codes == std::map<uint64_t, Code>{{5, Code::kDeadlineExceeded}});
    s.AnswerAll();
    CHECK(!s.node->shards.contains(5));
    CHECK(s.Count(Code::kOk) == 6);
  }
  SUBCASE("in a batch it leaves the others, who have as long as they asked for") {
    s.node->AnswerFirst();
    REQUIRE(s.scheduler->RunUntil([&] { return s.node->calls == 5; }));
    CHECK(s.node->held.back().timeout > 29 * kSecond);
    s.scheduler->RunFor(2 * kSecond);
    CHECK(s.codes[5] == Code::kDeadlineExceeded);
    s.AnswerAll();
    CHECK(s.Count(Code::kOk) == 6);
  }
}

TEST_CASE("a node that knows no batches is called for each") {
  Scene s;
  s.node->knows_batches = false;
  for (uint64_t seq = 1; seq <= 20; ++seq) s.Write(seq);
  s.AnswerAll();
  CHECK(s.Count(Code::kOk) == 20);
  CHECK(s.node->calls == 20 + s.node->batches);
  CHECK(s.node->in_flight_max == 4);
}

TEST_CASE("what a batch has no room for is called for alone") {
  Scene s;
  s.node->long_headers = true;
  for (uint64_t seq = 1; seq <= 6; ++seq) s.node->shards[seq] = BytesOf(seq, 100);
  for (uint64_t seq = 1; seq <= 6; ++seq) s.Read(seq);
  s.AnswerAll();
  CHECK(s.Count(Code::kOk) == 6);
  CHECK(s.node->calls == 4 + 1 + 2);
}

TEST_CASE("calls in flight, batches and what waits are bounded") {
  Scene s({.calls_max = 6, .small_calls_max = 2, .waiting_max = 600});
  SUBCASE("large ones are calls of their own, and leave room for small ones") {
    for (uint64_t seq = 1; seq <= 20; ++seq) s.Write(seq, kSmallShardBytes + 1);
    for (uint64_t seq = 21; seq <= 25; ++seq) s.Write(seq);
    s.AnswerAll();
    CHECK(s.node->in_flight_max == 6);
    CHECK(s.node->batches <= 2);
    CHECK(s.Count(Code::kOk) == 25);
  }
  SUBCASE("a batch has no more operations than the other side takes") {
    for (uint64_t seq = 1; seq <= 520; ++seq) s.Write(seq, 10);
    s.AnswerAll();
    CHECK(s.node->calls == 2 + 3);
    CHECK(s.Count(Code::kOk) == 520);
  }
  SUBCASE("and no more bytes than it may") {
    for (uint64_t seq = 1; seq <= 2 + 33; ++seq) s.Write(seq, kSmallShardBytes);
    s.AnswerAll();
    CHECK(s.node->calls == 2 + 3);
    CHECK(s.Count(Code::kOk) == 35);
  }
  SUBCASE("over the bound of waiting") {
    for (uint64_t seq = 1; seq <= 605; ++seq) s.Write(seq, 10);
    s.AnswerAll();
    CHECK(s.Count(Code::kBusy) == 3);
    CHECK(s.Count(Code::kOk) == 602);
  }
}

TEST_CASE("an answer that makes no sense is nobody's") {
  Scene s;
  for (uint64_t seq = 1; seq <= 8; ++seq) s.node->shards[seq] = BytesOf(seq, 100);
  for (uint64_t seq = 1; seq <= 8; ++seq) s.Read(seq);
  s.AllBegin();
  for (int i = 0; i < 4; ++i) s.node->AnswerFirst();
  REQUIRE(s.scheduler->RunUntil([&] { return s.node->calls == 5; }));
  Node::Held batch = s.node->TakeFirst();
  wire::ShardBatchReply reply;
  SUBCASE("nothing at all") {}
  SUBCASE("too few outcomes") { reply.outcomes.resize(3); }
  SUBCASE("too many") { reply.outcomes.resize(5); }
  SUBCASE("outcomes without what was read") { reply.outcomes.resize(4); }
  SUBCASE("and without the bytes") {
    reply.outcomes.resize(4);
    reply.reads.resize(4);
  }
  rdma::Payload payload;
  payload.header = wire::Encode(reply);
  batch.done(std::move(payload));
  s.AnswerAll();
  CHECK(s.Count(Code::kCorrupt) == 4);
  CHECK(s.Count(Code::kOk) == 4);
}
