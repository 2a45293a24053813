#include <doctest/doctest.h>

#include "tests/rdma/conformance_pair.h"
#include "tests/rdma/transport_conformance.h"
#include "tests/rdma/ucx_world.h"

using namespace perigee::rdma;

TEST_CASE("ucx conforms over tcp") {
  CheckTransportConformance(
      [] { return std::make_unique<rendezvous::RendezvousWorld>(ucx::Tcp()); });
}

TEST_CASE("ucx conforms with one loop for both sides") {
  CheckTransportConformance(
      [] { return std::make_unique<rendezvous::RendezvousWorld>(ucx::Tcp(), 1); });
}

TEST_CASE("ucx conforms over shared memory") {
  CheckTransportConformance(
      [] { return std::make_unique<rendezvous::RendezvousWorld>(ucx::SharedMemory()); });
}

TEST_CASE("ucx: bulk gets its buffers by traffic class") {
  CheckBulkClasses([] { return std::make_unique<rendezvous::RendezvousWorld>(ucx::Tcp()); });
}
