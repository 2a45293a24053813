#include "rdma/log_limit.h"

#include <doctest/doctest.h>

using namespace perigee;
using namespace perigee::rdma;

TEST_CASE("log limit: one line a period, and it says how many were left out") {
  LogLimit limit(10);
  CHECK(limit.Pass(100) == 0u);
  CHECK(!limit.Pass(100));
  CHECK(!limit.Pass(109));
  CHECK(limit.Pass(110) == 2u);
  CHECK(limit.Pass(120) == 0u);
  CHECK(!limit.Pass(129));
  CHECK(limit.Pass(1000) == 1u);
}
