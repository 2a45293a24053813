#pragma once
// TlsContext: this node's certificate, key and authority as OpenSSL wants them. TLS 1.3 only, both
// sides show a certificate of the cluster's authority, no resumption: each connection is verified
// anew. Get looks at the files, so that renewed ones serve the next connection; when they cannot be
// used the former ones stay, and one log line says why. Thread-safe.

#include <memory>
#include <mutex>
#include <string>

#include "base/status.h"
#include "rdma/transport.h"

struct ssl_ctx_st;

namespace perigee::rdma::tls {

class TlsContext {
 public:
  // kInvalidArgument names the file that cannot be used.
  static Result<std::unique_ptr<TlsContext>> Create(TlsOptions options);
  std::shared_ptr<ssl_ctx_st> Get();

 private:
  explicit TlsContext(TlsOptions options) : options_(std::move(options)) {}
  std::string Stamp() const;  // changes when a file does
  Result<std::shared_ptr<ssl_ctx_st>> Load() const;

  const TlsOptions options_;
  std::mutex mu_;  // guards what follows
  std::string stamp_;
  std::shared_ptr<ssl_ctx_st> context_;
};

// What OpenSSL says about the newest failures of this thread, which are then forgotten.
std::string TakeTlsError();

}  // namespace perigee::rdma::tls
