#pragma once
// HttpServer: the listening socket and all connections. A loop thread (Asio) accepts and watches
// connections that wait for a request, so idle ones cost no thread; when a request's head is
// complete the connection goes to the pool, where one blocking call serves it, and comes back
// (docs/decisions/0001). Pipelined requests are served one after the other.
//
// Bounds: connections_max (more: 503 and closed; from three quarters on, idle connections are
// closed after pressed_idle_timeout), the pool's queue (full: 503 SlowDown), head size, the
// timeouts and Patience. Thread-safe. Stop the server before its pools.

#include <memory>
#include <string>

#include "base/metrics.h"
#include "base/scheduler.h"
#include "base/status.h"
#include "objectd/s3/connection.h"

namespace perigee::objectd::s3 {

struct HttpServerOptions {
  std::string listen = "127.0.0.1:9000";  // port 0 takes a free one
  uint32_t connections_max = 12000;
  uint32_t loop_threads = 1;
  Nanos stop_grace = 5 * kSecond;      // for requests being served when Stop is called
  Nanos head_timeout = 30 * kSecond;   // from a request's first byte to the end of its head
  Nanos idle_timeout = 300 * kSecond;  // between requests
  Nanos pressed_idle_timeout = 5 * kSecond;
  Patience::Limits patience;
  // Takes the requests beyond `pool_threads` at a time, so that clients who are slow to send or
  // read a body do not take every thread. Null: they wait in the pool's queue.
  Scheduler* overflow = nullptr;
  uint32_t pool_threads = 32;
};

class HttpServer {
 public:
  static Result<std::unique_ptr<HttpServer>> Start(HttpServerOptions options,
                                                   RequestHandler handler, Scheduler& pool,
                                                   metrics::Registry& metrics);
  virtual ~HttpServer() = default;
  virtual std::string address() const = 0;  // as bound
  virtual void Stop() = 0;                  // returns when nothing runs any more
};

}  // namespace perigee::objectd::s3
