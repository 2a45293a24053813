// What is particular to `local`: descriptors, credentials, socket files, forks, and its failpoints.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "base/disk.h"
#include "base/event.h"
#include "base/failpoint.h"
#include "base/metrics.h"
#include "base/random.h"
#include "rdma/rpc.h"
#include "tests/rdma/local_world.h"

using namespace perigee;
using namespace perigee::rdma;

namespace {

constexpr auto kMethod = wire::Method::kPing;

std::unique_ptr<Transport> Node(uint64_t id, LocalOptions local = {}) {
  auto transport = CreateLocalTransport(NodeOptions(id), local);
  REQUIRE(transport.ok());
  return std::move(*transport);
}
std::shared_ptr<FunctionHandler> Echo() {
  return std::make_shared<FunctionHandler>([](std::unique_ptr<ServerCall> call) {
    Payload payload;
    payload.header = std::string(call->header());
    payload.bulk = std::move(call->bulk());
    call->Reply(std::move(payload));
  });
}
// Keeps its calls, and takes their bulk where it lies.
class Borrower final : public Handler {
 public:
  void OnCall(std::unique_ptr<ServerCall> call) override { shelf.Put(std::move(call)); }
  bool TakesLent(wire::Method) const override { return true; }
  CallShelf shelf;
};
std::shared_ptr<SlabPool> NewPool() { return *SlabPool::Create({.bytes_max = 32 << 20}); }
std::string TextOf(const Piece& piece) { return std::string(AsView(piece.span())); }
// A bound and abandoned socket file, as a killed process leaves it.
void LeaveStaleSocket(const std::string& path) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  close(fd);
}

}  // namespace

TEST_CASE("local: descriptors travel with a reply and are the caller's own") {
  LocalWorld world;
  std::string path = world.Path("file");
  auto server = Node(1), client = Node(2);
  CHECK(server->passes_fds());
  auto handler = std::make_shared<FunctionHandler>([&](std::unique_ptr<ServerCall> call) {
    Payload payload;
    size_t count = call->header().size();
    for (size_t i = 0; i < count; ++i) {
      payload.fds.emplace_back(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
      if (pwrite(payload.fds.back().get(), "0123", 4, 0) != 4) payload.fds.clear();
    }
    call->Reply(std::move(payload));
  });
  auto listener = server->Listen(world.Address("s"), handler);
  REQUIRE(listener.ok());
  auto channel = *client->Connect(world.Address("s"));
  for (size_t count : {size_t{1}, kFdsMax, size_t{2}}) {
    auto reply = channel->CallAndWait(kMethod, std::string(count, 'x'), {}, {});
    REQUIRE(reply.ok());
    REQUIRE(reply->fds.size() == count);
    for (auto& fd : reply->fds) {
      char text[4];
      CHECK(pread(fd.get(), text, 4, 0) == 4);
      CHECK(std::string(text, 4) == "0123");
      CHECK((fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
    }
  }
  CHECK(channel->CallAndWait(kMethod, std::string(kFdsMax + 1, 'x'), {}, {}).code() ==
        Code::kInternal);
}

TEST_CASE("local: the kernel says who calls, and the server's own user may do what nodes may") {
  LocalWorld world;
  auto router = std::make_shared<Router>();
  router->AddRaw(kMethod, Access::kNodesOnly, nullptr,
                 [](Context& ctx, std::string_view) -> Result<std::string> {
                   return std::to_string(ctx.peer.uid) + "/" + std::to_string(ctx.peer.pid) + "/" +
                          std::to_string(static_cast<int>(ctx.peer.role));
                 });
  auto server = Node(1);
  auto listener = server->Listen(world.Address("s"), router);
  REQUIRE(listener.ok());
  auto user = *CreateLocalTransport({});
  auto channel = *user->Connect(world.Address("s"));
  auto reply = channel->CallAndWait(kMethod, "", {}, {});
  REQUIRE(reply.ok());
  CHECK(reply->header == std::to_string(geteuid()) + "/" + std::to_string(getpid()) + "/0");
}

TEST_CASE("local: a foreign user gets in where the mode lets it, and not to what is for nodes") {
  if (geteuid() != 0) return;  // only root can become someone else
  LocalWorld world;
  LocalOptions local;
  local.socket_mode = 0666;
  auto router = std::make_shared<Router>();
  std::string data(200'000, 'd');
  router->AddRaw(kMethod, Access::kAnyone, nullptr,
                 [](Context& ctx, std::string_view) -> Result<std::string> {
                   ctx.reply_bulk = std::move(ctx.bulk);
                   return std::to_string(ctx.peer.uid);
                 });
  router->AddRaw(wire::Method::kMetaMkdir, Access::kNodesOnly, nullptr,
                 [](Context&, std::string_view) -> Result<std::string> { return std::string(); });
  auto server = Node(1, local);
  auto listener = server->Listen(world.Address("s"), router);
  REQUIRE(listener.ok());
  REQUIRE(chmod(ParentDir(world.Path("s")).c_str(), 0755) == 0);
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(10);
    auto user = CreateLocalTransport({});
    if (!user.ok()) _exit(11);
    auto channel = *(*user)->Connect(world.Address("s"));
    auto reply = channel->CallAndWait(kMethod, "", AsBytes(data), {});
    if (!reply.ok() || reply->header != "65534") _exit(12);
    if (AsView(reply->bulk.span()) != data) _exit(13);
    if (channel->CallAndWait(wire::Method::kMetaMkdir, "", {}, {}).code() !=
        Code::kPermissionDenied)
      _exit(14);
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE(
    "local: a node's payload is lent to a handler that takes it, until the call is given up") {
  LocalWorld world;
  auto pool = NewPool();
  TransportOptions options = NodeOptions(1);
  options.pool = pool;
  auto server = *CreateLocalTransport(options);
  auto handler = std::make_shared<Borrower>();
  auto listener = server->Listen(world.Address("s"), handler);
  REQUIRE(listener.ok());
  std::string bulk(300'000, 'b');
  auto call = [&](Transport& from, Nanos timeout, std::function<void(ServerCall&)> during) {
    auto channel = *from.Connect(world.Address("s"));
    Event answered;
    Code code = Code::kInternal;
    channel->Call(kMethod, "", AsBytes(bulk), {.timeout = timeout}, [&](Result<Payload> reply) {
      code = reply.code();
      answered.Set();
    });
    auto kept = handler->shelf.Take();
    REQUIRE(kept);
    CHECK(TextOf(kept->bulk()) == bulk);
    CHECK(kept->bulk().Stands());
    during(*kept);
    bool in_time = timeout > kSecond;
    if (in_time) kept->Reply({});
    answered.Wait();
    // The caller has its memory back, and the handler can tell.
    CHECK(kept->bulk().Stands() == (pool->BytesInUse() > 0));
    if (!in_time) kept->Reply({});
    return code;
  };
  auto node = Node(2);
  CHECK(call(*node, 10 * kSecond, [&](ServerCall&) { CHECK(pool->BytesInUse() == 0); }) ==
        Code::kOk);
  CHECK(call(*node, 50 * kMillisecond, [](ServerCall&) {}) == Code::kDeadlineExceeded);
  // Whoever is no node gives a copy.
  auto user = *CreateLocalTransport({});
  CHECK(call(*user, 10 * kSecond, [&](ServerCall&) { CHECK(pool->BytesInUse() >= bulk.size()); }) ==
        Code::kOk);
}

TEST_CASE("local: a reply that is lent stays the server's until its piece is gone") {
  LocalWorld world;
  auto lending = NewPool(), borrowing = NewPool();
  TransportOptions options = NodeOptions(1);
  options.pool = lending;
  auto server = *CreateLocalTransport(options);
  std::string text(300'000, 't');
  auto handler = std::make_shared<FunctionHandler>([&](std::unique_ptr<ServerCall> call) {
    Payload payload;
    payload.bulk = lending->TryAllocate(text.size());
    std::memcpy(payload.bulk.data(), text.data(), text.size());
    call->Reply(std::move(payload));
  });
  auto listener = server->Listen(world.Address("s"), handler);
  REQUIRE(listener.ok());
  options = NodeOptions(2);
  options.pool = borrowing;
  auto client = *CreateLocalTransport(options);
  auto channel = *client->Connect(world.Address("s"));
  auto reply = channel->CallAndWait(kMethod, "", {}, {.lent_reply = true});
  REQUIRE(reply.ok());
  CHECK(TextOf(reply->bulk) == text);
  CHECK(borrowing->BytesInUse() == 0);
  CHECK(lending->BytesInUse() >= text.size());
  CHECK(reply->bulk.Stands());
  Event freed;
  lending->OnNextFree([&] { freed.Set(); });
  reply->bulk.Release();
  CHECK(freed.WaitFor(10 * kSecond));
  CHECK(lending->BytesInUse() == 0);
  // A server that goes takes its memory back; what was mapped stays readable.
  auto last = channel->CallAndWait(kMethod, "", {}, {.lent_reply = true});
  REQUIRE(last.ok());
  (*listener)->Stop();
  CHECK_FALSE(last->bulk.Stands());
  CHECK(TextOf(last->bulk).size() == text.size());
}

TEST_CASE("local: socket files") {
  LocalWorld world;
  auto server = Node(1);
  struct stat st {};

  SUBCASE("have the mode asked for, and go when the listener stops") {
    LocalOptions local;
    local.socket_mode = 0660;
    local.socket_group = getgid();
    auto other = Node(3, local);
    auto listener = other->Listen(world.Address("s"), Echo());
    REQUIRE(listener.ok());
    REQUIRE(stat(world.Path("s").c_str(), &st) == 0);
    CHECK((st.st_mode & 07777) == 0660);
    (*listener)->Stop();
    CHECK(stat(world.Path("s").c_str(), &st) != 0);
  }
  SUBCASE("that nobody answers are replaced") {
    LeaveStaleSocket(world.Path("s"));
    auto listener = server->Listen(world.Address("s"), Echo());
    REQUIRE_MESSAGE(listener.ok(), listener.status().ToString());
    auto channel = *server->Connect(world.Address("s"));
    CHECK(channel->CallAndWait(kMethod, "", {}, {}).ok());
    REQUIRE(stat(world.Path("s").c_str(), &st) == 0);
    CHECK((st.st_mode & 07777) == 0600);
  }
  SUBCASE("that somebody answers, and files that are no sockets, are left alone") {
    auto listener = server->Listen(world.Address("s"), Echo());
    REQUIRE(listener.ok());
    auto other = Node(3);
    CHECK(other->Listen(world.Address("s"), Echo()).code() == Code::kAlreadyExists);
    std::ofstream(world.Path("f")) << "precious";
    CHECK(other->Listen(world.Address("f"), Echo()).code() == Code::kAlreadyExists);
    std::string text;
    std::ifstream(world.Path("f")) >> text;
    CHECK(text == "precious");
    CHECK(other->Listen("local:/nonexistent/dir/s", Echo()).code() == Code::kNotFound);
  }
  SUBCASE("of a successor are not removed by the predecessor") {
    auto listener = server->Listen(world.Address("s"), Echo());
    REQUIRE(listener.ok());
    REQUIRE(unlink(world.Path("s").c_str()) == 0);
    auto other = Node(3);
    auto second = other->Listen(world.Address("s"), Echo());
    REQUIRE(second.ok());
    (*listener)->Stop();
    CHECK(stat(world.Path("s").c_str(), &st) == 0);
  }
  SUBCASE("may have paths longer than a socket address") {
    std::string dir = ParentDir(world.Path("s"));
    for (int i = 0; i < 4; ++i) {
      dir += "/" + std::string(40, static_cast<char>('a' + i));
      REQUIRE(mkdir(dir.c_str(), 0700) == 0);
    }
    auto listener = server->Listen("local:" + dir + "/s.sock", Echo());
    REQUIRE_MESSAGE(listener.ok(), listener.status().ToString());
    auto channel = *server->Connect("local:" + dir + "/s.sock");
    CHECK(channel->CallAndWait(kMethod, "", {}, {}).ok());
  }
}

TEST_CASE("local: a node without a secret is a mistake") {
  TransportOptions options;
  options.role = Role::kNode;
  CHECK(CreateLocalTransport(options).code() == Code::kInvalidArgument);
}

TEST_CASE("local: a large answer to a slow reader is queued and arrives whole") {
  LocalWorld world;
  auto server = Node(1), client = Node(2);
  auto listener = server->Listen(world.Address("s"), Echo());
  REQUIRE(listener.ok());
  auto channel = *client->Connect(world.Address("s"));
  std::string large(1 << 20, 'l');
  std::mutex mu;
  CondVar changed;
  int whole = 0, other = 0;
  for (int i = 0; i < 60; ++i) {
    large[0] = static_cast<char>(i);
    channel->Call(kMethod, large, {}, {}, [&, i](Result<Payload> result) {
      std::lock_guard lock(mu);
      bool ok = result.ok() && result->header.size() == 1 << 20 &&
                result->header[0] == static_cast<char>(i);
      ++(ok ? whole : other);
      changed.NotifyAll();
    });
  }
  std::unique_lock lock(mu);
  CHECK(changed.WaitFor(lock, 30 * kSecond, [&] { return whole + other == 60; }));
  CHECK(whole == 60);
}

TEST_CASE("local: slabs come and go on one connection without end") {
  LocalWorld world;
  SlabPool::Options pool_options;
  pool_options.idle_release = 0;
  auto pool = SlabPool::Create(pool_options);
  REQUIRE(pool.ok());
  TransportOptions options = NodeOptions(2);
  options.pool = *pool;
  auto registry = metrics::Registry::Create();
  options.metrics = registry.get();
  auto server = Node(1);
  auto client = world.NewTransport("client", options);
  auto listener = server->Listen(world.Address("s"), Echo());
  REQUIRE(listener.ok());
  auto channel = *client->Connect(world.Address("s"));
  std::string data(100'000, 'd');
  // More than a connection may know at once, so that forgetting is part of it.
  const int rounds = 200;
  for (int i = 0; i < rounds; ++i) {
    data[0] = static_cast<char>(i);
    auto reply = channel->CallAndWait(kMethod, "", AsBytes(data), {});
    REQUIRE(reply.ok());
    CHECK(AsView(reply->bulk.span()) == data);
    reply->bulk.Release();
    (*pool)->Trim();
    CHECK((*pool)->BytesMapped() == 0);
  }
  for (const char* direction : {"in", "out"}) {
    auto* bytes = registry->GetCounter("perigee_rdma_bytes_total", "",
                                       {{"provider", "local"}, {"direction", direction}});
    CHECK(bytes->Value() > rounds * 100'000);
  }
  channel.reset();
  client.reset();
}

TEST_CASE(
    "local: waiting threads and callbacks share a connection, with deadlines passing among them") {
  LocalWorld world;
  const uint64_t seed = 5;
  INFO("seed ", seed);
  auto server = Node(1), client = Node(2);
  std::mutex mu;
  std::vector<std::unique_ptr<ServerCall>> shelf;
  auto handler = std::make_shared<FunctionHandler>([&](std::unique_ptr<ServerCall> call) {
    if (call->header()[0] == 's') {
      std::lock_guard lock(mu);
      shelf.push_back(std::move(call));
      return;
    }
    Payload payload;
    payload.header = std::string(call->header());
    call->Reply(std::move(payload));
  });
  auto listener = server->Listen(world.Address("s"), handler);
  REQUIRE(listener.ok());
  auto channel = *client->Connect(world.Address("s"));
  std::atomic<int> wrong{0}, callbacks{0}, expected{0}, left{6};
  Event done;
  for (int t = 0; t < 6; ++t) {
    REQUIRE(world.scheduler()
                .Post([&, t] {
                  Random random(seed * 100 + static_cast<uint64_t>(t));
                  for (int i = 0; i < 150; ++i) {
                    std::string header = "f" + std::to_string(t) + "/" + std::to_string(i);
                    if (random.OneIn(12)) {
                      auto late = channel->CallAndWait(
                          kMethod, "s", {}, {static_cast<Nanos>(random.Below(3)) * kMillisecond});
                      // kInternal: another thread emptied the shelf in time.
                      if (late.code() != Code::kDeadlineExceeded && late.code() != Code::kInternal)
                        ++wrong;
                    } else if (random.OneIn(3)) {
                      ++expected;
                      channel->Call(kMethod, header, {}, {}, [&, header](Result<Payload> result) {
                        if (!result.ok() || result->header != header) ++wrong;
                        ++callbacks;
                      });
                    } else {
                      auto reply = channel->CallAndWait(kMethod, header, {}, {});
                      if (!reply.ok() || reply->header != header) ++wrong;
                    }
                    if (random.OneIn(20)) {
                      std::lock_guard lock(mu);
                      shelf.clear();  // late answers
                    }
                  }
                  if (--left == 0) done.Set();
                })
                .ok());
  }
  REQUIRE(done.WaitFor(60 * kSecond));
  // Whatever order they were sent in, all callbacks precede the end of this one's wait for credits;
  // ask until they do.
  for (int i = 0; i < 10'000 && callbacks < expected; ++i) {
    CHECK(channel->CallAndWait(kMethod, "f", {}, {}).ok());
  }
  CHECK(callbacks == expected);
  CHECK(wrong == 0);
  std::lock_guard lock(mu);
  shelf.clear();
}

TEST_CASE("local: a forked child leaves its parent's transport alone and makes its own") {
  LocalWorld world;
  auto server = Node(1), client = Node(2);
  auto listener = server->Listen(world.Address("s"), Echo());
  REQUIRE(listener.ok());
  auto channel = *client->Connect(world.Address("s"));
  REQUIRE(channel->CallAndWait(kMethod, "parent", {}, {}).ok());
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    channel.reset();
    client.reset();
    auto own = CreateLocalTransport(NodeOptions(9));
    if (!own.ok()) _exit(1);
    auto fresh = *(*own)->Connect(world.Address("s"));
    auto reply = fresh->CallAndWait(kMethod, "child", AsBytes(std::string(100'000, 'c')), {});
    _exit(reply.ok() && reply->header == "child" ? 0 : 2);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(channel->CallAndWait(kMethod, "parent again", {}, {}).ok());
}

TEST_CASE("local: the server's death fails the call under way") {
  LocalWorld world;
  std::string address = world.Address("s");
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    auto server = CreateLocalTransport(NodeOptions(1));
    if (!server.ok()) _exit(1);
    auto listener = (*server)->Listen(
        address, std::make_shared<FunctionHandler>([](std::unique_ptr<ServerCall>) { _exit(0); }));
    if (!listener.ok() || write(ready[1], "r", 1) != 1) _exit(2);
    pause();
  }
  char byte;
  REQUIRE(read(ready[0], &byte, 1) == 1);
  auto client = Node(2);
  auto channel = *client->Connect(address);
  CHECK(channel->CallAndWait(kMethod, "die", {}, {}).code() == Code::kUnavailable);
  CHECK(!channel->Healthy());
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  close(ready[0]);
  close(ready[1]);
}

#ifdef PERIGEE_FAILPOINTS
TEST_CASE("local: its failpoints are hit, and a failed pull is an answer") {
  failpoint::DisarmAll();
  LocalWorld world;
  auto server = Node(1), client = Node(2);
  auto listener = server->Listen(world.Address("s"), Echo());
  REQUIRE(listener.ok());
  auto channel = *client->Connect(world.Address("s"));
  std::string bulk(100'000, 'b');
  using failpoint::Id;
  Id all[] = {Id::rdma_local_before_call, Id::rdma_local_after_call,   Id::rdma_local_before_pull,
              Id::rdma_local_after_pull,  Id::rdma_local_before_reply, Id::rdma_local_after_reply};
  std::vector<uint64_t> before;
  for (Id id : all) before.push_back(failpoint::Hits(id));
  REQUIRE(channel->CallAndWait(kMethod, "", AsBytes(bulk), {}).ok());
  REQUIRE(channel->CallAndWait(kMethod, "", AsBytes(bulk), {}).ok());
  for (size_t i = 0; i < std::size(all); ++i) CHECK(failpoint::Hits(all[i]) > before[i]);
  REQUIRE(failpoint::Arm("rdma_local_before_pull=error").ok());
  CHECK(channel->CallAndWait(kMethod, "", AsBytes(bulk), {}).code() == Code::kIo);
  CHECK(channel->CallAndWait(kMethod, "", AsBytes(bulk), {}).ok());
  failpoint::DisarmAll();
}
#endif
