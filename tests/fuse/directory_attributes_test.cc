#include "fuse/directory_attributes.h"

#include <doctest/doctest.h>

using namespace perigee;
using namespace perigee::fuse;

namespace {

struct stat Times(time_t seconds) {
  struct stat st {};
  st.st_mtim = st.st_ctim = {seconds, 0};
  return st;
}

wire::Record MadeAt(time_t seconds) {
  wire::Record file;
  file.ctime = seconds * kSecond;
  return file;
}

}  // namespace

TEST_CASE("a directory's attributes are kept from when they were asked for") {
  ManualClock clock;
  DirectoryAttributes known(clock);
  CHECK_FALSE(known.Get());
  auto asked = known.Ask();
  clock.Advance(300 * kMillisecond);
  known.Learn(asked, Times(100), kSecond);
  auto answer = known.Get();
  REQUIRE(answer);
  CHECK(answer->st.st_mtim.tv_sec == 100);
  CHECK(answer->valid == 700 * kMillisecond);
  clock.Advance(700 * kMillisecond);
  CHECK_FALSE(known.Get());
}

TEST_CASE("a new file moves its directory's times, and never back") {
  ManualClock clock;
  DirectoryAttributes known(clock);
  known.Learn(known.Ask(), Times(100), kSecond);
  known.Created(MadeAt(101));
  known.Created(MadeAt(99));
  REQUIRE(known.Get());
  CHECK(known.Get()->st.st_mtim.tv_sec == 101);
  CHECK(known.Get()->st.st_ctim.tv_sec == 101);
}

TEST_CASE("after other changes, and changes while it was asked for, a directory is asked again") {
  ManualClock clock;
  DirectoryAttributes known(clock);
  known.Learn(known.Ask(), Times(100), kSecond);
  known.Changed();
  CHECK_FALSE(known.Get());
  auto asked = known.Ask();
  known.Created(MadeAt(101));
  known.Learn(asked, Times(100), kSecond);
  CHECK_FALSE(known.Get());
}
