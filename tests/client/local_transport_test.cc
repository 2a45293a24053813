// Blobs and burst files over a real Unix socket: what the fakes of the other tests cannot show.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

#include "blob_fixture.h"
#include "client/blob/remote_cluster.h"
#include "client/buffer/burst_session.h"
#include "rdma/rpc.h"

using namespace perigee;
using namespace perigee::client;
using rdma::Access;
using rdma::Context;
using wire::Method;

namespace {

constexpr char kSecret[] = "0123456789abcdef0123456789abcdef";

struct TempDir {
  TempDir() { REQUIRE(mkdtemp(path)); }
  ~TempDir() {
    ::unlink((std::string(path) + "/s").c_str());
    ::rmdir(path);
  }
  std::string address() const { return std::string("local:") + path + "/s"; }
  char path[32] = "/tmp/perigee-client-XXXXXX";
};

struct Side {
  explicit Side(uint64_t node) {
    rdma::TransportOptions options;
    options.cluster_secret = kSecret;
    options.node_id = node;
    options.role = rdma::Role::kNode;
    auto made = rdma::SlabPool::Create({.bytes_max = 96 << 20});
    REQUIRE(made.ok());
    slabs = options.pool = *made;
    auto created = rdma::CreateLocalTransport(std::move(options));
    REQUIRE(created.ok());
    transport = std::move(*created);
  }
  std::shared_ptr<rdma::SlabPool> slabs;
  std::unique_ptr<rdma::Transport> transport;
};

// The reply of a handler that has its Status only.
Result<wire::Empty> Done(Status st) {
  if (!st.ok()) return st;
  return wire::Empty{};
}

}  // namespace

TEST_CASE("an object is written and read through a socket, without and with lost drives") {
  TempDir dir;
  Side server(1), client(2);
  FakeCluster fake(server.slabs);
  uint32_t volume = fake.AddVolume(4, 2);
  auto serving = CreateThreadPool({.name = "objectd", .threads = 4});
  auto router = std::make_shared<rdma::Router>();
  router->Add<wire::Empty>(Method::kVolumeMap, Access::kNodesOnly, serving.get(),
                           [&](Context&, wire::Empty) -> Result<wire::VolumeMapReply> {
                             PERIGEE_ASSIGN(auto map, fake.Map(0));
                             wire::VolumeMapReply reply;
                             reply.epoch = map->epoch;
                             reply.volumes = map->volumes;
                             reply.drives = map->drives;
                             return reply;
                           });
  router->Add<wire::LeaseRequest>(Method::kVolumeLease, Access::kNodesOnly, serving.get(),
                                  [&](Context&, wire::LeaseRequest q) { return fake.Lease(q); });
  router->Add<wire::ShardWriteRequest>(
      Method::kShardWrite, Access::kNodesOnly, serving.get(),
      [&](Context& ctx, wire::ShardWriteRequest q) {
        return Done(fake.WriteShard(q.drive_id, q.shard, ctx.bulk.span()));
      });
  router->Add<wire::ShardReadRequest>(
      Method::kShardRead, Access::kNodesOnly, serving.get(),
      [&](Context& ctx, wire::ShardReadRequest q) -> Result<wire::ShardReadReply> {
        PERIGEE_ASSIGN(ShardData data, fake.ReadShard(q));
        ctx.reply_bulk = std::move(data.bytes);
        wire::ShardReadReply reply;
        reply.shard = std::move(data.header);
        return reply;
      });
  auto listener = server.transport->Listen(dir.address(), router);
  REQUIRE(listener.ok());

  RemoteCluster::Options options;
  options.objectd_address = dir.address();
  auto shard_pool = CreateThreadPool({.name = "shards", .threads = 4});
  auto cluster =
      RemoteCluster::Create({client.transport.get(), nullptr, &shard_pool->clock()}, options);
  REQUIRE(cluster.ok());
  BlobIoDeps deps{cluster->get(), shard_pool.get(), client.slabs, nullptr, &shard_pool->clock(), 2};

  std::vector<uint8_t> data = RandomBytes((16 << 20) + 1'234'567);
  auto writer = BlobWriter::Create(deps, {.size_hint = data.size()});
  REQUIRE(writer->Append(data).ok());
  auto object = writer->Finish();
  REQUIRE(object.ok());
  CHECK(fake.shards_.size() == 12);

  auto reader = BlobReader::Create(deps);
  std::vector<uint8_t> out(data.size());
  Status read = reader->Read(BlobFixture::LayoutOf(*object), object->bytes, 0, out);
  CHECK(read.ToString() == "ok");
  CHECK(out == data);

  for (uint32_t i : {0u, 3u}) {
    fake.LoseDrive(fake.DriveOf(volume, i), wire::DriveState::kLost,
                   FakeCluster::Notice::kRecorded);
  }
  std::fill(out.begin(), out.end(), 0);
  read = reader->Read(BlobFixture::LayoutOf(*object), object->bytes, 0, out);
  CHECK(read.ToString() == "ok");
  CHECK(out == data);

  reader.reset();
  writer.reset();
  shard_pool->Stop();
  cluster->reset();
  (*listener)->Stop();
  serving->Stop();
}

TEST_CASE("a session gets the burst file's own descriptor through the socket") {
  TempDir dir;
  Side server(1);
  std::string file = std::string(dir.path) + "/s.data";
  auto serving = CreateThreadPool({.name = "bufferd", .threads = 2});
  auto router = std::make_shared<rdma::Router>();
  router->Add<wire::BurstOpenRequest>(
      Method::kBurstOpen, Access::kAnyone, serving.get(),
      [&](Context& ctx, wire::BurstOpenRequest q) -> Result<wire::BurstOpenReply> {
        int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) return Status::FromErrno(errno, "open");
        ctx.reply_fds.push_back(rdma::OwnedFd(fd));
        wire::BurstOpenReply reply;
        reply.handle = 3;
        reply.record.id = q.id;
        return reply;
      });
  router->Add<wire::BurstHandleRequest>(
      Method::kBurstPublish, Access::kAnyone, serving.get(),
      [&](Context&, wire::BurstHandleRequest q) -> Result<wire::BurstStatReply> {
        if (q.handle != 3) return Status(Code::kStale, "no such handle");
        wire::BurstStatReply reply;
        reply.size = 5;
        return reply;
      });
  auto listener = server.transport->Listen(dir.address(), router);
  REQUIRE(listener.ok());
  {
    auto session = BurstSession::Connect(std::string(dir.path) + "/s");
    REQUIRE(session.ok());
    wire::BurstOpenRequest q;
    q.id = 12;
    auto opened = (*session)->Open(q);
    REQUIRE(opened.ok());
    CHECK(::pwrite(opened->fd.get(), "hello", 5, 0) == 5);
    auto published = (*session)->Publish(opened->handle);
    REQUIRE(published.ok());
    CHECK(published->size == 5);
  }
  char back[5];
  int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  CHECK(::read(fd, back, 5) == 5);
  CHECK(std::string_view(back, 5) == "hello");
  ::close(fd);
  ::unlink(file.c_str());
  (*listener)->Stop();
  serving->Stop();
}
