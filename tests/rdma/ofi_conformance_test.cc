#include <doctest/doctest.h>

#include "tests/rdma/conformance_pair.h"
#include "tests/rdma/ofi_world.h"
#include "tests/rdma/transport_conformance.h"

using namespace perigee::rdma;

TEST_CASE("ofi conforms over tcp") {
  CheckTransportConformance(
      [] { return std::make_unique<rendezvous::RendezvousWorld>(ofi::Tcp()); });
}

TEST_CASE("ofi conforms with one loop for both sides") {
  CheckTransportConformance(
      [] { return std::make_unique<rendezvous::RendezvousWorld>(ofi::Tcp(), 1); });
}

TEST_CASE("ofi conforms when memory is registered as verbs needs it") {
  CheckTransportConformance(
      [] { return std::make_unique<rendezvous::RendezvousWorld>(ofi::LikeVerbs()); });
}

TEST_CASE("ofi: bulk gets its buffers by traffic class") {
  CheckBulkClasses([] { return std::make_unique<rendezvous::RendezvousWorld>(ofi::Tcp()); });
}
