#include "client/meta/meta_client.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include "fake_channel.h"

using namespace perigee;
using namespace perigee::client;
using wire::Method;

namespace {

// Answers every call with an empty message, which every reply can be decoded from.
struct Server {
  std::shared_ptr<FakeChannel> channel =
      std::make_shared<FakeChannel>([this](const FakeChannel::Seen&) -> Result<rdma::Payload> {
        if (fail != Code::kOk) return Status(fail, "as the test wants");
        return ReplyWith(wire::Empty{});
      });
  MetaClient meta{channel};
  Code fail = Code::kOk;
  const FakeChannel::Seen& last() { return channel->seen.back(); }
};

}  // namespace

TEST_CASE("each call goes out under its own method") {
  Server s;
  auto sent = [&](bool ok, Method method) { return ok && s.last().method == method; };
  CHECK(sent(s.meta.Lookup({}).ok(), Method::kMetaLookup));
  CHECK(sent(s.meta.GetAttr({}).ok(), Method::kMetaGetAttr));
  CHECK(sent(s.meta.ReadDir({}).ok(), Method::kMetaReadDir));
  CHECK(sent(s.meta.Mkdir({}).ok(), Method::kMetaMkdir));
  CHECK(sent(s.meta.Rmdir({}).ok(), Method::kMetaRmdir));
  CHECK(sent(s.meta.Unlink({}).ok(), Method::kMetaUnlink));
  CHECK(sent(s.meta.Rename({}).ok(), Method::kMetaRename));
  CHECK(sent(s.meta.Symlink({}).ok(), Method::kMetaSymlink));
  CHECK(sent(s.meta.Link({}).ok(), Method::kMetaLink));
  CHECK(sent(s.meta.SetAttr({}).ok(), Method::kMetaSetAttr));
  CHECK(sent(s.meta.SetXattr({}).ok(), Method::kMetaSetXattr));
  CHECK(sent(s.meta.RemoveXattr({}).ok(), Method::kMetaRemoveXattr));
  CHECK(sent(s.meta.Create({}).ok(), Method::kMetaCreate));
  CHECK(sent(s.meta.OpenWrite({}).ok(), Method::kMetaOpenWrite));
  CHECK(sent(s.meta.Publish({}).ok(), Method::kMetaPublish));
  CHECK(sent(s.meta.EndWrite({}).ok(), Method::kMetaEndWrite));
  CHECK(sent(s.meta.EndWrites({}).ok(), Method::kMetaEndWrites));
  CHECK(sent(s.meta.ReclaimWriter({}).ok(), Method::kMetaReclaimWriter));
  CHECK(sent(s.meta.CommitFlush({}).ok(), Method::kMetaCommitFlush));
  CHECK(sent(s.meta.SetDurability({}).ok(), Method::kMetaSetDurability));
  CHECK(sent(s.meta.ReadInline({}).ok(), Method::kMetaReadInline));
  CHECK(sent(s.meta.StatFs().ok(), Method::kMetaStatFs));
  CHECK(sent(s.meta.ReserveIds({}).ok(), Method::kMetaReserveIds));
  CHECK(sent(s.meta.Feed({}).ok(), Method::kMetaFeed));
  CHECK(sent(s.meta.RegisterNode({}).ok(), Method::kMetaRegisterNode));
  CHECK(sent(s.meta.GetExtents({}).ok(), Method::kMetaGetExtents));
  CHECK(sent(s.meta.Mknod({}).ok(), Method::kMetaMknod));
  CHECK(sent(s.meta.Sync().ok(), Method::kMetaSync));
  CHECK(sent(s.meta.FallBack({}).ok(), Method::kMetaFallBack));
  CHECK(sent(s.meta.CreateBucket({}).ok(), Method::kMetaCreateBucket));
}

TEST_CASE("requests arrive whole, inline bytes beside them") {
  Server s;
  wire::PublishRequest q;
  q.id = 12;
  q.has_inline = true;
  REQUIRE(s.meta.Publish(q, AsBytes("tiny")).ok());
  CHECK(s.last().bulk == "tiny");
  CHECK(wire::Decode<wire::PublishRequest>(s.last().header)->id == 12);
}

TEST_CASE("a feed that waits has its wait on top of the deadline") {
  Server s;
  wire::FeedRequest q;
  REQUIRE(s.meta.Feed(q).ok());
  Nanos without = s.last().timeout;
  q.wait_ms = 5000;
  REQUIRE(s.meta.Feed(q).ok());
  CHECK(s.last().timeout == without + 5 * kSecond);
}

TEST_CASE("errors come through as they are, and nothing is repeated") {
  Server s;
  s.fail = Code::kUnavailable;
  CHECK(s.meta.Mkdir({}).code() == Code::kUnavailable);
  CHECK(s.meta.Sync().Is(Code::kUnavailable));
  CHECK(s.channel->seen.size() == 2);
  s.fail = Code::kStale;
  CHECK(s.meta.GetAttr({}).code() == Code::kStale);
}

TEST_CASE("only root, nodes and the daemon's own user speak for others") {
  wire::Caller claimed;
  claimed.uid = 1234;
  claimed.groups = {5, 6};
  rdma::Peer peer;
  peer.uid = geteuid() + 1000;
  peer.gid = 77;
  wire::Caller stamped = StampCaller(peer, claimed);
  CHECK(stamped.enforce);
  CHECK(stamped.uid == peer.uid);
  CHECK(stamped.gid == 77);
  CHECK(stamped.groups.empty());

  peer.uid = 0;
  CHECK(StampCaller(peer, claimed).uid == 1234);
  peer.uid = geteuid();
  CHECK(StampCaller(peer, claimed).groups.size() == 2);
  peer.uid = geteuid() + 1000;
  peer.role = rdma::Role::kNode;
  CHECK(!StampCaller(peer, claimed).enforce);
}

TEST_CASE("forwarding stamps the caller where the request has one") {
  Server s;
  rdma::Peer peer;
  peer.uid = geteuid() + 1000;
  wire::LookupRequest lookup;
  lookup.name = "x";
  REQUIRE(s.meta.Forward<wire::RecordReply>(Method::kMetaLookup, lookup, peer).ok());
  auto sent = wire::Decode<wire::LookupRequest>(s.last().header);
  REQUIRE(sent.ok());
  CHECK(sent->name == "x");
  CHECK(sent->caller.uid == peer.uid);
  CHECK(sent->caller.enforce);
  wire::GetAttrRequest attr;
  attr.id = 3;
  CHECK(s.meta.Forward<wire::RecordReply>(Method::kMetaGetAttr, attr, peer).ok());
}
