#include "base/certificates.h"

#include <doctest/doctest.h>

using namespace perigee;

namespace {
constexpr Validity kTenYears{1'700'000'000, 1'700'000'000 + 3650 * 86'400};
constexpr Validity kOneYear{1'700'000'000, 1'700'000'000 + 365 * 86'400};

CertifiedKey Authority() {
  auto made = MakeAuthority("the cluster", kTenYears);
  REQUIRE_MESSAGE(made.ok(), made.status().ToString());
  return std::move(*made);
}
}  // namespace

TEST_CASE("a certificate says whom it is for, and until when") {
  CertifiedKey authority = Authority();
  auto info = InspectCertificate(authority.certificate);
  REQUIRE(info.ok());
  CHECK(info->authority);
  CHECK(info->subject == "the cluster");
  std::vector<std::string> names{"node7.example.org", "10.0.0.7", "fd00::7"};
  auto node = IssueCertificate(authority, {"node7", names, kOneYear, ""});
  REQUIRE_MESSAGE(node.ok(), node.status().ToString());
  info = InspectCertificate(node->certificate);
  REQUIRE(info.ok());
  CHECK(!info->authority);
  CHECK(info->subject == "node7");
  CHECK(info->names == names);
  CHECK(info->validity.from == kOneYear.from);
  CHECK(info->validity.until == kOneYear.until);
}

TEST_CASE("a certificate may be issued again for the key that is there") {
  CertifiedKey authority = Authority();
  auto first = IssueCertificate(authority, {"n", {"n"}, kOneYear, ""});
  REQUIRE(first.ok());
  auto again = IssueCertificate(authority, {"n", {"n"}, kOneYear, first->key});
  REQUIRE(again.ok());
  CHECK(again->key == first->key);
  CHECK(again->certificate != first->certificate);
  auto other = IssueCertificate(authority, {"n", {"n"}, kOneYear, ""});
  REQUIRE(other.ok());
  CHECK(other->key != first->key);
}

TEST_CASE("no certificate outlives its authority") {
  CertifiedKey authority = Authority();
  Validity forever{kOneYear.from, kTenYears.until + 86'400};
  auto node = IssueCertificate(authority, {"n", {"n"}, forever, ""});
  REQUIRE(node.ok());
  CHECK(InspectCertificate(node->certificate)->validity.until == kTenYears.until);
  Validity after{kTenYears.until + 1, kTenYears.until + 86'400};
  CHECK(IssueCertificate(authority, {"n", {"n"}, after, ""}).code() == Code::kInvalidArgument);
}

TEST_CASE("what is no name, certificate, key or authority is refused") {
  CertifiedKey authority = Authority();
  auto code = [&](const CertifiedKey& by, const CertificateOrder& order) {
    return IssueCertificate(by, order).code();
  };
  for (const char* name : {"", "a b", "a,IP:1.2.3.4", "-a", "../a", "1.2.3.4/8", "a\n"}) {
    INFO("name \"", name, "\"");
    CHECK(code(authority, {"n", {"n", name}, kOneYear, ""}) == Code::kInvalidArgument);
  }
  CHECK(code(authority, {"n", {}, kOneYear, ""}) == Code::kInvalidArgument);
  CHECK(code(authority, {"", {"n"}, kOneYear, ""}) == Code::kInvalidArgument);
  CHECK(code(authority, {std::string(65, 's'), {"n"}, kOneYear, ""}) == Code::kInvalidArgument);
  CHECK(code(authority, {"n", {"n"}, {10, 10}, ""}) == Code::kInvalidArgument);
  CHECK(code(authority, {"n", {"n"}, kOneYear, "no key"}) == Code::kInvalidArgument);
  auto node = IssueCertificate(authority, {"n", {"n"}, kOneYear, ""});
  REQUIRE(node.ok());
  CHECK(code(*node, {"m", {"m"}, kOneYear, ""}) == Code::kInvalidArgument);
  CHECK(code({authority.certificate, node->key}, {"m", {"m"}, kOneYear, ""}) ==
        Code::kInvalidArgument);
  CHECK(InspectCertificate(node->key).code() == Code::kInvalidArgument);
}
