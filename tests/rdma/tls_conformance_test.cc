#include <doctest/doctest.h>

#include "tests/rdma/conformance_pair.h"
#include "tests/rdma/tls_world.h"
#include "tests/rdma/transport_conformance.h"

using namespace perigee;
using namespace perigee::rdma;

TEST_CASE("tls conforms") {
  CheckTransportConformance([] { return std::make_unique<TlsWorld>(); });
}

TEST_CASE("tls conforms with one loop for both sides") {
  CheckTransportConformance([] { return std::make_unique<TlsWorld>(1); });
}

TEST_CASE("tls: bulk gets its buffers by traffic class") {
  CheckBulkClasses([] { return std::make_unique<TlsWorld>(); });
}
