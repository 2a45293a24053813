#pragma once
// X.509 certificates of a cluster: an authority and the certificates that it issues (RFC 5280), by
// OpenSSL. Keys are ECDSA on P-256. A certificate is good for both ends of mutual TLS and names the
// hosts and addresses it may be used on (subjectAltName). Everything is PEM text; keys are PKCS #8,
// unencrypted: files that hold them are 0600. Times are seconds since 1970. Thread-safe functions.
//
// kInvalidArgument: what was given is no such certificate, key, name or time.

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace perigee {

struct CertifiedKey {
  std::string certificate;
  std::string key;
};

struct Validity {
  int64_t from = 0;
  int64_t until = 0;
};

struct CertificateInfo {
  std::string subject;             // its common name
  std::vector<std::string> names;  // host names and addresses, in the certificate's order
  Validity validity;
  bool authority = false;
};

Result<CertifiedKey> MakeAuthority(const std::string& name, Validity validity);

struct CertificateOrder {
  std::string subject;
  std::vector<std::string> names;  // "gpu-17.example.org", "10.0.0.17", "fd00::17"
  Validity validity;               // cut to that of the authority
  std::string key;                 // empty: a new one
};
Result<CertifiedKey> IssueCertificate(const CertifiedKey& authority, const CertificateOrder& order);

Result<CertificateInfo> InspectCertificate(const std::string& certificate);

}  // namespace perigee
