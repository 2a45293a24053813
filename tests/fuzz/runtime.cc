// What every fuzz target runs with: a log that is silent about hostile peers, and doctest's
// REQUIRE, which shared test code uses, without doctest's test cases.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdlib>

#include "base/log.h"

namespace {

struct Runtime {
  doctest::Context context;
  Runtime() {
    perigee::log::Configure("fuzz", perigee::log::Level::kError, perigee::log::Format::kText);
    context.setAsDefaultForAssertsOutOfTestCases();
    context.setAssertHandler([](const doctest::AssertData& data) {
      if (data.m_failed) std::abort();
    });
  }
};
const Runtime runtime;

}  // namespace
