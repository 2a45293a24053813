// For trying real clients by hand: serves a namespace in memory until standard input ends.
//   build/bin/objectd_s3_test -ns -tc="serve until standard input ends"
#include <doctest/doctest.h>

#include <cstdio>

#include "objectd/s3/server.h"
#include "tests/objectd/s3/fixture.h"

namespace perigee::objectd::s3 {
namespace {

TEST_CASE("serve until standard input ends" * doctest::skip()) {
  test::Fixture f;
  auto pool = CreateThreadPool({.name = "s3", .threads = 8});
  S3Options options;
  options.listen = "127.0.0.1:0";
  options.access_key = f.credentials.access_key;
  options.secret_key = f.credentials.secret_key;
  auto server = S3Server::Start(options, {f.ns.get(), f.blob_deps(), &f.peers, pool.get(),
                                          &RealClock::Get(), f.registry.get()});
  REQUIRE(server.ok());
  std::printf("%s\n", (*server)->address().c_str());
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  (*server)->Stop();
  pool->Stop();
}

}  // namespace
}  // namespace perigee::objectd::s3
