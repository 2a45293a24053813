#include "objectd/s3/byte_gate.h"

#include <doctest/doctest.h>

#include <thread>

namespace perigee::objectd::s3 {
namespace {

TEST_CASE("a gate lets in what fits, and the next when something has left") {
  ByteGate gate(100);
  ByteGate::Pass one = std::move(gate.Enter(60, 0)).value();
  const ByteGate::Pass two = std::move(gate.Enter(40, 0)).value();
  CHECK(gate.Enter(1, 0).code() == Code::kBusy);
  CHECK(gate.bytes_in_use() == 100);
  bool let_in = false;
  std::thread waits([&] { let_in = gate.Enter(50, 20 * kSecond).ok(); });
  one = ByteGate::Pass();
  waits.join();
  CHECK(let_in);
  CHECK(gate.bytes_in_use() == 40);
}

TEST_CASE("more than everything waits until it is alone") {
  ByteGate gate(100);
  ByteGate::Pass one = std::move(gate.Enter(1, 0)).value();
  CHECK(gate.Enter(1000, 0).code() == Code::kBusy);
  one = ByteGate::Pass();
  auto all = gate.Enter(1000, 0);
  REQUIRE(all.ok());
  CHECK(gate.bytes_in_use() == 100);
}

}  // namespace
}  // namespace perigee::objectd::s3
