#include "objectd/meta/absent_writers.h"

#include "tests/objectd/meta/fixture.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

namespace {

struct Absent : Fixture {
  Absent() : file(Create(Bucket("bucket"), "f", 1, 7)) {}
  bool HasWriter() { return Must(ns->GetAttr({.id = file})).record.writer.has_value(); }

  wire::FileId file;
  Result<bool> answer = true;
  AbsentWriters writers{*ns, clock, [this](wire::NodeId node, const wire::WriterOf& q) {
                          CHECK(node == 1);
                          CHECK(q.id == file);
                          CHECK(q.burst == 7);
                          return answer;
                        }};
};

}  // namespace

TEST_CASE_FIXTURE(Absent, "a writer that its node knows keeps the file, however silent the node") {
  clock.Advance(AbsentWriters::kSilence);
  CHECK(writers.Reclaim(file).code() == Code::kBusy);
  CHECK(HasWriter());
}

TEST_CASE_FIXTURE(Absent, "a writer that its node knows nothing of is ended at once") {
  writers.Heard(1);
  answer = false;
  CHECK(Must(writers.Reclaim(file)).record.writer == std::nullopt);
  CHECK(!HasWriter());
  CHECK(writers.Reclaim(file).ok());  // and there is none to ask for
  // What it may have published cannot be taken for the next one's.
  auto next = Must(ns->OpenWrite({.id = file, .node = 2, .burst = 3}));
  CHECK(next.record.writer->generation == 2);
}

TEST_CASE_FIXTURE(Absent, "a node that is not reached keeps its files until it was long silent") {
  answer = Status(Code::kUnavailable, "not reached");
  clock.Advance(AbsentWriters::kSilence - 1);
  CHECK(writers.Reclaim(file).code() == Code::kBusy);  // nobody was heard since the start
  writers.Heard(1);
  clock.Advance(AbsentWriters::kSilence - 1);
  CHECK(writers.Reclaim(file).code() == Code::kBusy);
  clock.Advance(1);
  CHECK(writers.Reclaim(file).ok());
  CHECK(!HasWriter());
}
