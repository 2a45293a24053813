// A hostile client on the `local` transport's socket, which is bufferd's and objectd's: bytes and
// frames before and after hello. It may lose its connection; it must not stop the server.

#include "rdma/rpc.h"
#include "tests/fuzz/raw_peer.h"

namespace {

using namespace perigee;
using namespace perigee::rdma;
using local::FrameKind;

// Answers with what it was sent.
class Echo final : public Handler {
 public:
  void OnCall(std::unique_ptr<ServerCall> call) override {
    Payload payload;
    payload.header = std::string(call->header());
    payload.bulk = std::move(call->bulk());
    if (call->method() == wire::Method::kPing)
      call->Reply(std::move(payload));
    else
      call->Fail(Status(Code::kUnimplemented, payload.header));
  }
};

struct Server {
  fuzz::SocketDir dir;
  std::unique_ptr<Transport> transport =
      std::move(CreateLocalTransport(fuzz::NodeOptions(1), {.loops = 1})).value();
  std::unique_ptr<Listener> listener =
      std::move(transport->Listen("local:" + dir.path(), std::make_shared<Echo>())).value();
  ~Server() { listener->Stop(); }
};

OwnedFd Connect(const fuzz::SocketDir& dir) {
  OwnedFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = dir.address();
  PERIGEE_CHECK(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
                0);
  return fd;
}

void Hello(fuzz::RawPeer& peer, const TransportOptions& options) {
  HelloClient hello(options);
  peer.SendFrame({.kind = FrameKind::kHelloStart}, hello.Start());
  auto challenge = peer.ReceiveMessage();
  if (!challenge) return;
  auto answer = hello.Answer(*challenge);
  PERIGEE_CHECK(answer.ok());
  peer.SendFrame({.kind = FrameKind::kHelloAnswer}, *answer);
  auto verdict = peer.ReceiveMessage();
  PERIGEE_CHECK(verdict && hello.Finish(*verdict).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Server server;
  fuzz::Input input(data, size);
  fuzz::RawPeer peer(Connect(server.dir));
  if (input.Number<uint8_t>() & 1) Hello(peer, fuzz::NodeOptions(2));
  while (!input.empty()) peer.Play(input);
  peer.Finish();
  return 0;
}
