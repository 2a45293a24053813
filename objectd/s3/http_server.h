#pragma once
// HttpServer: the listening socket and all connections. A loop thread (Asio) accepts and watches
// connections that wait for a request, so idle ones cost no thread; when a request's head is
// complete the connection goes to the pool, where one blocking call serves it, and comes back
// (docs/decisions/0001). Pipelined requests are served one after the other.
//
// Bounds: connections_max (more: 503 and closed), the pool's queue (full: 503 SlowDown), head size
// and the timeouts of ConnectionLimits. Thread-safe. Stop the server before its pool.

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
  Nanos stop_grace = 5 * kSecond;  // for requests being served when Stop is called
  ConnectionLimits limits;
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
