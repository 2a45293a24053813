#include "client/buffer/burst_session.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <map>
#include <set>

#include "base/scheduler.h"
#include "fake_channel.h"

using namespace perigee;
using namespace perigee::client;
using wire::Method;

namespace {

// A bufferd that can be killed and started again: its handles are small numbers of one connection,
// given out from 1 after each start.
struct Bufferd {
  std::shared_ptr<FakeChannel> channel =
      std::make_shared<FakeChannel>([this](const FakeChannel::Seen& s) { return Answer(s); });

  void Kill() {
    up = false;
    notices ? void(channel->healthy = false) : void();
    open.clear();
    next = 1;
  }
  Result<rdma::Payload> Answer(const FakeChannel::Seen& s) {
    if (starts_after > 0 && --starts_after == 0) up = true;
    if (!up) {
      channel->healthy = false;
      return Status(Code::kUnavailable, "connection refused");
    }
    channel->healthy = true;
    ++calls[s.method];
    switch (s.method) {
      case Method::kPing:
        return Status(Code::kUnimplemented, "ping");
      case Method::kBurstOpen: {
        auto q = *wire::Decode<wire::BurstOpenRequest>(s.header);
        last_open = q;
        if (q.expect_burst != 0 && q.expect_burst != BurstOf(q.id))
          return Status(Code::kStale, "replaced");
        return Opened(q.id ? q.id : 50);
      }
      case Method::kBurstCreate:
        return Opened(60);
      case Method::kBurstRelease: {
        auto q = *wire::Decode<wire::BurstHandleRequest>(s.header);
        return open.erase(q.handle) ? ReplyWith(wire::BurstStatReply{}) : Unknown();
      }
      case Method::kBurstPublish:
      case Method::kBurstFsync: {
        auto q = *wire::Decode<wire::BurstHandleRequest>(s.header);
        if (!open.contains(q.handle)) return Unknown();
        if (answer != Code::kOk) return Status(answer, "as the test wants");
        wire::BurstStatReply reply;
        reply.id = open[q.handle];
        return ReplyWith(reply);
      }
      case Method::kBurstWrite: {
        auto q = *wire::Decode<wire::BurstWriteRequest>(s.header);
        if (!open.contains(q.handle)) return Unknown();
        written[q.offset] = s.bulk.size();
        return ReplyWith(wire::Empty{});
      }
      default:
        return ReplyWith(wire::Empty{});
    }
  }
  Result<rdma::Payload> Unknown() { return Status(Code::kStale, "no such handle"); }
  wire::BurstId BurstOf(wire::FileId id) { return id + 1000 + replaced; }
  Result<rdma::Payload> Opened(wire::FileId id) {
    wire::BurstOpenReply reply;
    reply.handle = next++;
    open[reply.handle] = id;
    reply.burst = BurstOf(id);
    reply.record.id = id;
    reply.size = 123;
    auto payload = ReplyWith(reply);
    if (send_fd) payload->fds.push_back(rdma::OwnedFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)));
    return payload;
  }

  bool up = true, send_fd = true, notices = true;
  int starts_after = 0;
  uint64_t next = 1, replaced = 0;
  Code answer = Code::kOk;
  std::map<uint64_t, wire::FileId> open;
  std::map<Method, int> calls;
  std::map<uint64_t, size_t> written;
  wire::BurstOpenRequest last_open;
};

// Runs as a task in manual time: waiting for a bufferd that is away costs nothing.
struct Fixture {
  Bufferd bufferd;
  std::unique_ptr<BurstSession> session = BurstSession::Over(bufferd.channel);
  std::unique_ptr<ManualScheduler> scheduler = ManualScheduler::Create(1);
  void Run(std::function<void()> fn) {
    bool done = false;
    REQUIRE(scheduler
                ->Post([&] {
                  fn();
                  done = true;
                })
                .ok());
    scheduler->RunUntil([&] { return done; });
    REQUIRE(done);
  }
  wire::BurstOpenRequest ById(wire::FileId id) {
    wire::BurstOpenRequest q;
    q.id = id;
    q.access = wire::Access::kWrite;
    q.truncate = true;
    return q;
  }
};

}  // namespace

TEST_CASE("opening gives a descriptor and the state of the file") {
  Fixture f;
  auto opened = f.session->Open(f.ById(7));
  REQUIRE(opened.ok());
  CHECK(opened->fd.get() >= 0);
  CHECK(opened->burst == 1007);
  CHECK(opened->record.id == 7);
  CHECK(opened->size == 123);
  CHECK(f.session->Publish(opened->handle)->id == 7);
  CHECK(f.session->Release(opened->handle).ok());
  CHECK(f.bufferd.open.empty());
  CHECK(f.session->Release(opened->handle).Is(Code::kStale));
  CHECK(f.session->Publish(opened->handle).code() == Code::kStale);
}

TEST_CASE("an open without a descriptor is an error") {
  Fixture f;
  f.bufferd.send_fd = false;
  CHECK(f.session->Open(f.ById(7)).code() == Code::kInternal);
}

TEST_CASE("handles survive a bufferd that was killed and comes back") {
  Fixture f;
  auto a = f.session->Open(f.ById(7)), b = f.session->Open(f.ById(8));
  REQUIRE((a.ok() && b.ok()));
  for (bool notices : {true, false}) {
    CAPTURE(notices);
    f.bufferd.notices = notices;
    f.bufferd.Kill();
    f.bufferd.starts_after = 5;
    Code first = Code::kOk;
    wire::FileId id_a = 0, id_b = 0;
    f.Run([&] {
      // The other order than that of opening: old numbers would name each other's files.
      auto published = f.session->Publish(b->handle);
      first = published.code();
      if (published.ok()) id_b = published->id;
      auto other = f.session->Publish(a->handle);
      if (other.ok()) id_a = other->id;
    });
    CHECK(first == Code::kOk);
    CHECK(id_b == 8);
    CHECK(id_a == 7);
    CHECK(f.bufferd.open.size() == 2);
    CHECK(f.bufferd.last_open.expect_burst == 1007);
    CHECK(!f.bufferd.last_open.truncate);
    CHECK(f.bufferd.last_open.access == wire::Access::kWrite);
  }
}

TEST_CASE("a restart that nobody noticed never mixes up two files") {
  Fixture f;
  f.bufferd.notices = false;
  auto a = f.session->Open(f.ById(7));
  REQUIRE(a.ok());
  f.bufferd.Kill();
  f.bufferd.up = true;                  // back before anybody called
  auto c = f.session->Open(f.ById(9));  // is given the number that 7 had
  REQUIRE(c.ok());
  CHECK(f.session->Publish(a->handle)->id == 7);
  CHECK(f.session->Publish(c->handle)->id == 9);
}

TEST_CASE("a loss that is noted late, on the next connection, leaves no handle open") {
  Fixture f;
  auto a = f.session->Open(f.ById(7)), b = f.session->Open(f.ById(8));
  REQUIRE((a.ok() && b.ok()));
  f.bufferd.channel->healthy = false;  // as another thread saw it before the two were opened
  f.Run([&] { CHECK(f.session->Publish(a->handle).ok()); });
  CHECK(f.bufferd.open.size() == 2);
  CHECK(f.session->Release(a->handle).ok());
  CHECK(f.session->Release(b->handle).ok());
  CHECK(f.bufferd.open.empty());
}

TEST_CASE("a file whose burst file was replaced meanwhile is stale") {
  Fixture f;
  auto a = f.session->Open(f.ById(7));
  REQUIRE(a.ok());
  f.bufferd.Kill();
  f.bufferd.up = true;
  f.bufferd.replaced = 1;
  CHECK(f.session->Publish(a->handle).code() == Code::kStale);
  CHECK(f.session->Release(a->handle).ok());
}

TEST_CASE("a bufferd that stays away is reported after a bounded wait") {
  Fixture f;
  auto a = f.session->Open(f.ById(7));
  REQUIRE(a.ok());
  f.bufferd.Kill();
  std::vector<Code> codes;
  Nanos before = f.scheduler->clock().Monotonic();
  f.Run([&] {
    codes.push_back(f.session->Publish(a->handle).code());
    codes.push_back(f.session->Stat({}).code());
    codes.push_back(f.session->Create({}).code());
  });
  CHECK(codes == std::vector<Code>{Code::kUnavailable, Code::kUnavailable, Code::kUnavailable});
  CHECK(f.scheduler->clock().Monotonic() - before < 60 * kSecond);
  CHECK(f.session->Release(a->handle).ok());  // the connection took it along
}

TEST_CASE("bufferd's own answer that something is away is passed on, without opening again") {
  Fixture f;
  auto a = f.session->Open(f.ById(7));
  REQUIRE(a.ok());
  f.bufferd.answer = Code::kUnavailable;
  CHECK(f.session->Fsync(a->handle, wire::Durability::kObject).code() == Code::kUnavailable);
  CHECK(f.bufferd.calls[Method::kBurstOpen] == 1);
  f.bufferd.answer = Code::kNoSpace;
  CHECK(f.session->Fsync(a->handle, wire::Durability::kLocal).code() == Code::kNoSpace);
  CHECK(f.bufferd.open.size() == 1);
}

TEST_CASE("a refused handle is opened again once, and the old one is not left open") {
  Fixture f;
  auto a = f.session->Open(f.ById(7));
  REQUIRE(a.ok());
  f.bufferd.answer = Code::kStale;
  CHECK(f.session->Publish(a->handle).code() == Code::kStale);
  CHECK(f.bufferd.calls[Method::kBurstOpen] == 2);
  CHECK(f.bufferd.open.size() == 1);
}

TEST_CASE("create is sent once, even when its answer is lost") {
  Fixture f;
  f.bufferd.notices = false;
  f.bufferd.up = false;
  CHECK(f.session->Create({}).code() == Code::kUnavailable);
  CHECK(f.bufferd.channel->seen.size() == 1);
}

TEST_CASE("a create that is not exclusive is sent again once bufferd is back") {
  Fixture f;
  f.bufferd.Kill();
  f.bufferd.channel->healthy = true;  // nobody knows yet
  f.bufferd.starts_after = 3;
  f.Run([&] {
    wire::BurstCreateRequest q;
    CHECK(f.session->Create(q, BurstSession::Exclusive::kNo).ok());
    f.bufferd.Kill();
    f.bufferd.channel->healthy = true;
    f.bufferd.starts_after = 3;
    CHECK(f.session->Create(q).code() == Code::kUnavailable);
  });
}

TEST_CASE("long writes go in pieces at their offsets") {
  Fixture f;
  auto a = f.session->Open(f.ById(7));
  REQUIRE(a.ok());
  std::vector<uint8_t> data(rdma::kPieceBytesMax * 2 + 10);
  REQUIRE(f.session->Write(a->handle, 100, data).ok());
  CHECK(f.bufferd.written ==
        std::map<uint64_t, size_t>{{100, rdma::kPieceBytesMax},
                                   {100 + rdma::kPieceBytesMax, rdma::kPieceBytesMax},
                                   {100 + 2 * rdma::kPieceBytesMax, 10}});
}

TEST_CASE("batches reach their methods, and a wait has its time") {
  Fixture f;
  wire::BurstTarget target;
  target.wait = true;
  target.timeout_ms = 90'000;
  CHECK(f.session->Flush(target).ok());
  CHECK(f.bufferd.channel->seen.back().timeout > 90 * kSecond);
  CHECK(f.session->Evict({}).ok());
  CHECK(f.session->Warm({}).ok());
  CHECK(f.session->Pin({}).ok());
  CHECK(f.session->Hold({}).ok());
  CHECK(f.session->Stat({}).ok());
  CHECK(f.session->Watch({}).ok());
  CHECK(f.session->Read({}).ok());
  CHECK(f.session->BufferdStatus().ok());
  CHECK(f.session->TruncateFile(3, 10).ok());
  for (Method m : {Method::kBurstFlush, Method::kBurstEvict, Method::kBurstWarm, Method::kBurstPin,
                   Method::kBurstHold, Method::kBurstStat, Method::kBurstWatch, Method::kBurstRead,
                   Method::kControlBufferdStatus, Method::kBurstTruncate}) {
    CHECK(f.bufferd.calls[m] == 1);
  }
}
