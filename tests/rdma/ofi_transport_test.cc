// What `ofi` has that the conformance suite does not ask of every provider; see
// rendezvous_behaviour.cc.
#include <doctest/doctest.h>

#include "tests/rdma/ofi_world.h"

using namespace perigee::rdma;

TEST_CASE("ofi: interfaces that are not listed are refused unless the fabric is trusted") {
  rendezvous::CheckInterfaces(ofi::Tcp());
}

TEST_CASE("ofi: addresses are host and port, and a channel says what it runs over") {
  rendezvous::CheckAddresses(ofi::Tcp());
}

TEST_CASE("ofi: large messages beside bulk, in both directions") {
  rendezvous::CheckLargeMessages(ofi::Tcp());
}

TEST_CASE("ofi: at the deadline a caller gets its memory back, whatever the peer does with it") {
  rendezvous::CheckMemoryAtDeadline(ofi::Tcp());
}

TEST_CASE(
    "ofi: calls, pulls and replies have failpoints, and a failing pull is one call's failure") {
  rendezvous::CheckFailpoints(ofi::Tcp());
}

TEST_CASE("ofi: a peer whose bulk comes slowly is not taken for a dead one") {
  rendezvous::CheckSlowBulk(ofi::Tcp());
}
