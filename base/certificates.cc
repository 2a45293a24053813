#include "base/certificates.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <utility>

namespace perigee {

namespace {

template <auto Free>
struct Freer {
  void operator()(auto* object) const { Free(object); }
};
using Bio = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using Cert = std::unique_ptr<X509, Freer<X509_free>>;
using Number = std::unique_ptr<BIGNUM, Freer<BN_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Freer<X509_EXTENSION_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES_free>>;

constexpr int kSerialBits = 127;         // positive, and at most 20 octets (RFC 5280, 4.1.2.2)
constexpr size_t kSubjectBytesMax = 64;  // ub-common-name

Status Failed(Code code, std::string what) {
  char reason[256] = "";
  if (unsigned long error = ERR_peek_last_error(); error != 0) {
    ERR_error_string_n(error, reason, sizeof reason);
    what += std::string(": ") + reason;
  }
  ERR_clear_error();
  return Status(code, std::move(what));
}

Result<std::string> Drain(const Bio& bio) {
  char* data = nullptr;
  long size = BIO_get_mem_data(bio.get(), &data);
  if (size <= 0) return Failed(Code::kInternal, "writing PEM");
  return std::string(data, static_cast<size_t>(size));
}
Result<std::string> ToPem(const Cert& certificate) {
  Bio out(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(out.get(), certificate.get()) != 1) {
    return Failed(Code::kInternal, "writing a certificate");
  }
  return Drain(out);
}
Result<std::string> ToPem(const Key& key) {
  Bio out(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PKCS8PrivateKey(out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) !=
      1) {
    return Failed(Code::kInternal, "writing a key");
  }
  return Drain(out);
}
Result<Cert> CertificateOf(const std::string& pem) {
  Bio in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  Cert certificate(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
  if (!certificate) return Failed(Code::kInvalidArgument, "not a certificate in PEM");
  return certificate;
}
Result<Key> KeyOf(const std::string& pem) {
  Bio in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  char none[] = "";  // or an encrypted key would be asked for on the terminal
  Key key(PEM_read_bio_PrivateKey(in.get(), nullptr, nullptr, none));
  if (!key) return Failed(Code::kInvalidArgument, "not an unencrypted private key in PEM");
  return key;
}

bool IsAddress(const std::string& name) {
  uint8_t binary[16];
  return inet_pton(AF_INET, name.c_str(), binary) == 1 ||
         inet_pton(AF_INET6, name.c_str(), binary) == 1;
}

// "DNS:a,IP:b": the text is OpenSSL's configuration language, so nothing else may be in a name.
Result<std::string> AlternativeNames(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) {
    bool host = !name.empty() && name.size() <= 253 && name[0] != '-' && name[0] != '.' &&
                std::all_of(name.begin(), name.end(), [](char c) {
                  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                         (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
                });
    bool address = IsAddress(name);
    if (!host && !address) {
      return Status(Code::kInvalidArgument,
                    "\"" + name + "\" is neither a host name nor an address");
    }
    out += (out.empty() ? "" : ",") + std::string(address ? "IP:" : "DNS:") + name;
  }
  if (out.empty()) return Status(Code::kInvalidArgument, "a certificate needs a name or address");
  return out;
}

Status Extend(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  Extension extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  if (!extension || X509_add_ext(certificate, extension.get(), -1) != 1) {
    return Failed(Code::kInternal, "extension " + std::string(OBJ_nid2sn(nid)));
  }
  return Status::Ok();
}

// Everything that authorities and others have in common.
Result<Cert> NewCertificate(const std::string& subject, Validity validity, EVP_PKEY* key) {
  bool printable = std::all_of(subject.begin(), subject.end(),
                               [](char c) { return c >= ' ' && static_cast<uint8_t>(c) != 0x7f; });
  if (subject.empty() || subject.size() > kSubjectBytesMax || !printable) {
    return Status(Code::kInvalidArgument, "a subject has 1 to 64 printable bytes");
  }
  if (validity.until <= validity.from) {
    return Status(Code::kInvalidArgument, "a certificate that ends before it begins");
  }
  Cert certificate(X509_new());
  Number serial(BN_new());
  if (!certificate || !serial ||
      BN_rand(serial.get(), kSerialBits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) != 1 ||
      BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate.get())) == nullptr ||
      X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
      ASN1_TIME_set(X509_getm_notBefore(certificate.get()), validity.from) == nullptr ||
      ASN1_TIME_set(X509_getm_notAfter(certificate.get()), validity.until) == nullptr ||
      X509_set_pubkey(certificate.get(), key) != 1 ||
      X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const uint8_t*>(subject.data()),
                                 static_cast<int>(subject.size()), -1, 0) != 1) {
    return Failed(Code::kInvalidArgument, "a certificate for " + subject);
  }
  return certificate;
}

int64_t Seconds(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  return timegm(&parts);
}

std::string Text(const GENERAL_NAME* name) {
  if (name->type == GEN_DNS) {
    return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                       static_cast<size_t>(ASN1_STRING_length(name->d.dNSName)));
  }
  if (name->type != GEN_IPADD) return "";
  char text[INET6_ADDRSTRLEN] = "";
  int bytes = ASN1_STRING_length(name->d.iPAddress);
  if (bytes != 4 && bytes != 16) return "";
  inet_ntop(bytes == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(name->d.iPAddress), text,
            sizeof text);
  return text;
}

}  // namespace

Result<CertifiedKey> MakeAuthority(const std::string& name, Validity validity) {
  Key key(EVP_EC_gen("P-256"));
  if (!key) return Failed(Code::kInternal, "making a key");
  PERIGEE_ASSIGN(Cert certificate, NewCertificate(name, validity, key.get()));
  X509* self = certificate.get();
  if (X509_set_issuer_name(self, X509_get_subject_name(self)) != 1) {
    return Failed(Code::kInternal, "naming an authority");
  }
  PERIGEE_TRY(Extend(self, self, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
  PERIGEE_TRY(Extend(self, self, NID_key_usage, "critical,keyCertSign,cRLSign"));
  PERIGEE_TRY(Extend(self, self, NID_subject_key_identifier, "hash"));
  if (X509_sign(self, key.get(), EVP_sha256()) == 0) {
    return Failed(Code::kInternal, "signing an authority");
  }
  CertifiedKey out;
  PERIGEE_ASSIGN(out.certificate, ToPem(certificate));
  PERIGEE_ASSIGN(out.key, ToPem(key));
  return out;
}

Result<CertifiedKey> IssueCertificate(const CertifiedKey& authority,
                                      const CertificateOrder& order) {
  PERIGEE_ASSIGN(Cert issuer, CertificateOf(authority.certificate));
  PERIGEE_ASSIGN(Key issuer_key, KeyOf(authority.key));
  if (X509_check_private_key(issuer.get(), issuer_key.get()) != 1 ||
      X509_check_ca(issuer.get()) != 1) {
    return Failed(Code::kInvalidArgument, "that is not an authority and its key");
  }
  PERIGEE_ASSIGN(std::string names, AlternativeNames(order.names));
  Key key;
  if (order.key.empty()) {
    key.reset(EVP_EC_gen("P-256"));
    if (!key) return Failed(Code::kInternal, "making a key");
  } else {
    PERIGEE_ASSIGN(key, KeyOf(order.key));
  }
  Validity validity = order.validity;
  validity.until = std::min(validity.until, Seconds(X509_get0_notAfter(issuer.get())));
  PERIGEE_ASSIGN(Cert certificate, NewCertificate(order.subject, validity, key.get()));
  X509* self = certificate.get();
  if (X509_set_issuer_name(self, X509_get_subject_name(issuer.get())) != 1) {
    return Failed(Code::kInternal, "naming the issuer");
  }
  PERIGEE_TRY(Extend(self, issuer.get(), NID_basic_constraints, "critical,CA:FALSE"));
  PERIGEE_TRY(Extend(self, issuer.get(), NID_key_usage, "critical,digitalSignature"));
  PERIGEE_TRY(Extend(self, issuer.get(), NID_ext_key_usage, "serverAuth,clientAuth"));
  PERIGEE_TRY(Extend(self, issuer.get(), NID_subject_alt_name, names));
  PERIGEE_TRY(Extend(self, issuer.get(), NID_subject_key_identifier, "hash"));
  PERIGEE_TRY(Extend(self, issuer.get(), NID_authority_key_identifier, "keyid:always"));
  if (X509_sign(self, issuer_key.get(), EVP_sha256()) == 0) {
    return Failed(Code::kInternal, "signing a certificate");
  }
  CertifiedKey out;
  PERIGEE_ASSIGN(out.certificate, ToPem(certificate));
  PERIGEE_ASSIGN(out.key, ToPem(key));
  return out;
}

Result<CertificateInfo> InspectCertificate(const std::string& pem) {
  PERIGEE_ASSIGN(Cert certificate, CertificateOf(pem));
  CertificateInfo info;
  char subject[kSubjectBytesMax + 1] = "";
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, subject,
                            sizeof subject);
  info.subject = subject;
  info.validity.from = Seconds(X509_get0_notBefore(certificate.get()));
  info.validity.until = Seconds(X509_get0_notAfter(certificate.get()));
  info.authority = X509_check_ca(certificate.get()) == 1;
  Names names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    std::string text = Text(sk_GENERAL_NAME_value(names.get(), i));
    if (!text.empty()) info.names.push_back(std::move(text));
  }
  return info;
}

}  // namespace perigee
