// A `local` server against peers that break the rules: each loses its connection, and nobody else
// notices.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <optional>
#include <vector>

#include "base/random.h"
#include "rdma/hello.h"
#include "rdma/local/bulk.h"
#include "rdma/local/frame.h"
#include "tests/rdma/local_world.h"

using namespace perigee;
using namespace perigee::rdma;
using namespace perigee::rdma::local;

namespace {

// Speaks frames by hand.
class RawClient {
 public:
  explicit RawClient(const std::string& path)
      : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    REQUIRE(connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  void SendBytes(std::string_view bytes, std::vector<int> fds = {}) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 16)];
    msghdr msg{};
    msg.msg_iov = &part;
    msg.msg_iovlen = 1;
    if (!fds.empty()) {
      msg.msg_control = control;
      msg.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* c = CMSG_FIRSTHDR(&msg);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      std::memcpy(CMSG_DATA(c), fds.data(), sizeof(int) * fds.size());
    }
    // The server may have hung up already; the test then sees the end.
    (void)!sendmsg(fd_.get(), &msg, MSG_NOSIGNAL);
  }
  void Send(FrameHeader head, std::string_view message = {}, std::vector<int> fds = {}) {
    head.header_len = static_cast<uint32_t>(message.size());
    head.fds = static_cast<uint8_t>(fds.size());
    uint8_t bytes[kFrameBytes];
    EncodeFrame(head, bytes);
    SendBytes(std::string(AsView(bytes)) + std::string(message), std::move(fds));
  }
  // The next frame, or nothing when the server has ended the connection (or is silent for ten
  // seconds).
  std::optional<FrameHeader> Receive(std::string* message = nullptr) {
    uint8_t bytes[kFrameBytes];
    if (!ReadFully(bytes, sizeof bytes)) return std::nullopt;
    auto head = DecodeFrame(bytes, {kHeaderBytesMax, kPieceBytesMax});
    REQUIRE(head.ok());
    std::string rest(head->header_len + head->InlineBytes(), '\0');
    if (!ReadFully(reinterpret_cast<uint8_t*>(rest.data()), rest.size())) return std::nullopt;
    if (message != nullptr) *message = rest.substr(0, head->header_len);
    return *head;
  }
  bool Ended() { return !Receive().has_value() && ended_; }

  void Hello() {
    HelloClient hello(NodeOptions(66));
    Send({.kind = FrameKind::kHelloStart}, hello.Start());
    std::string message;
    REQUIRE(Receive(&message).has_value());
    auto answer = hello.Answer(message);
    REQUIRE(answer.ok());
    Send({.kind = FrameKind::kHelloAnswer}, *answer);
    auto verdict = Receive(&message);
    REQUIRE(verdict.has_value());
    REQUIRE(verdict->kind == FrameKind::kHelloVerdict);
    REQUIRE(hello.Finish(message).ok());
  }

 private:
  bool ReadFully(uint8_t* out, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
      pollfd ready{fd_.get(), POLLIN, 0};
      if (poll(&ready, 1, 10'000) <= 0) return false;
      ssize_t n = recv(fd_.get(), out + done, bytes - done, 0);
      if (n <= 0) {
        ended_ = true;
        return false;
      }
      done += static_cast<size_t>(n);
    }
    return true;
  }
  OwnedFd fd_;
  bool ended_ = false;
};

FrameHeader Request(uint64_t id) {
  FrameHeader head;
  head.kind = FrameKind::kRequest;
  head.id = id;
  head.method = static_cast<uint16_t>(wire::Method::kPing);
  head.timeout_us = 20'000'000;
  return head;
}
FrameHeader SlabFrame(uint32_t id, uint64_t bytes) {
  FrameHeader head;
  head.kind = FrameKind::kSlab;
  head.ref.slab = id;
  head.ref.offset = bytes;
  return head;
}
OwnedFd Memfd(size_t bytes, int seals, unsigned flags = 0) {
  OwnedFd fd(memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags));
  REQUIRE(ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
  if (seals != 0) REQUIRE(fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
  return fd;
}

struct Victim {
  LocalWorld world;
  std::unique_ptr<Transport> server, client;
  std::atomic<int> served{0};
  CallShelf shelf;
  std::shared_ptr<FunctionHandler> handler;
  std::unique_ptr<Listener> listener;
  std::shared_ptr<Channel> bystander;

  explicit Victim(TransportOptions options = NodeOptions(1)) {
    server = world.NewTransport("s", options);
    client = world.NewTransport("c", NodeOptions(2));
    handler = std::make_shared<FunctionHandler>([this](std::unique_ptr<ServerCall> call) {
      ++served;
      if (call->header() == "hold") return shelf.Put(std::move(call));
      Payload payload;
      payload.header = std::string(call->header());
      payload.bulk = std::move(call->bulk());
      call->Reply(std::move(payload));
    });
    auto listening = server->Listen(world.Address("s"), handler);
    REQUIRE(listening.ok());
    listener = std::move(*listening);
    bystander = *client->Connect(world.Address("s"));
    REQUIRE(bystander->CallAndWait(wire::Method::kPing, "", {}, {}).ok());
  }
  std::string path() { return world.Path("s"); }
  ~Victim() {
    // Whatever happened: the others are served, and by the connection they had.
    CHECK(handler->disconnects() <= 1);
    CHECK(bystander->CallAndWait(wire::Method::kPing, "", {}, {}).ok());
    listener->Stop();
  }
};

}  // namespace

TEST_CASE("local server: nothing is served before hello") {
  Victim victim;
  int before = victim.served;
  {
    RawClient raw(victim.path());
    SUBCASE("garbage") { raw.SendBytes(std::string(500, 'g')); }
    SUBCASE("a call") { raw.Send(Request(1), "x"); }
    SUBCASE("a large message") {
      raw.Send({.kind = FrameKind::kHelloStart}, std::string(kHelloBytesMax + 1, 'x'));
    }
    SUBCASE("a malformed hello") { raw.Send({.kind = FrameKind::kHelloStart}, "\xff\xff"); }
    SUBCASE("an answer before the challenge") { raw.Send({.kind = FrameKind::kHelloAnswer}, ""); }
    SUBCASE("a server's frame") { raw.Send({.kind = FrameKind::kHelloVerdict}, ""); }
    SUBCASE("a slab") {
      OwnedFd fd = Memfd(4096, F_SEAL_SHRINK);
      raw.Send(SlabFrame(1, 4096), {}, {fd.get()});
    }
    // A refusal may come first.
    while (raw.Receive()) {
    }
    CHECK(raw.Ended());
  }
  CHECK(victim.served == before);
  CHECK(victim.handler->disconnects() == 0);
}

TEST_CASE("local server: a peer that breaks the rules loses its connection") {
  Victim victim;
  RawClient raw(victim.path());
  raw.Hello();
  raw.Send(Request(1), "fine");
  std::string message;
  auto answer = raw.Receive(&message);
  REQUIRE(answer.has_value());
  CHECK(answer->kind == FrameKind::kResponse);
  CHECK(message == "fine");

  SUBCASE("garbage") { raw.SendBytes(std::string(500, 'g')); }
  SUBCASE("an id used again") { raw.Send(Request(1), "x"); }
  SUBCASE("a second hello") { raw.Send({.kind = FrameKind::kHelloStart}, ""); }
  SUBCASE("a server's frame") {
    FrameHeader head = Request(2);
    head.kind = FrameKind::kResponse;
    raw.Send(head, "");
  }
  SUBCASE("a header length beyond the limit") {
    FrameHeader head = Request(2);
    head.header_len = kHeaderBytesMax + 1;
    uint8_t bytes[kFrameBytes];
    EncodeFrame(head, bytes);
    raw.SendBytes(AsView(bytes));
  }
  SUBCASE("inline bulk beyond the limit") {
    FrameHeader head = Request(2);
    head.bulk = BulkKind::kInline;
    head.bulk_len = kInlineBulkMax + 1;
    raw.Send(head, "");
  }
  SUBCASE("a traffic class that there is not") {
    FrameHeader head = Request(2);
    head.traffic = static_cast<TrafficClass>(kTrafficClasses + 1);
    raw.Send(head, "x");
  }
  SUBCASE("descriptors beside a call") {
    OwnedFd fd = Memfd(4096, F_SEAL_SHRINK);
    raw.Send(Request(2), "x", {fd.get()});
  }
  SUBCASE("more descriptors than a frame may carry") {
    OwnedFd fd = Memfd(4096, F_SEAL_SHRINK);
    raw.SendBytes("x", std::vector<int>(8, fd.get()));
  }
  SUBCASE("descriptors that belong to nothing") {
    OwnedFd fd = Memfd(4096, F_SEAL_SHRINK);
    for (uint64_t id = 2; id < 12; ++id) {
      uint8_t bytes[kFrameBytes];
      EncodeFrame(Request(id), bytes);
      raw.SendBytes(AsView(bytes), {fd.get(), fd.get()});
    }
    while (raw.Receive()) {
    }
  }
  SUBCASE("a descriptor that was announced and did not come") {
    FrameHeader head = SlabFrame(1, 4096);
    head.fds = 1;
    uint8_t bytes[kFrameBytes];
    EncodeFrame(head, bytes);
    raw.SendBytes(AsView(bytes));
  }
  SUBCASE("a memfd that can shrink") {
    OwnedFd fd = Memfd(4096, F_SEAL_GROW);
    raw.Send(SlabFrame(1, 4096), {}, {fd.get()});
  }
  SUBCASE("a memfd smaller than it says") {
    OwnedFd fd = Memfd(4096, F_SEAL_SHRINK);
    raw.Send(SlabFrame(1, 8192), {}, {fd.get()});
  }
  SUBCASE("a descriptor that is no memfd") {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    raw.Send(SlabFrame(1, 4096), {}, {ends[0]});
    close(ends[0]);
    close(ends[1]);
  }
  SUBCASE("a slab announced twice") {
    OwnedFd fd = Memfd(4096, F_SEAL_SHRINK);
    raw.Send(SlabFrame(1, 4096), {}, {fd.get()});
    raw.Send(SlabFrame(1, 4096), {}, {fd.get()});
  }
  SUBCASE("slabs without end") {
    OwnedFd fd = Memfd(4096, F_SEAL_SHRINK);
    for (uint32_t id = 1; id < kSlabsPerConnectionMax + 5; ++id)
      raw.Send(SlabFrame(id, 4096), {}, {fd.get()});
  }
  SUBCASE("a slab forgotten that was never announced") {
    raw.Send({.kind = FrameKind::kForgetSlab, .ref = {.slab = 5}});
  }
  SUBCASE("a payload pulled that was never sent") {
    raw.Send({.kind = FrameKind::kPulled, .id = 1});
  }
  SUBCASE("bulk outside the rules") {
    OwnedFd leases = Memfd(kLeaseTableBytes, F_SEAL_SHRINK);
    OwnedFd slab = Memfd(1 << 20, F_SEAL_SHRINK);
    FrameHeader head = Request(2);
    head.bulk = BulkKind::kSlab;
    head.bulk_len = 100'000;
    head.ref.slab = 1;
    SUBCASE("an unknown slab") {}
    SUBCASE("a slab without a lease table") { raw.Send(SlabFrame(1, 1 << 20), {}, {slab.get()}); }
    SUBCASE("beyond the slab's end") {
      raw.Send(SlabFrame(kLeaseSlab, kLeaseTableBytes), {}, {leases.get()});
      raw.Send(SlabFrame(1, 1 << 20), {}, {slab.get()});
      head.ref.offset = (1 << 20) - 99'999;
    }
    SUBCASE("an offset that wraps around") {
      raw.Send(SlabFrame(kLeaseSlab, kLeaseTableBytes), {}, {leases.get()});
      raw.Send(SlabFrame(1, 1 << 20), {}, {slab.get()});
      head.ref.offset = UINT64_MAX - 10;
    }
    SUBCASE("a lease beyond its table") {
      raw.Send(SlabFrame(kLeaseSlab, kLeaseTableBytes), {}, {leases.get()});
      raw.Send(SlabFrame(1, 1 << 20), {}, {slab.get()});
      head.ref.lease_slot = UINT32_MAX;
    }
    SUBCASE("the lease table as payload") {
      raw.Send(SlabFrame(kLeaseSlab, kLeaseTableBytes), {}, {leases.get()});
      head.ref.slab = kLeaseSlab;
      head.bulk_len = 8;
    }
    raw.Send(head, "x");
  }
  SUBCASE("bytes at random") {
    const uint64_t seed = 77;
    INFO("seed ", seed);
    Random random(seed);
    uint8_t bytes[kFrameBytes];
    EncodeFrame(Request(2), bytes);
    bytes[random.Below(kFrameBytes)] ^= 0x40;
    raw.SendBytes(AsView(bytes));
  }
  while (raw.Receive()) {
  }
  CHECK(raw.Ended());
  CHECK(victim.handler->WaitForDisconnects(1));
}

TEST_CASE("local server: more calls in flight than granted are a violation") {
  TransportOptions options = NodeOptions(1);
  options.credits = 3;
  Victim victim(options);
  RawClient raw(victim.path());
  raw.Hello();
  for (uint64_t id = 1; id <= 3; ++id) raw.Send(Request(id), "hold");
  for (int i = 0; i < 3; ++i) {
    auto call = victim.shelf.Take();
    REQUIRE(call != nullptr);
    if (i < 2) call->Reply({});
    // The third stays, answered only when it goes out of scope, after the connection.
    if (i == 2) {
      REQUIRE(raw.Receive().has_value());
      REQUIRE(raw.Receive().has_value());
      for (uint64_t id = 4; id <= 5; ++id) raw.Send(Request(id), "hold");
      auto fourth = victim.shelf.Take();
      auto fifth = victim.shelf.Take();
      REQUIRE(fifth != nullptr);
      raw.Send(Request(6), "hold");
      CHECK(raw.Ended());
      CHECK(victim.handler->WaitForDisconnects(1));
    }
  }
}

TEST_CASE("local server: a payload whose lease was withdrawn is not served") {
  Victim victim;
  RawClient raw(victim.path());
  raw.Hello();
  OwnedFd leases = Memfd(kLeaseTableBytes, F_SEAL_SHRINK);
  OwnedFd slab = Memfd(1 << 20, F_SEAL_SHRINK);
  raw.Send(SlabFrame(kLeaseSlab, kLeaseTableBytes), {}, {leases.get()});
  raw.Send(SlabFrame(1, 1 << 20), {}, {slab.get()});
  FrameHeader head = Request(1);
  head.bulk = BulkKind::kSlab;
  head.bulk_len = 100'000;
  head.ref = {1, 4096, 9, 1234};
  int before = victim.served;
  raw.Send(head, "x");
  auto answer = raw.Receive();
  REQUIRE(answer.has_value());
  CHECK(answer->method == static_cast<uint16_t>(Code::kUnavailable));
  CHECK(victim.served == before);
  // With the lease standing, the same payload arrives.
  uint64_t value = 1234;
  REQUIRE(pwrite(leases.get(), &value, sizeof value, 9 * 8) == 8);
  head.id = 2;
  raw.Send(head, "x");
  std::optional<FrameHeader> served;
  while ((served = raw.Receive()) && served->kind != FrameKind::kResponse) {
  }
  REQUIRE(served.has_value());
  CHECK(served->method == 0);
  CHECK(victim.served == before + 1);
}

TEST_CASE("local server: a slab's end may be cut off by nobody, and holes read as zeros") {
  Victim victim;
  RawClient raw(victim.path());
  raw.Hello();
  OwnedFd leases = Memfd(kLeaseTableBytes, F_SEAL_SHRINK);
  OwnedFd slab = Memfd(1 << 20, F_SEAL_SHRINK);
  uint64_t value = 5;
  REQUIRE(pwrite(leases.get(), &value, sizeof value, 0) == 8);
  raw.Send(SlabFrame(kLeaseSlab, kLeaseTableBytes), {}, {leases.get()});
  raw.Send(SlabFrame(1, 1 << 20), {}, {slab.get()});
  CHECK(ftruncate(slab.get(), 0) != 0);
  CHECK(fallocate(slab.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20) == 0);
  FrameHeader head = Request(1);
  head.bulk = BulkKind::kSlab;
  head.bulk_len = 1 << 20;
  head.ref = {1, 0, 0, 5};
  raw.Send(head, "x");
  std::optional<FrameHeader> served;
  while ((served = raw.Receive()) && served->kind != FrameKind::kResponse) {
  }
  REQUIRE(served.has_value());
  CHECK(served->method == 0);
}

TEST_CASE("local server: a frame that arrives byte by byte is a frame") {
  Victim victim;
  RawClient raw(victim.path());
  raw.Hello();
  FrameHeader head = Request(1);
  head.header_len = 5;
  uint8_t bytes[kFrameBytes];
  EncodeFrame(head, bytes);
  std::string whole = std::string(AsView(bytes)) + "bytes";
  for (char byte : whole) raw.SendBytes(std::string_view(&byte, 1));
  std::string message;
  REQUIRE(raw.Receive(&message).has_value());
  CHECK(message == "bytes");
}
