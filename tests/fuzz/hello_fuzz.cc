// Hello and frame headers by themselves. Nobody is let in as a node without the secret.

#include "base/checksum.h"
#include "rdma/hello.h"
#include "rdma/local/frame.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::rdma;
using namespace perigee::rdma::local;

TransportOptions Options(const char* secret) {
  TransportOptions options;
  options.cluster_secret = secret;
  options.role = Role::kNode;
  options.node_id = 7;
  return options;
}

void CheckServer(fuzz::Input input) {
  const bool with_secret = input.Number<uint8_t>() & 1;
  HelloServer server(Options(with_secret ? "the cluster's secret" : ""));
  auto challenge = server.Challenge(input.Text());
  if (!challenge.ok()) {
    PERIGEE_CHECK(!HelloServer::Refusal(challenge.status()).empty());
    return;
  }
  PERIGEE_CHECK(challenge->size() <= kHelloBytesMax);
  auto peer = server.Verify(input.Text());
  if (peer.ok()) PERIGEE_CHECK(peer->role == Role::kUser && peer->node_id == 0);
}

void CheckClient(fuzz::Input input) {
  HelloClient client(Options("the cluster's secret"));
  (void)client.Start();
  PERIGEE_CHECK(!client.Answer(input.Text()).ok());
  HelloClient without(Options(""));
  if (auto answer = without.Answer(input.Text()); answer.ok())
    PERIGEE_CHECK(answer->size() <= kHelloBytesMax);
  if (auto peer = without.Finish(input.Text()); peer.ok()) PERIGEE_CHECK(peer->credits > 0);
}

void CheckFrame(fuzz::Input input) {
  const bool repair = input.Number<uint8_t>() & 1;
  const FrameLimits limits{input.Number<uint16_t>(), input.Number<uint16_t>()};
  uint8_t bytes[kFrameBytes] = {};
  input.Rest().copy(reinterpret_cast<char*>(bytes), sizeof bytes);
  if (repair) {
    std::memcpy(bytes, "PGLF\1", 5);
    PutLe<uint32_t>(bytes + 60, Crc32c(ConstBytes(bytes, 60)));
  }
  auto frame = DecodeFrame(bytes, limits);
  if (!frame.ok()) return;
  PERIGEE_CHECK(frame->header_len <= limits.header_max);
  PERIGEE_CHECK(frame->InlineBytes() <= limits.inline_max && frame->fds <= kFdsMax);
  uint8_t again[kFrameBytes];
  EncodeFrame(*frame, again);
  auto second = DecodeFrame(again, limits);
  PERIGEE_CHECK(second.ok() && second->TotalBytes() == frame->TotalBytes());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  constexpr void (*kChecks[])(fuzz::Input) = {CheckServer, CheckClient, CheckFrame};
  kChecks[input.Number<uint8_t>() % std::size(kChecks)](input);
  return 0;
}
