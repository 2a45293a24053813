#pragma once
// S3Server: the S3 endpoint of objectd. Path-style addresses over HTTP/1.1, AWS Signature Version
// 4, one root credential.
//
// Durability: a write is answered when the namespace says that its commit, and the blobs under it,
// are on stable storage. Threads: a loop thread for connections, `pool` for requests (one thread
// each while served), threads of its own for requests beyond the pool's, since slow clients keep
// theirs waiting, and helpers for reading ahead and hashing. The pool waits for helpers and for
// what BlobIoDeps and BurstPeers wait for, never the other way round. Thread-safe. Everything in
// S3Deps must outlive the server; stop the server before its pool.

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/scheduler.h"
#include "base/status.h"
#include "client/blob/blob_io.h"
#include "objectd/meta/namespace.h"
#include "objectd/s3/burst_source.h"

namespace perigee::objectd {

struct S3Options {
  std::string listen = "127.0.0.1:9000";  // an IP address; port 0 takes a free one
  std::string access_key, secret_key;     // both needed
  std::string region = "us-east-1";
  uint32_t pool_threads = 32;  // of S3Deps::pool
  uint32_t connections_max = 12000;
  uint32_t loop_threads = 1;
  uint32_t helper_threads = 0;             // 0: one for each core, at most 16
  uint64_t buffer_bytes_max = 256 << 20;   // of bodies on their way, all requests together
  uint64_t document_bytes_max = 32 << 20;  // of XML being read and lists being made, the same
  Nanos head_timeout = 30 * kSecond;
  Nanos body_timeout = 30 * kSecond;   // of silence, or below the rate; see patience.h
  uint64_t body_rate_min = 1 << 10;    // bytes a second
  Nanos idle_timeout = 300 * kSecond;  // between requests of a connection
};

struct S3Deps {
  Namespace* ns = nullptr;
  client::BlobIoDeps blobs;     // cluster null: only inline and burst content can be served
  BurstPeers* peers = nullptr;  // null: burst content is answered with 503
  Scheduler* pool = nullptr;
  Clock* clock = nullptr;  // for signatures
  metrics::Registry* metrics = nullptr;
};

class S3Server {
 public:
  // kInvalidArgument for options that make no sense; errors of bind(2) with the address.
  static Result<std::unique_ptr<S3Server>> Start(S3Options options, S3Deps deps);
  virtual ~S3Server() = default;
  virtual std::string address() const = 0;  // as bound: "127.0.0.1:9000"
  virtual void Stop() = 0;                  // waits for requests being served, for a few seconds
};

}  // namespace perigee::objectd
