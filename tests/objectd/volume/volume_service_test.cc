#include "objectd/volume/volume_service.h"

#include "tests/objectd/volume/volume_fixture.h"

namespace perigee::objectd {
namespace {

struct Answer {
  Status status;
  rdma::Payload payload;
  bool given = false;
};

class FakeCall final : public rdma::ServerCall {
 public:
  FakeCall(wire::Method method, rdma::Role role, std::string header, rdma::Piece bulk,
           Answer* answer)
      : method_(method), header_(std::move(header)), bulk_(std::move(bulk)), answer_(answer) {
    peer_.role = role;
    peer_.provider = "sim";
  }
  wire::Method method() const override { return method_; }
  const rdma::Peer& peer() const override { return peer_; }
  std::string_view header() const override { return header_; }
  rdma::Piece& bulk() override { return bulk_; }
  Nanos deadline() const override { return std::numeric_limits<Nanos>::max(); }
  void Reply(rdma::Payload payload) override {
    answer_->payload = std::move(payload);
    answer_->given = true;
  }
  void Fail(const Status& status) override {
    answer_->status = status;
    answer_->given = true;
  }

 private:
  wire::Method method_;
  rdma::Peer peer_;
  std::string header_;
  rdma::Piece bulk_;
  Answer* answer_;
};

struct Service {
  Service() { RegisterVolumeService(router, *v.manager, &v.scheduler(), &v.scheduler()); }
  template <class Request>
  Answer Call(wire::Method method, const Request& request, std::string_view bulk = "",
              rdma::Role role = rdma::Role::kNode) {
    rdma::Piece piece;
    if (!bulk.empty()) {
      auto got = v.slabs->Allocate(bulk.size(), kSecond);
      REQUIRE(got.ok());
      piece = std::move(*got);
      std::copy(bulk.begin(), bulk.end(), piece.data());
    }
    Answer answer;
    router.OnCall(
        std::make_unique<FakeCall>(method, role, wire::Encode(request), std::move(piece), &answer));
    REQUIRE(v.scheduler().RunUntil([&] { return answer.given; }));
    return answer;
  }
  template <class Reply>
  static Reply As(const Answer& answer) {
    REQUIRE_MESSAGE(answer.status.ok(), answer.status.ToString());
    auto reply = wire::Decode<Reply>(answer.payload.header);
    REQUIRE(reply.ok());
    return *reply;
  }
  TestVolumes v;
  rdma::Router router;
};

}  // namespace

TEST_CASE("map, lease, shards and extents work over the wire") {
  Service s;
  auto map = Service::As<wire::VolumeMapReply>(s.Call(wire::Method::kVolumeMap, wire::Empty{}));
  CHECK(map.volumes.size() == 6);
  CHECK(map.drives.size() == 6);
  wire::LeaseRequest want;
  want.count = 3;
  auto lease = Service::As<wire::LeaseReply>(s.Call(wire::Method::kVolumeLease, want));
  CHECK(lease.count == 3);

  wire::ShardWriteRequest write;
  write.drive_id = lease.volume.drives[0];
  write.shard.blob = wire::BlobId{lease.volume.volume, lease.first_seq};
  CHECK(s.Call(wire::Method::kShardWrite, write, "some bytes").status.ok());
  wire::ShardReadRequest read;
  read.drive_id = write.drive_id;
  read.blob = write.shard.blob;
  read.offset = 5;
  read.length = 5;
  Answer answer = s.Call(wire::Method::kShardRead, read);
  CHECK(Service::As<wire::ShardReadReply>(answer).shard.blob == write.shard.blob);
  CHECK(AsView(answer.payload.bulk.span()) == "bytes");

  wire::AddExtentsRequest add;
  add.extents.resize(1);
  add.extents[0].volume = lease.volume.volume;
  add.extents[0].first_seq = lease.first_seq;
  add.extents[0].count = 1;
  add.extents[0].length = 10;
  add.intents = {lease.intent};
  auto list = Service::As<wire::AddExtentsReply>(s.Call(wire::Method::kVolumeAddExtents, add));
  wire::GetExtentsRequest get;
  get.list_id = list.list_id;
  CHECK(Service::As<wire::GetExtentsReply>(s.Call(wire::Method::kMetaGetExtents, get))
            .extents.size() == 1);
}

TEST_CASE("wrong input is answered with its error, and users are refused") {
  Service s;
  wire::ShardReadRequest read;
  read.drive_id = 12345;
  CHECK(s.Call(wire::Method::kShardRead, read).status.Is(Code::kUnavailable));
  read.drive_id = s.v.drives->Slots()[0].drive_id;
  CHECK(s.Call(wire::Method::kShardRead, read).status.Is(Code::kNotFound));
  wire::AddExtentsRequest add;
  add.extents.resize(1);
  CHECK(s.Call(wire::Method::kVolumeAddExtents, add).status.Is(Code::kInvalidArgument));
  wire::VolumeReportRequest report;
  report.blob = wire::BlobId{777, 1};
  report.bad_shards = {1, 2, 3};
  CHECK(s.Call(wire::Method::kVolumeReport, report).status.ok());
  CHECK(s.Call(wire::Method::kVolumeLease, wire::LeaseRequest{}, "", rdma::Role::kUser)
            .status.Is(Code::kPermissionDenied));
}

}  // namespace perigee::objectd
