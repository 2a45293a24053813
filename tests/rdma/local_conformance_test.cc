#include <doctest/doctest.h>

#include "tests/rdma/local_world.h"
#include "tests/rdma/transport_conformance.h"

using namespace perigee;
using namespace perigee::rdma;

TEST_CASE("local conforms") {
  CheckTransportConformance([] { return std::make_unique<LocalWorld>(); });
}

TEST_CASE("local conforms with one loop for both sides") {
  CheckTransportConformance([] { return std::make_unique<LocalWorld>(1); });
}
