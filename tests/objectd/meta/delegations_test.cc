#include "objectd/meta/delegations.h"

#include <doctest/doctest.h>

#include <thread>

#include "base/event.h"

namespace perigee::objectd {
namespace {

constexpr wire::NodeId kNode = 7, kOther = 8;

struct Fixture {
  ManualClock clock;
  std::unique_ptr<metrics::Registry> registry = metrics::Registry::Create();
  std::vector<std::pair<wire::NodeId, std::vector<wire::FileId>>> recalled;
  std::function<Status()> answer = [] { return Status::Ok(); };

  Delegations Make(std::vector<wire::NodeId> unheard = {}) {
    return Delegations(
        clock, *registry,
        [this](wire::NodeId node, const std::vector<wire::FileId>& ids, Nanos) {
          recalled.emplace_back(node, ids);
          return answer();
        },
        std::move(unheard));
  }
};

TEST_CASE("what was delegated is recalled from who holds it, once") {
  Fixture f;
  auto d = f.Make();
  CHECK_FALSE(d.Grant(kNode, 1));  // it has not said that it holds nothing of another time
  REQUIRE(d.Renew(kNode, true).ok());
  REQUIRE(d.Renew(kOther, true).ok());
  REQUIRE(d.Grant(kNode, 1));
  REQUIRE(d.Grant(kOther, 2));
  d.Settle({3});
  CHECK(f.recalled.empty());
  d.Settle({1});
  REQUIRE(f.recalled.size() == 1);
  CHECK(f.recalled[0].first == kNode);
  CHECK(f.recalled[0].second == std::vector<wire::FileId>{1});
  d.Settle({1});
  CHECK(f.recalled.size() == 1);
}

TEST_CASE("a file that is delegated again during its recall is recalled again") {
  Fixture f;
  auto d = f.Make();
  REQUIRE(d.Renew(kNode, true).ok());
  REQUIRE(d.Grant(kNode, 1));
  f.answer = [&] {
    if (f.recalled.size() == 1) CHECK(d.Grant(kNode, 1));
    return Status::Ok();
  };
  d.Settle({1});
  d.Settle({1});
  CHECK(f.recalled.size() == 2);
}

TEST_CASE("a node that does not answer runs out of its term, and begins with nothing") {
  Fixture f;
  auto d = f.Make();
  REQUIRE(d.Renew(kNode, true).ok());
  REQUIRE(d.Grant(kNode, 1));
  REQUIRE(d.Grant(kNode, 2));
  const Nanos before = f.clock.Monotonic();
  f.answer = [&] {
    f.clock.Advance(Delegations::kTerm / 2);
    CHECK(d.Renew(kNode, false).ok());  // alive, and yet it does not answer
    f.clock.Advance(Delegations::kTerm);
    return Status(Code::kUnavailable, "away");
  };
  d.Settle({1});
  CHECK(f.clock.Monotonic() >= before + Delegations::kTerm);
  CHECK(d.Renew(kNode, false).Is(Code::kStale));
  CHECK_FALSE(d.Grant(kNode, 3));
  REQUIRE(d.Renew(kNode, true).ok());
  CHECK(d.Grant(kNode, 3));
  f.recalled.clear();
  d.Settle({2});  // given up with the rest
  CHECK(f.recalled.empty());
}

TEST_CASE("after a start changes wait for the nodes of the time before") {
  Fixture f;
  auto d = f.Make({kNode, kOther});
  Event settled;
  std::thread change([&] {
    d.Settle({1});
    settled.Set();
  });
  REQUIRE(d.Renew(kNode, true).ok());
  CHECK_FALSE(settled.IsSet());
  CHECK(d.Renew(kOther, false).Is(Code::kStale));
  CHECK_FALSE(settled.IsSet());
  REQUIRE(d.Renew(kOther, true).ok());
  settled.Wait();
  change.join();
}

TEST_CASE("but no longer than their terms can last") {
  Fixture f;
  auto d = f.Make({kNode});
  f.clock.Advance(Delegations::kTerm);
  d.Settle({1});
  CHECK(f.recalled.empty());
}

TEST_CASE("a node holds a bounded number of files") {
  Fixture f;
  auto d = f.Make();
  REQUIRE(d.Renew(kNode, true).ok());
  for (size_t i = 0; i < Delegations::kNodeFilesMax; ++i) REQUIRE(d.Grant(kNode, 100 + i));
  CHECK_FALSE(d.Grant(kNode, 1));
  CHECK(d.Grant(kNode, 100));  // the one it has
  d.Settle({100});
  CHECK(d.Grant(kNode, 1));
}

}  // namespace
}  // namespace perigee::objectd
