// What `ucx` has that the conformance suite does not ask of every provider; see
// rendezvous_behaviour.cc.
#include <doctest/doctest.h>

#include "tests/rdma/ucx_world.h"

using namespace perigee::rdma;

TEST_CASE("ucx: interfaces that are not listed are refused unless the fabric is trusted") {
  rendezvous::CheckInterfaces(ucx::Tcp());
}

TEST_CASE("ucx: addresses are host and port, and a channel says what it runs over") {
  rendezvous::CheckAddresses(ucx::Tcp());
}

TEST_CASE("ucx: large messages beside bulk, in both directions") {
  rendezvous::CheckLargeMessages(ucx::Tcp());
}

TEST_CASE("ucx: at the deadline a caller gets its memory back, whatever the peer does with it") {
  rendezvous::CheckMemoryAtDeadline(ucx::Tcp());
}

TEST_CASE(
    "ucx: calls, pulls and replies have failpoints, and a failing pull is one call's failure") {
  rendezvous::CheckFailpoints(ucx::Tcp());
}
