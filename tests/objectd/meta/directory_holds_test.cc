// Directories that a node holds: who else comes to them sees all that the node has acknowledged.

#include "objectd/meta/directory_holds.h"

#include "rdma/wire/methods.h"
#include "tests/objectd/meta/fixture.h"
#include "tests/objectd/meta/hook_store.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

namespace {

constexpr wire::NodeId kNode = 7, kOther = 8;

// A node that makes files in `d` and tells of them when it is asked.
struct Held : Fixture {
  struct Asked {
    wire::NodeId node;
    wire::FileId dir;
    bool keep;
    bool operator==(const Asked&) const = default;
  };
  Held()
      : Fixture([this](wire::NodeId node, wire::FileId dir, bool keep, Nanos) {
          asked.push_back({node, dir, keep});
          return answer();
        }) {
    b = Bucket("bucket");
    d = Dir(b, "d");
  }
  bool Hold(wire::FileId dir, wire::NodeId node = kNode) {
    return Must(ns->HoldDirectory({.node = node, .dir = dir, .at = ++now})).granted;
  }
  static void Add(wire::ApplyRequest* q, wire::Method method, const auto& request,
                  size_t bytes = 0) {
    q->ops.push_back({.method = static_cast<uint64_t>(method),
                      .request = wire::Encode(request),
                      .inline_bytes = bytes});
  }
  // A file as a node tells of it: made, and closed with these bytes.
  void AddFile(wire::ApplyRequest* q, std::string* bulk, const std::string& name,
               const std::string& bytes) {
    wire::MakeRequest make = Make(d, name, 0644);
    make.id = next_id++;
    make.writer = wire::WriterInfo{.node = kNode, .burst = make.id};
    Add(q, wire::Method::kMetaCreate, make);
    Add(q, wire::Method::kMetaPublish,
        wire::PublishRequest{.id = make.id,
                             .node = kNode,
                             .burst = make.id,
                             .generation = 1,
                             .size = bytes.size(),
                             .has_inline = true},
        bytes.size());
    *bulk += bytes;
  }
  Status Tell(const std::string& name, const std::string& bytes = "told") {
    wire::ApplyRequest q{.node = kNode};
    std::string bulk;
    AddFile(&q, &bulk, name, bytes);
    return ns->Apply(q, bulk).status();
  }

  std::vector<Asked> asked;
  std::function<Status()> answer = [] { return Status::Ok(); };
  wire::FileId next_id = Must(ns->ReserveIds({.count = 1000})).first;
  wire::FileId b, d;
  int64_t now = 0;  // by the nodes' clocks
};

}  // namespace

TEST_CASE_FIXTURE(Held, "who looks for a name that is not there waits for what the holder tells") {
  REQUIRE(Hold(d));
  answer = [&] { return Tell("x", "made there"); };
  CHECK(Must(Get("bucket", "d/x")) == "made there");
  CHECK(asked == std::vector<Asked>{{kNode, d, true}});
  answer = [] { return Status::Ok(); };
  // Its writer may have closed it again.
  const wire::Record x = Must(Lookup(d, "x")).record;
  CHECK(asked.size() == 2);
  Must(ns->EndWrite({.id = x.id, .node = kNode, .burst = x.writer->burst}));
  // What is here and has no writer is as it is here.
  CHECK(Must(Get("bucket", "d/x")) == "made there");
  CHECK(Lookup(d, "x").ok());
  CHECK(asked.size() == 2);
  CHECK(Lookup(d, "y").code() == Code::kNotFound);
  CHECK(asked.size() == 3);
  CHECK(holds->HolderOf(d) == kNode);
}

TEST_CASE_FIXTURE(Held, "listings of every door wait for what the holder tells") {
  REQUIRE(Hold(d));
  answer = [&] { return asked.size() > 1 ? Status::Ok() : Tell("x"); };
  CHECK(Keys("bucket") == Strings{"d/", "d/x"});
  CHECK(asked.size() == 1);
  CHECK(Names(d) == Strings{"x"});
  CHECK(asked.size() == 2);
}

TEST_CASE_FIXTURE(Held, "the holder itself is not asked, and others' directories are their own") {
  REQUIRE(Hold(d));
  const wire::Caller self{.node = kNode};
  CHECK(ns->Lookup({.caller = self, .parent = d, .name = "x"}).code() == Code::kNotFound);
  wire::MakeRequest make = Make(d, "y");
  make.caller = self;
  Must(ns->CreateFile(make));
  Must(ns->ReadDir({.caller = self, .dir = d}));
  Dir(b, "e");
  CHECK(asked.empty());
}

TEST_CASE_FIXTURE(Held, "a change of names by others takes the directory back, for a while") {
  REQUIRE(Hold(d));
  answer = [&] { return asked.back().keep ? Status::Ok() : Tell("x"); };
  CHECK(ns->CreateFile(Make(d, "x")).code() == Code::kAlreadyExists);
  CHECK(asked == std::vector<Asked>{{kNode, d, true}, {kNode, d, false}});
  CHECK(holds->HolderOf(d) == 0);
  CHECK_FALSE(Hold(d));
  clock.Advance(DirectoryHolds::kBarred);
  CHECK(Hold(d));
}

TEST_CASE_FIXTURE(Held, "a put with If-None-Match does not replace what the holder made") {
  REQUIRE(Hold(d));
  answer = [&] { return asked.size() > 1 ? Status::Ok() : Tell("x"); };
  CHECK(ns->PutObject("bucket", "d/x", Inline("other"), {}, {.if_none_match = "*"}).code() ==
        Code::kPreconditionFailed);
  CHECK(Must(Get("bucket", "d/x")) == "told");
}

TEST_CASE_FIXTURE(Held, "a directory with what was not told yet is not empty") {
  REQUIRE(Hold(d));
  answer = [&] { return Tell("x"); };
  // Whoever removes it: its holder, too.
  CHECK(ns->Rmdir({.caller = {.node = kNode}, .parent = b, .name = "d"}).code() == Code::kNotEmpty);
  CHECK(asked == std::vector<Asked>{{kNode, d, false}});
}

TEST_CASE_FIXTURE(Held, "who changes the directory itself waits until its holder has heard") {
  REQUIRE(Hold(d));
  Must(ns->SetAttr({.id = d, .set_mode = true, .mode = 0700}));
  CHECK(asked == std::vector<Asked>{{kNode, d, false}});
  clock.Advance(DirectoryHolds::kBarred);
  REQUIRE(Hold(d));
  Must(Rename(b, "d", b, "e"));
  CHECK(asked.size() == 2);
}

TEST_CASE_FIXTURE(Held, "one node at a time") {
  REQUIRE(Hold(d));
  CHECK_FALSE(Hold(d, kOther));
  Must(ns->ReleaseDirectories({.node = kOther, .dirs = {d}, .at = ++now}));  // not its own
  CHECK(holds->HolderOf(d) == kNode);
  Must(ns->ReleaseDirectories({.node = kNode, .dirs = {d}, .at = ++now}));
  CHECK(Hold(d, kOther));
  CHECK(ns->HoldDirectory({.node = kNode, .dir = 12345, .at = ++now}).code() == Code::kStale);
  CHECK_FALSE(Hold(wire::kRootId));
  CHECK(asked.empty());
}

TEST_CASE_FIXTURE(Held, "a release that comes late leaves what was asked for since") {
  REQUIRE(Hold(d));
  const int64_t before = ++now;
  CHECK(Hold(d));  // it had not heard of the first one
  Must(ns->ReleaseDirectories({.node = kNode, .dirs = {d}, .at = before}));
  Must(ns->ReleaseDirectories({.node = kNode, .all = true, .at = before}));
  CHECK(holds->HolderOf(d) == kNode);
  Must(ns->ReleaseDirectories({.node = kNode, .all = true, .at = ++now}));
  CHECK(holds->HolderOf(d) == 0);
}

TEST_CASE_FIXTURE(Held, "a holder that does not answer is waited for until its term is over") {
  REQUIRE(Hold(d));
  Nanos waited = 0;
  answer = [&] {
    CHECK(ns->HoldDirectory({.node = kNode}).ok());  // renewed while it is asked
    clock.Advance(waited = DirectoryHolds::kTerm);
    return Status(Code::kDeadlineExceeded, "no answer");
  };
  CHECK(Lookup(d, "x").code() == Code::kNotFound);
  CHECK(waited == DirectoryHolds::kTerm);
  CHECK(asked.size() == 1);
  CHECK(holds->HolderOf(d) == 0);
  // Nothing is renewed or granted before it has given up everything.
  CHECK(ns->HoldDirectory({.node = kNode}).code() == Code::kStale);
  wire::FileId e = Dir(b, "e");
  CHECK(ns->HoldDirectory({.node = kNode, .dir = e, .at = ++now}).code() == Code::kStale);
  Must(ns->ReleaseDirectories({.node = kNode, .all = true, .at = ++now}));
  CHECK(Hold(e));
}

TEST_CASE_FIXTURE(Held, "another process of objectd knows who holds what") {
  REQUIRE(Hold(d));
  int told = 0;
  auto next = Must(DirectoryHolds::Create(*store, clock, *registry,
                                          [&](wire::NodeId node, wire::FileId dir, bool, Nanos) {
                                            ++told;
                                            CHECK(node == kNode);
                                            CHECK(dir == d);
                                            return Tell("x");
                                          }));
  auto again = Must(Namespace::Create(*store, clock, *registry, {.holds = next.get()}));
  CHECK(Must(again->GetObject("bucket", "d/x")).committed);
  CHECK(told == 1);
  CHECK(next->Renew(kNode).code() == Code::kStale);
  Must(next->Release(kNode, {}, true, ++now));
  CHECK(Must(DirectoryHolds::Create(*store, clock, *registry, nullptr))->HolderOf(d) == 0);
}

TEST_CASE_FIXTURE(Held, "an insertion that began before a grant does not end behind it unseen") {
  HookStore hooks(*store);
  auto slow = Must(Namespace::Create(hooks, clock, *registry, {.holds = holds.get()}));
  Must(slow->ReserveIds({.count = 1}));
  hooks.Arm([&] { REQUIRE(Hold(d)); });
  Must(slow->CreateFile(Make(d, "x")));
  CHECK(asked == std::vector<Asked>{{kNode, d, true}, {kNode, d, false}});
}

TEST_CASE_FIXTURE(Held, "a read that began before the holder told all and gave up looks again") {
  REQUIRE(Hold(d));
  HookStore hooks(*store);
  auto slow = Must(Namespace::Create(hooks, clock, *registry, {.holds = holds.get()}));
  hooks.ArmBefore([&] {
    Must(Tell("x"));
    Must(ns->ReleaseDirectories({.node = kNode, .dirs = {d}, .at = ++now}));
  });
  CHECK(slow->Lookup({.parent = d, .name = "x"}).ok());
  CHECK(asked.empty());
}

TEST_CASE_FIXTURE(Held, "what a node tells is done as a whole, and may be told again") {
  REQUIRE(Hold(d));
  wire::ApplyRequest q{.node = kNode};
  std::string bulk;
  AddFile(&q, &bulk, "x", "one");
  AddFile(&q, &bulk, "y", "two");
  const auto first = wire::Decode<wire::MakeRequest>(q.ops[0].request);
  Add(&q, wire::Method::kMetaSetAttr,
      wire::SetAttrRequest{.id = first->id, .set_mode = true, .mode = 0600});
  for (int time = 0; time < 2; ++time) {
    Must(ns->Apply(q, bulk));
    CHECK(Must(Get("bucket", "d/x")) == "one");
    CHECK(Must(Get("bucket", "d/y")) == "two");
    CHECK(Must(Lookup(d, "x")).record.mode == 0600);
  }
  wire::ApplyRequest taken{.node = kNode};
  bulk.clear();
  AddFile(&taken, &bulk, "z", "three");
  AddFile(&taken, &bulk, "y", "four");
  CHECK(ns->Apply(taken, bulk).code() == Code::kAlreadyExists);
  CHECK(Names(d) == Strings{"x", "y"});
}

TEST_CASE_FIXTURE(Held, "what is told is of the time at which it was made") {
  REQUIRE(Hold(d));
  wire::ApplyRequest q{.node = kNode};
  std::string bulk;
  AddFile(&q, &bulk, "x", "one");
  q.ops[0].at = 1000;
  q.ops[1].at = 2000;
  Must(ns->Apply(q, bulk));
  const wire::Record x = Must(Lookup(d, "x")).record;
  CHECK(x.btime == 1000);
  CHECK(x.ctime == 2000);
}

TEST_CASE_FIXTURE(Held, "what is told has to be in order") {
  wire::ApplyRequest q{.node = kNode};
  CHECK(ns->Apply(q, "").code() == Code::kInvalidArgument);
  std::string bulk;
  AddFile(&q, &bulk, "x", "one");
  CHECK(ns->Apply(q, "on").code() == Code::kInvalidArgument);
  CHECK(ns->Apply(q, "one more").code() == Code::kInvalidArgument);
  wire::ApplyRequest odd{.node = kNode};
  Add(&odd, wire::Method::kMetaUnlink, wire::RemoveRequest{.parent = d, .name = "x"});
  CHECK(ns->Apply(odd, "").code() == Code::kInvalidArgument);
  wire::ApplyRequest nameless{.node = kNode};
  wire::MakeRequest bad = Make(d, "a/b");
  bad.id = next_id++;
  Add(&nameless, wire::Method::kMetaCreate, bad);
  CHECK(ns->Apply(nameless, "").code() == Code::kInvalidArgument);
  wire::ApplyRequest many{.node = kNode};
  many.ops.resize(wire::kApplyOpsMax + 1);
  CHECK(ns->Apply(many, "").code() == Code::kInvalidArgument);
  CHECK(Names(d).empty());
}

TEST_CASE_FIXTURE(Held, "what a node tells once more, late, is not made again") {
  wire::ApplyRequest q{.node = kNode, .journal = 77, .through = 5};
  std::string bulk;
  AddFile(&q, &bulk, "x", "told");
  CHECK(Must(ns->Apply(q, bulk)).through == 5);
  Must(ns->Unlink({.parent = d, .name = "x"}));
  CHECK(Must(ns->Apply(q, bulk)).through == 5);
  CHECK(Names(d).empty());
  // Nodes, and journals of one, are numbered for themselves.
  wire::ApplyRequest asks{.node = kNode, .journal = 77};
  CHECK(Must(ns->Apply(asks, "")).through == 5);
  asks.journal = 78;
  CHECK(Must(ns->Apply(asks, "")).through == 0);
  asks = {.node = kOther, .journal = 77};
  CHECK(Must(ns->Apply(asks, "")).through == 0);
  // Refused: not told.
  wire::ApplyRequest refused{.node = kNode, .journal = 77, .through = 9, .after = 5};
  AddFile(&refused, &bulk, "y", "told");
  AddFile(&refused, &bulk, "y", "told");
  CHECK_FALSE(ns->Apply(refused, bulk.substr(4)).ok());
  asks = {.node = kNode, .journal = 77};
  CHECK(Must(ns->Apply(asks, "")).through == 5);
  // Told in other ways.
  wire::ApplyRequest noted{.node = kNode, .journal = 77, .through = 9};
  CHECK(ns->Apply(noted, "").code() == Code::kPreconditionFailed);
  noted.after = 5;
  CHECK(Must(ns->Apply(noted, "")).through == 9);
  CHECK(Must(ns->Apply(asks, "")).through == 9);
  q.journal = 78;
  CHECK(Must(ns->Apply(q, bulk.substr(0, 4))).through == 5);
  CHECK(Names(d) == Strings{"x"});
}
