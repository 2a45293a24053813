// A batch of shard calls as a node may send it, and its answer as a node may give it: the first
// byte says which, then the message, and what is left is the bulk. A batch is answered once, done
// whole or refused whole, and no operation gets bytes that are not the batch's.

#include "client/blob/shard_batch_call.h"
#include "objectd/volume/shard_calls.h"
#include "tests/fuzz/fake_call.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;

std::shared_ptr<rdma::SlabPool> Slabs() {
  static const auto slabs = std::move(rdma::SlabPool::Create({.bytes_max = 64 << 20})).value();
  return slabs;
}

rdma::Piece PieceOf(std::string_view bytes) {
  if (bytes.empty()) return {};
  rdma::Piece piece = Slabs()->TryAllocate(bytes.size());
  bytes.copy(reinterpret_cast<char*>(piece.data()), bytes.size());
  return piece;
}

std::string_view Message(fuzz::Input& input) { return input.Take(input.Number<uint16_t>()); }

void Ask(fuzz::Input& input) {
  size_t done = 0, bytes_written = 0;
  objectd::ShardCalls calls;
  calls.write = [&](const wire::ShardWriteRequest& q, ConstBytes bytes,
                    std::shared_ptr<const rdma::Piece> bulk, rdma::TrafficClass) {
    done++;
    bytes_written += bytes.size();
    PERIGEE_CHECK(bytes.empty() || (bytes.data() >= bulk->data() &&
                                    bytes.data() + bytes.size() <= bulk->data() + bulk->size()));
    return q.drive_id % 2 == 1 ? Status(Code::kUnavailable, "the drive is lost") : Status::Ok();
  };
  calls.read = [](const wire::ShardReadRequest&, rdma::TrafficClass) -> Result<client::ShardData> {
    return client::ShardData{};
  };
  calls.read_into = [&](const wire::ShardReadRequest& q, MutableBytes to,
                        rdma::TrafficClass) -> Result<wire::ShardHeader> {
    done++;
    std::fill(to.begin(), to.end(), static_cast<uint8_t>(q.index));
    if (q.drive_id % 2 == 1) return Status(Code::kUnavailable, "the drive is lost");
    return wire::ShardHeader{.index = q.index};
  };
  calls.remove = [&](const wire::ShardName&) {
    done++;
    return Status::Ok();
  };
  auto pool = ManualScheduler::Create(1);
  rdma::Router router;
  objectd::RegisterShardCalls(router, std::move(calls), pool.get(), Slabs());
  const std::string_view message = Message(input), bulk = input.Rest();
  auto answer = std::make_shared<fuzz::Answer>();
  auto call = std::make_unique<fuzz::FakeCall>(wire::Method::kShardBatch,
                                               rdma::Peer{.role = rdma::Role::kNode}, message,
                                               pool->clock().Monotonic() + 30 * kSecond, answer);
  call->bulk() = PieceOf(bulk);
  router.OnCall(std::move(call));
  PERIGEE_CHECK(pool->RunUntil([&] { return answer->times > 0; }));
  pool->Stop();
  PERIGEE_CHECK(answer->times == 1);
  if (answer->code != Code::kOk) {
    PERIGEE_CHECK(done == 0);
    return;
  }
  auto reply = wire::Decode<wire::ShardBatchReply>(answer->payload.header);
  PERIGEE_CHECK(reply.ok());
  PERIGEE_CHECK(done == reply->outcomes.size());
  PERIGEE_CHECK(bytes_written == bulk.size());
}

void Answer(fuzz::Input& input) {
  std::vector<wire::ShardReadRequest> requests(input.Number<uint8_t>() % 8 + 1);
  std::vector<client::ShardOperation> operations;
  for (wire::ShardReadRequest& request : requests) {
    request.length = input.Number<uint8_t>();
    operations.push_back({&request});
  }
  client::ShardBatchCall call(operations);
  rdma::Payload payload;
  payload.header = Message(input);
  payload.bulk = PieceOf(input.Rest());
  auto outcomes = call.Outcomes(std::move(payload));
  PERIGEE_CHECK(outcomes.size() == requests.size());
  for (size_t i = 0; i < outcomes.size(); ++i)
    if (outcomes[i].ok()) PERIGEE_CHECK(outcomes[i]->bytes.size() == requests[i].length);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  if (input.Number<uint8_t>() % 2 == 0)
    Ask(input);
  else
    Answer(input);
  return 0;
}
