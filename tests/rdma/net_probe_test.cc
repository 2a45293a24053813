// What perigee bench net measures, and what its echo gives away.

#include "rdma/net_probe.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "base/scheduler.h"
#include "local_world.h"

namespace perigee::rdma {
namespace {

struct Ends {
  Ends() {
    slabs = *SlabPool::Create({.bytes_max = 64 << 20});
    TransportOptions options{.cluster_secret = "secret", .node_id = 1, .role = Role::kNode};
    options.pool = slabs;
    transport = world.NewTransport("t", options);
    auto router = std::make_shared<Router>();
    AddNetProbe(router.get(), &world.scheduler(), &world.scheduler(), transport.get(), slabs,
                world.Address("daemon"));
    auto listening = transport->Listen(world.Address("daemon"), router);
    REQUIRE(listening.ok());
    listener = std::move(*listening);
    channel = *transport->Connect(world.Address("daemon"));
  }
  ~Ends() { Stop(); }
  void Stop() {  // what is still on its way has ended then
    channel->Close();
    listener->Stop();
    world.scheduler().Stop();
  }

  LocalWorld world;
  std::shared_ptr<SlabPool> slabs;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Listener> listener;
  std::shared_ptr<Channel> channel;
};

TEST_CASE("a daemon measures the way to another, by size, and leaves nothing behind") {
  Ends ends;
  auto reply =
      Call<wire::NetProbeReply>(*ends.channel, wire::Method::kNetProbe,
                                wire::NetProbeRequest{.bytes_max = 16 << 20, .milliseconds = 5});
  if (!reply.ok()) FAIL(reply.status().ToString());
  REQUIRE(reply->rows.size() == 8);
  CHECK(reply->rows.back().bytes == 16 << 20);
  for (const wire::NetProbeRow& row : reply->rows) {
    CHECK(row.transfers > 0);
    CHECK(row.median_ns > 0);
    CHECK(row.p99_ns >= row.median_ns);
    CHECK(row.sent_per_s > 0);
    CHECK(row.read_per_s > 0);
  }
  CHECK(reply->path.starts_with("local "));
  ends.Stop();
  CHECK(ends.slabs->BytesInUse() == 0);
}

TEST_CASE("an echo gives away nothing that was in its memory, and no more than one piece") {
  Ends ends;
  {
    auto used = ends.slabs->Allocate(kPieceBytesMax, kSecond);
    REQUIRE(used.ok());
    std::fill_n(used->data(), used->size(), 's');
  }
  auto echo = [&](uint64_t bytes) {
    return CallFull<wire::Empty>(*ends.channel, wire::Method::kNetEcho,
                                 wire::NetEchoRequest{.reply_bytes = bytes});
  };
  auto reply = echo(kPieceBytesMax);
  REQUIRE(reply.ok());
  REQUIRE(reply->bulk.size() == kPieceBytesMax);
  CHECK(std::count(reply->bulk.data(), reply->bulk.data() + reply->bulk.size(), 's') == 0);
  CHECK(echo(kPieceBytesMax + 1).code() == Code::kTooLarge);
  CHECK(echo(UINT64_MAX).code() == Code::kTooLarge);
}

TEST_CASE("what cannot be measured is refused") {
  Ends ends;
  auto probe = [&](wire::NetProbeRequest q) {
    return ProbeNet(*ends.transport, *ends.slabs, q).code();
  };
  CHECK(probe({}) == Code::kInvalidArgument);
  CHECK(probe({.address = ends.world.Address("daemon"), .bytes_max = UINT64_MAX}) ==
        Code::kInvalidArgument);
  CHECK(probe({.address = ends.world.Address("daemon"), .milliseconds = 60'000}) ==
        Code::kInvalidArgument);
  CHECK(probe({.address = ends.world.Address("nobody")}) == Code::kUnavailable);
}

}  // namespace
}  // namespace perigee::rdma
