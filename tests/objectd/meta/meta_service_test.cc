// The calls through a router, without a transport.

#include "objectd/meta/meta_service.h"

#include <cstring>

#include "tests/objectd/meta/fixture.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

namespace {

struct Outcome {
  Status status;
  std::string header, bulk;
  int answers = 0;
};

class DirectCall final : public rdma::ServerCall {
 public:
  DirectCall(wire::Method method, std::string header, rdma::Piece bulk, rdma::Peer peer,
             Outcome* out)
      : method_(method),
        header_(std::move(header)),
        bulk_(std::move(bulk)),
        peer_(std::move(peer)),
        out_(out) {}
  wire::Method method() const override { return method_; }
  const rdma::Peer& peer() const override { return peer_; }
  std::string_view header() const override { return header_; }
  rdma::Piece& bulk() override { return bulk_; }
  Nanos deadline() const override { return INT64_MAX; }
  void Reply(rdma::Payload payload) override {
    ++out_->answers;
    out_->header = payload.header;
    if (payload.bulk) out_->bulk.assign(AsView(payload.bulk.span()));
  }
  void Fail(const Status& status) override {
    ++out_->answers;
    out_->status = status;
  }

 private:
  wire::Method method_;
  std::string header_;
  rdma::Piece bulk_;
  rdma::Peer peer_;
  Outcome* out_;
};

struct Service : Fixture {
  Service() : nodes(*store), slabs(Must(rdma::SlabPool::Create({.bytes_max = 16 << 20}))) {
    RegisterMetaService(
        router, *ns, nullptr,
        {.space =
             [] {
               return Result<MetaServiceDeps::Space>(MetaServiceDeps::Space{1000, 400});
             },
         .nodes = &nodes,
         .cluster_id = 77,
         .slabs = slabs});
  }
  template <class Request>
  Outcome Send(wire::Method method, const Request& q, std::string bulk = "",
               rdma::Peer peer = {.role = rdma::Role::kNode, .node_id = 5}) {
    Outcome out;
    rdma::Piece piece;
    if (!bulk.empty()) {
      piece = Must(slabs->Allocate(bulk.size(), kSecond));
      std::memcpy(piece.data(), bulk.data(), bulk.size());
    }
    router.OnCall(std::make_unique<DirectCall>(method, wire::Encode(q), std::move(piece),
                                               std::move(peer), &out));
    CHECK(out.answers == 1);
    return out;
  }
  template <class Reply, class Request>
  Reply Call(wire::Method method, const Request& q, std::string bulk = "") {
    Outcome out = Send(method, q, std::move(bulk));
    Must(out.status);
    last_bulk = out.bulk;
    return Must(wire::Decode<Reply>(out.header));
  }
  NodeTable nodes;
  std::shared_ptr<rdma::SlabPool> slabs;
  rdma::Router router;
  std::string last_bulk;
};

}  // namespace

TEST_CASE_FIXTURE(Service, "a file's whole life goes through the calls") {
  using enum wire::Method;
  auto bucket =
      Call<wire::RecordReply>(kMetaCreateBucket, wire::CreateBucketRequest{.name = "bucket"});
  auto dir = Call<wire::RecordReply>(kMetaMkdir, Make(bucket.record.id, "d"));
  wire::MakeRequest create = Make(dir.record.id, "f");
  create.writer = wire::WriterInfo{.node = 5, .burst = 9};
  auto f = Call<wire::RecordReply>(kMetaCreate, create).record;
  Call<wire::RecordReply>(
      kMetaPublish,
      wire::PublishRequest{
          .id = f.id, .node = 5, .burst = 9, .generation = 1, .size = 5, .has_inline = true},
      "bytes");
  CHECK(Call<wire::RecordReply>(kMetaLookup, wire::LookupRequest{.path = "bucket/d/f"})
            .record.committed->size == 5);
  Call<wire::Empty>(kMetaReadInline, wire::ReadInlineRequest{.id = f.id, .generation = 1});
  CHECK(last_bulk == "bytes");
  CHECK(Call<wire::ReadDirReply>(kMetaReadDir, wire::ReadDirRequest{.dir = dir.record.id})
            .items.size() == 1);
  uint64_t instance = Call<wire::SyncReply>(kMetaSync, wire::Empty{}).instance;
  CHECK(instance != 0);
  CHECK(Call<wire::SyncReply>(kMetaSync, wire::Empty{}).instance == instance);
  auto fs = Call<wire::StatFsReply>(kMetaStatFs, wire::Empty{});
  CHECK(fs.total_bytes == 1000);
  CHECK(fs.free_bytes == 400);
  CHECK(fs.files == 1);
  CHECK(fs.inline_bytes_max == 16384);
  Call<wire::RecordReply>(kMetaUnlink, wire::RemoveRequest{.parent = dir.record.id, .name = "f"});
  CHECK(Send(kMetaGetAttr, wire::GetAttrRequest{.id = f.id}).status.Is(Code::kStale));
  auto feed =
      Call<wire::FeedReply>(kMetaFeed, wire::FeedRequest{.wait_ms = 60'000, .released_for = 5});
  CHECK(feed.changes.size() == 2);  // the burst file, and the name
  // Without a pool of its own the feed never waits.
  CHECK(Call<wire::FeedReply>(kMetaFeed, wire::FeedRequest{.after = feed.next, .wait_ms = 60'000})
            .changes.empty());
}

TEST_CASE_FIXTURE(Service,
                  "every call of the namespace is served, to nodes only, and refuses garbage") {
  for (int m = static_cast<int>(wire::Method::kMetaLookup);
       m <= static_cast<int>(wire::Method::kMetaCreateBucket); ++m) {
    auto method = static_cast<wire::Method>(m);
    if (method == wire::Method::kMetaGetExtents) continue;  // the volumes'
    INFO("method " << m);
    Outcome out;
    rdma::Peer user{.role = rdma::Role::kUser, .uid = 12345, .provider = "sim"};
    router.OnCall(std::make_unique<DirectCall>(method, "", rdma::Piece(), user, &out));
    CHECK(out.status.Is(Code::kPermissionDenied));
    out = {};
    rdma::Peer node{.role = rdma::Role::kNode, .node_id = 5};
    router.OnCall(std::make_unique<DirectCall>(method, "\xff\xff\xff", rdma::Piece(), node, &out));
    CHECK(out.status.Is(Code::kCorrupt));
  }
}

TEST_CASE_FIXTURE(Service, "nodes register under their own id, and are known after a crash") {
  using enum wire::Method;
  auto reply = Call<wire::RegisterNodeReply>(
      kMetaRegisterNode, wire::RegisterNodeRequest{.node = 5, .address = "tls:a:1"});
  CHECK(reply.cluster_id == 77);
  CHECK(reply.inline_bytes_max == 16384);
  store->Crash();
  CHECK(Must(nodes.Find(5)).address == "tls:a:1");
  CHECK(nodes.Find(6).code() == Code::kNotFound);
  CHECK(Send(kMetaRegisterNode, wire::RegisterNodeRequest{.node = 6, .address = "x"})
            .status.Is(Code::kPermissionDenied));
  CHECK(Send(kMetaRegisterNode, wire::RegisterNodeRequest{.node = 5})
            .status.Is(Code::kInvalidArgument));
  Must(nodes.Register({.node = 5,
                       .address = "local:b",
                       .name = "five",
                       .doors = {.machine = "m", .network = {"tls:b:2"}}}));
  auto all = Must(nodes.All());
  REQUIRE(all.size() == 1);
  CHECK(all[0].address == "local:b");
  auto found = Call<wire::GetNodeReply>(kMetaGetNode, wire::GetNodeRequest{.node = 5});
  CHECK(found.address == "local:b");
  CHECK(found.doors.machine == "m");
  CHECK(found.doors.network == std::vector<std::string>{"tls:b:2"});
  CHECK(Send(kMetaGetNode, wire::GetNodeRequest{.node = 6}).status.Is(Code::kNotFound));
}

TEST_CASE_FIXTURE(Service, "reserved ids are never given again, also after a crash") {
  using enum wire::Method;
  auto first = Call<wire::ReserveIdsReply>(kMetaReserveIds, wire::ReserveIdsRequest{.count = 100});
  store->Crash();
  auto again = Must(Namespace::Create(*store, clock, *registry, {}));
  auto second = Must(again->ReserveIds({.count = 100}));
  CHECK((second.first >= first.first + 100 || second.first + 100 <= first.first));
  CHECK(first.first > wire::kRootId);
  CHECK(ns->ReserveIds({.count = 0}).code() == Code::kInvalidArgument);
  CHECK(Send(kMetaReserveIds, wire::ReserveIdsRequest{.count = 1u << 30})
            .status.Is(Code::kInvalidArgument));
}
