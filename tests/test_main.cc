// The entry of every C++ test binary. Whoever reads the end of its output finds there what failed:
// lines below warn are left out unless PERIGEE_TEST_LOG=info, and failures are told once more,
// last.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdlib>
#include <mutex>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"

namespace {

class FailuresLast final : public doctest::IReporter {
 public:
  explicit FailuresLast(const doctest::ContextOptions& options) : out_(*options.cout) {}
  void test_case_start(const doctest::TestCaseData& test) override { test_ = test.m_name; }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException& e) override {
    Add(e.error_string.c_str());
  }
  void log_assert(const doctest::AssertData& assert) override {
    if (!assert.m_failed) return;
    Add(std::string(assert.m_file) + ":" + std::to_string(assert.m_line) + ": " + assert.m_expr);
  }
  void log_message(const doctest::MessageData& message) override {
    if (message.m_severity == doctest::assertType::is_warn) return;
    Add(std::string(message.m_file) + ":" + std::to_string(message.m_line) + ": " +
        message.m_string.c_str());
  }
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {
    for (const std::string& failure : failures_) out_ << "FAILED " << failure << "\n";
    out_.flush();
  }
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
  void report_query(const doctest::QueryData&) override {}

 private:
  void Add(const std::string& what) {
    std::lock_guard lock(mu_);
    if (failures_.size() < kFailuresMax) failures_.push_back(test_ + ": " + what);
  }

  static constexpr size_t kFailuresMax = 20;
  std::ostream& out_;
  std::string test_;
  std::mutex mu_;  // guards failures_: threads of a test may log
  std::vector<std::string> failures_;
};
REGISTER_LISTENER("failures_last", 1, FailuresLast);

}  // namespace

int main(int argc, char** argv) {
  const char* wanted = std::getenv("PERIGEE_TEST_LOG");
  bool info = wanted != nullptr && std::string_view(wanted) == "info";
  perigee::log::Configure("perigee", info ? perigee::log::Level::kInfo : perigee::log::Level::kWarn,
                          perigee::log::Format::kText);
  return doctest::Context(argc, argv).run();
}
