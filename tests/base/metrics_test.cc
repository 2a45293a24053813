#include "base/metrics.h"

#include <doctest/doctest.h>

using namespace perigee;

static bool Has(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

TEST_CASE("the same name and labels give the same metric, others another") {
  auto registry = metrics::Registry::Create();
  auto* a = registry->GetCounter("perigee_test_reads_total", "reads", {{"tier", "burst"}});
  auto* b = registry->GetCounter("perigee_test_reads_total", "reads", {{"tier", "object"}});
  CHECK(registry->GetCounter("perigee_test_reads_total", "reads", {{"tier", "burst"}}) == a);
  CHECK(a != b);
  a->Add();
  a->Add(2);
  CHECK(a->Value() == 3);
  CHECK(b->Value() == 0);
  std::string text = registry->ExposeText();
  CHECK(Has(text, "# TYPE perigee_test_reads_total counter"));
  CHECK(Has(text, "perigee_test_reads_total{tier=\"burst\"} 3"));
  CHECK(Has(text, "perigee_test_reads_total{tier=\"object\"} 0"));
}

TEST_CASE("gauges move both ways, histograms count by bound") {
  auto registry = metrics::Registry::Create();
  auto* gauge = registry->GetGauge("perigee_test_bytes", "bytes");
  gauge->Set(10);
  gauge->Add(-4);
  CHECK(gauge->Value() == 6);
  auto* histogram = registry->GetHistogram("perigee_test_seconds", "seconds", {0.1, 1});
  CHECK(registry->GetHistogram("perigee_test_seconds", "seconds", {0.1, 1}) == histogram);
  histogram->Observe(0.05);
  histogram->Observe(0.5);
  histogram->Observe(5);
  std::string text = registry->ExposeText();
  CHECK(Has(text, "perigee_test_bytes 6"));
  CHECK(Has(text, "perigee_test_seconds_bucket{le=\"0.1\"} 1"));
  CHECK(Has(text, "perigee_test_seconds_bucket{le=\"1\"} 2"));
  CHECK(Has(text, "perigee_test_seconds_bucket{le=\"+Inf\"} 3"));
}

TEST_CASE("collectors run before each exposition and may look metrics up") {
  auto registry = metrics::Registry::Create();
  int runs = 0;
  registry->OnCollect([&] { registry->GetGauge("perigee_test_runs", "runs")->Set(++runs); });
  CHECK(Has(registry->ExposeText(), "perigee_test_runs 1"));
  CHECK(Has(registry->ExposeText(), "perigee_test_runs 2"));
}

TEST_CASE("label values may be any text") {
  auto registry = metrics::Registry::Create();
  registry->GetCounter("perigee_test_total", "t", {{"dir", "/a\"b\\c\nd"}})->Add();
  CHECK(Has(registry->ExposeText(), R"(perigee_test_total{dir="/a\"b\\c\nd"} 1)"));
}
