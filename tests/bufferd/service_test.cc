// The RPC door: who may do what, handles and their connections, forwarded namespace calls.

#include "bufferd/burst_service.h"
#include "bufferd/forward.h"
#include "world.h"

using namespace perigee;
using namespace perigee::bufferd;
using wire::Method;

namespace {

struct Answer {
  Status status;
  rdma::Payload payload;
  bool done = false;
};

class FakeCall final : public rdma::ServerCall {
 public:
  FakeCall(Method method, rdma::Peer peer, std::string header, Nanos deadline,
           std::shared_ptr<Answer> answer)
      : method_(method),
        peer_(std::move(peer)),
        header_(std::move(header)),
        deadline_(deadline),
        answer_(std::move(answer)) {}
  Method method() const override { return method_; }
  const rdma::Peer& peer() const override { return peer_; }
  std::string_view header() const override { return header_; }
  rdma::Piece& bulk() override { return bulk_; }
  Nanos deadline() const override { return deadline_; }
  void Reply(rdma::Payload payload) override {
    answer_->payload = std::move(payload);
    answer_->done = true;
  }
  void Fail(const Status& status) override {
    answer_->status = status;
    answer_->status.Ignore();
    answer_->done = true;
  }

 private:
  Method method_;
  rdma::Peer peer_;
  std::string header_;
  Nanos deadline_;
  std::shared_ptr<Answer> answer_;
  rdma::Piece bulk_;
};

struct Door {
  World w;
  std::shared_ptr<rdma::SlabPool> slabs = *rdma::SlabPool::Create({.bytes_max = 32 << 20});
  std::unique_ptr<BurstService> service;
  std::unique_ptr<Forward> forward;
  rdma::Router router;

  Door() {
    Scheduler* s = w.sched.get();
    service = std::make_unique<BurstService>(
        *w.engine, slabs, ServicePools{.client = s, .slow = s, .peer = s, .watch = s, .told = s});
    service->Register(&router, [](wire::BufferdStatusReply*) {});
    forward = std::make_unique<Forward>(*w.engine, *w.meta);
    forward->Register(&router, s);
  }
  static rdma::Peer Root(uint64_t connection = 1) {
    return {.role = rdma::Role::kNode, .connection = connection};
  }
  static rdma::Peer User(uint32_t uid, uint64_t connection = 2) {
    return {.role = rdma::Role::kUser,
            .uid = uid,
            .gid = uid,
            .provider = "local",
            .connection = connection};
  }
  template <class Reply, class Request>
  Result<Reply> Call(const rdma::Peer& peer, Method method, const Request& q,
                     std::vector<rdma::OwnedFd>* fds = nullptr) {
    auto answer = std::make_shared<Answer>();
    router.OnCall(std::make_unique<FakeCall>(method, peer, wire::Encode(q), w.Soon(), answer));
    (void)w.sched->RunUntil([&] { return answer->done; });
    if (!answer->status.ok()) return answer->status;
    if (fds) *fds = std::move(answer->payload.fds);
    return wire::Decode<Reply>(answer->payload.header);
  }
};

}  // namespace

TEST_CASE("create hands out a descriptor, publish makes it visible, release ends it") {
  Door d;
  std::vector<rdma::OwnedFd> fds;
  auto made = d.Call<wire::BurstOpenReply>(
      Door::Root(), Method::kBurstCreate,
      wire::BurstCreateRequest{.parent = wire::kRootId, .name = "a", .want_writable_fd = true},
      &fds);
  REQUIRE(made.ok());
  REQUIRE(fds.size() == 1);
  REQUIRE(::pwrite(fds[0].get(), "hello", 5, 0) == 5);
  fds.clear();
  auto stat = d.Call<wire::BurstStatReply>(Door::Root(), Method::kBurstPublish,
                                           wire::BurstHandleRequest{.handle = made->handle});
  REQUIRE(stat.ok());
  CHECK(stat->size == 5);
  CHECK(stat->generation == 1);
  CHECK(d.w.objectd->InlineOf(made->record.id, 1) == "hello");
  REQUIRE(d.Call<wire::BurstStatReply>(Door::Root(), Method::kBurstRelease,
                                       wire::BurstHandleRequest{.handle = made->handle})
              .ok());
  CHECK(d.Call<wire::BurstStatReply>(Door::Root(), Method::kBurstRelease,
                                     wire::BurstHandleRequest{.handle = made->handle})
            .code() == Code::kStale);
}

TEST_CASE("without asking for a writable descriptor even a writer gets a read-only one") {
  Door d;
  std::vector<rdma::OwnedFd> fds;
  REQUIRE(d.Call<wire::BurstOpenReply>(
               Door::Root(), Method::kBurstCreate,
               wire::BurstCreateRequest{.parent = wire::kRootId, .name = "a"}, &fds)
              .ok());
  CHECK(::write(fds[0].get(), "x", 1) == -1);
}

TEST_CASE("a file whose opener no longer waits is given back, not open for good") {
  Door d;
  d.w.objectd->before = [](Method m) {
    Event never;
    if (m == Method::kMetaCreate) never.WaitFor(60 * kSecond);
  };
  auto made = d.Call<wire::BurstOpenReply>(
      Door::Root(), Method::kBurstCreate,
      wire::BurstCreateRequest{.parent = wire::kRootId, .name = "a"});
  CHECK(made.code() == Code::kDeadlineExceeded);
  CHECK(d.service->open_handles() == 0);
  FilePtr file = d.w.Current(d.w.objectd->IdOf("a"));
  REQUIRE(file);
  CHECK(file->writers == 0);
  CHECK(file->readers == 0);
}

TEST_CASE("a handle belongs to its connection and ends with it") {
  Door d;
  auto made =
      d.Call<wire::BurstOpenReply>(Door::Root(5), Method::kBurstCreate,
                                   wire::BurstCreateRequest{.parent = wire::kRootId, .name = "a"});
  REQUIRE(made.ok());
  CHECK(d.Call<wire::BurstStatReply>(Door::Root(6), Method::kBurstPublish,
                                     wire::BurstHandleRequest{.handle = made->handle})
            .code() == Code::kStale);
  CHECK(d.service->open_handles() == 1);
  d.router.OnDisconnect(Door::Root(5));
  d.w.Settle();
  CHECK(d.service->open_handles() == 0);
  CHECK(!d.w.objectd->Get(made->record.id).writer);
  // An open that was still under way for it is refused, not leaked.
  CHECK(d.Call<wire::BurstOpenReply>(Door::Root(5), Method::kBurstOpen,
                                     wire::BurstOpenRequest{.id = made->record.id})
            .code() == Code::kCancelled);
}

TEST_CASE("a user acts as himself whatever he claims") {
  Door d;
  auto id = d.w.Save("a", "x");
  d.w.objectd->SetMode(id, 0600, 0);
  wire::BurstOpenRequest open{.id = id};
  CHECK(d.Call<wire::BurstOpenReply>(Door::User(54321), Method::kBurstOpen, open).code() ==
        Code::kPermissionDenied);
  CHECK(d.Call<wire::BurstOpenReply>(Door::Root(), Method::kBurstOpen, open).ok());
  auto made = d.Call<wire::BurstOpenReply>(
      Door::User(54321), Method::kBurstCreate,
      wire::BurstCreateRequest{.parent = wire::kRootId, .name = "b", .uid = 0, .gid = 0});
  REQUIRE(made.ok());
  CHECK(d.w.objectd->Get(made->record.id).uid == 54321);
  auto dir = d.Call<wire::RecordReply>(Door::User(54321), Method::kMetaMkdir,
                                       wire::MakeRequest{.parent = wire::kRootId, .name = "d"});
  REQUIRE(dir.ok());
  CHECK(dir->record.uid == 54321);
}

TEST_CASE("users may not evict, pin, hold, watch, read as a node, or touch everything at once") {
  Door d;
  auto user = Door::User(54321);
  for (Method m : {Method::kBurstEvict, Method::kBurstPin, Method::kBurstHold, Method::kBurstFlush,
                   Method::kBurstWarm}) {
    CHECK(d.Call<wire::BurstBatchReply>(user, m, wire::BurstTarget{}).code() ==
          Code::kPermissionDenied);
  }
  CHECK(
      d.Call<wire::BurstWatchReply>(user, Method::kBurstWatch, wire::BurstWatchRequest{}).code() ==
      Code::kPermissionDenied);
  CHECK(d.Call<wire::Empty>(user, Method::kBurstRead, wire::BurstReadRequest{}).code() ==
        Code::kPermissionDenied);
  CHECK(d.Call<wire::Empty>(user, Method::kBurstSync, wire::BurstTarget{.id = 1}).code() ==
        Code::kPermissionDenied);
  CHECK(d.Call<wire::Empty>(user, Method::kMetaReadInline, wire::ReadInlineRequest{}).code() ==
        Code::kPermissionDenied);
  CHECK(d.Call<wire::RecordReply>(user, Method::kMetaPublish, wire::PublishRequest{}).code() ==
        Code::kUnimplemented);
}

TEST_CASE("an unlink through this node frees the file's copy at once") {
  Door d;
  auto id = d.w.Save("a", "x");
  d.w.Settle();
  REQUIRE(d.w.StateOf(id) == wire::BurstState::kClean);
  REQUIRE(d.Call<wire::RecordReply>(Door::Root(), Method::kMetaUnlink,
                                    wire::RemoveRequest{.parent = wire::kRootId, .name = "a"})
              .ok());
  d.w.RunFor(kMillisecond);  // removed beside
  CHECK(d.w.FilesOnDisk() == 0);
}

TEST_CASE("a malformed request is refused, and so is an unknown handle") {
  Door d;
  CHECK(d.Call<wire::BurstOpenReply>(Door::Root(), Method::kBurstOpen, wire::BurstOpenRequest{})
            .code() == Code::kInvalidArgument);
  CHECK(d.Call<wire::BurstOpenReply>(Door::Root(), Method::kBurstCreate, wire::BurstCreateRequest{})
            .code() == Code::kInvalidArgument);
  CHECK(
      d.Call<wire::Empty>(Door::Root(), Method::kBurstEnsure, wire::BurstEnsureRequest{.handle = 1})
          .code() == Code::kStale);
  CHECK(d.Call<wire::Empty>(Door::Root(), Method::kBurstRead,
                            wire::BurstReadRequest{.length = 1 << 30})
            .code() == Code::kTooLarge);
}

TEST_CASE("a watch begins at now and then tells what changed") {
  Door d;
  auto first =
      d.Call<wire::BurstWatchReply>(Door::Root(), Method::kBurstWatch, wire::BurstWatchRequest{});
  REQUIRE(first.ok());
  CHECK(first->changes.empty());
  CHECK(!first->resync);
}
