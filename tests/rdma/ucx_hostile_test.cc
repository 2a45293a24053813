// `ucx` against hostile peers; the checks are in rendezvous_hostile.cc.
#include <doctest/doctest.h>

#include "tests/rdma/ucx_world.h"

using namespace perigee::rdma;

TEST_CASE("ucx: what is not a message of ours, or not allowed now, ends the connection") {
  rendezvous::CheckBadMessages(ucx::Tcp());
}

TEST_CASE("ucx: without hello, or with another secret, there are no calls") {
  rendezvous::CheckHelloIsNeeded(ucx::Tcp());
}

TEST_CASE("ucx: announced bulk and bodies that do not have their checksum end the connection") {
  rendezvous::CheckChecksums(ucx::Tcp());
}

TEST_CASE("ucx: more calls than granted, and an id twice, end the connection") {
  rendezvous::CheckCredits(ucx::Tcp());
}

TEST_CASE("ucx: a peer that goes while it announces, or is answered, leaves nothing behind") {
  rendezvous::CheckPeersThatGo(ucx::Tcp());
}

TEST_CASE("ucx: who is silent, or holds on to bulk, is given up after a few seconds") {
  rendezvous::CheckSilentPeers(ucx::Tcp());
}

TEST_CASE("ucx: a server that lies loses its client's connection, and a late answer nothing") {
  rendezvous::CheckLyingServer(ucx::Tcp());
}
