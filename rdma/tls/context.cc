#include "rdma/tls/context.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include <utility>

#include "base/log.h"

namespace perigee::rdma::tls {

namespace {
// The fastest first; all three have 128 bits or more.
constexpr const char* kCiphers =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr size_t kReadAheadBytes = 64 << 10;  // several records a system call

Status Unusable(const char* what, const std::string& file) {
  return Status(Code::kInvalidArgument, std::string(what) + " " + file + ": " + TakeTlsError());
}
}  // namespace

std::string TakeTlsError() {
  unsigned long error = ERR_peek_last_error();
  char text[256] = "";
  if (error != 0) {
    const char* reason = ERR_reason_error_string(error);
    if (reason != nullptr) {
      ERR_clear_error();
      return reason;
    }
    ERR_error_string_n(error, text, sizeof text);
  }
  ERR_clear_error();
  return text[0] != '\0' ? text : "no reason given";
}

Result<std::unique_ptr<TlsContext>> TlsContext::Create(TlsOptions options) {
  std::unique_ptr<TlsContext> context(new TlsContext(std::move(options)));
  context->stamp_ = context->Stamp();
  PERIGEE_ASSIGN(context->context_, context->Load());
  return context;
}

std::string TlsContext::Stamp() const {
  std::string stamp;
  for (const std::string* file : {&options_.ca_file, &options_.cert_file, &options_.key_file}) {
    struct stat st {};
    if (stat(file->c_str(), &st) != 0) st = {};
    for (auto part :
         {static_cast<int64_t>(st.st_ino), static_cast<int64_t>(st.st_size),
          static_cast<int64_t>(st.st_mtim.tv_sec), static_cast<int64_t>(st.st_mtim.tv_nsec)}) {
      stamp += std::to_string(part) + " ";
    }
  }
  return stamp;
}

Result<std::shared_ptr<SSL_CTX>> TlsContext::Load() const {
  ERR_clear_error();
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_method()), SSL_CTX_free);
  if (!context) return Status(Code::kInternal, "SSL_CTX_new: " + TakeTlsError());
  SSL_CTX* raw = context.get();
  // Or an encrypted key would be asked for on the terminal.
  SSL_CTX_set_default_passwd_cb(raw, [](char*, int, int, void*) { return -1; });
  if (SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(raw, kCiphers) != 1) {
    return Status(Code::kInternal, "TLS 1.3: " + TakeTlsError());
  }
  if (SSL_CTX_load_verify_locations(raw, options_.ca_file.c_str(), nullptr) != 1) {
    return Unusable("the authority", options_.ca_file);
  }
  if (SSL_CTX_use_certificate_chain_file(raw, options_.cert_file.c_str()) != 1) {
    return Unusable("the certificate", options_.cert_file);
  }
  if (SSL_CTX_use_PrivateKey_file(raw, options_.key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(raw) != 1) {
    return Unusable("the key", options_.key_file);
  }
  SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(raw, 0);
  SSL_CTX_set_mode(raw, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_read_ahead(raw, 1);
  SSL_CTX_set_default_read_buffer_len(raw, kReadAheadBytes);
  return context;
}

std::shared_ptr<SSL_CTX> TlsContext::Get() {
  std::string stamp = Stamp();
  std::lock_guard lock(mu_);
  if (stamp == stamp_) return context_;
  stamp_ = std::move(stamp);
  auto loaded = Load();
  if (loaded.ok()) {
    context_ = std::move(*loaded);
    log::Info("rdma_tls_reloaded", {{"certificate", options_.cert_file}});
  } else {
    log::Warn("rdma_tls_not_reloaded", {{"why", loaded.status()}});
  }
  return context_;
}

}  // namespace perigee::rdma::tls
