// A hostile server on the `local` transport: what it says instead of, or after, hello and answers.
// The client's calls end, each exactly once.

#include "base/event.h"
#include "rdma/rpc.h"
#include "tests/fuzz/raw_peer.h"

namespace {

using namespace perigee;
using namespace perigee::rdma;
using local::FrameKind;

constexpr int kCalls = 2;

// One for each input: a channel of the input before may have connected once more.
class ListeningSocket {
 public:
  explicit ListeningSocket(const fuzz::SocketDir& dir) : path_(dir.path()) {
    const sockaddr_un address = dir.address();
    PERIGEE_CHECK(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
                  0);
    PERIGEE_CHECK(::listen(fd_.get(), 16) == 0);
  }
  ~ListeningSocket() { ::unlink(path_.c_str()); }
  OwnedFd Accept() const {
    pollfd ready{fd_.get(), POLLIN, 0};
    PERIGEE_CHECK(::poll(&ready, 1, fuzz::kPeerWaitMs) > 0);
    return OwnedFd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }

 private:
  const std::string path_;
  OwnedFd fd_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
};

struct Client {
  fuzz::SocketDir dir;
  std::unique_ptr<Transport> transport =
      std::move(CreateLocalTransport(fuzz::NodeOptions(1), {.loops = 1})).value();
};

struct Calls {
  std::mutex mu;  // guards the count
  CondVar changed;
  int ended = 0;
  void End() {
    std::lock_guard lock(mu);
    ++ended;
    changed.NotifyAll();
  }
  void AwaitAll() {
    std::unique_lock lock(mu);
    PERIGEE_CHECK(changed.WaitFor(lock, 20 * kSecond, [&] { return ended >= kCalls; }));
    PERIGEE_CHECK(ended == kCalls);
  }
};

void Hello(fuzz::RawPeer& peer) {
  HelloServer hello(fuzz::NodeOptions(2));
  auto start = peer.ReceiveMessage();
  PERIGEE_CHECK(start.has_value());
  auto challenge = hello.Challenge(*start);
  PERIGEE_CHECK(challenge.ok());
  peer.SendFrame({.kind = FrameKind::kHelloChallenge}, *challenge);
  auto answer = peer.ReceiveMessage();
  PERIGEE_CHECK(answer && hello.Verify(*answer).ok());
  peer.SendFrame({.kind = FrameKind::kHelloVerdict}, hello.Welcome());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Client client;
  fuzz::Input input(data, size);
  const ListeningSocket listener(client.dir);
  auto calls = std::make_shared<Calls>();
  auto channel = std::move(client.transport->Connect("local:" + client.dir.path())).value();
  for (int i = 0; i < kCalls; ++i) {
    channel->Call(wire::Method::kPing, "ping", {}, {.timeout = 15 * kSecond},
                  [calls](Result<Payload> reply) {
                    (void)reply.ok();
                    calls->End();
                  });
  }
  {
    fuzz::RawPeer peer(listener.Accept());
    if (input.Number<uint8_t>() & 1) Hello(peer);
    while (!input.empty()) peer.Play(input);
    peer.Finish();
  }
  channel->Close();
  calls->AwaitAll();
  return 0;
}
