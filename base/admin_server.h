#pragma once
// The read-only admin door of a daemon: GET /metrics (Prometheus text), /healthz ("ok", or 503 and
// why), over HTTP/1.1. One thread, at most 64 connections, 5 s a request. Anything else: 404/405.
// Thread-safe.

#include <functional>
#include <memory>
#include <string>

#include "base/metrics.h"
#include "base/status.h"

namespace perigee {

class AdminServer {
 public:
  // listen: "127.0.0.1:9001"; port 0 takes a free one. health: ok, or what is wrong.
  static Result<std::unique_ptr<AdminServer>> Start(const std::string& listen,
                                                    metrics::Registry* registry,
                                                    std::function<Status()> health);
  virtual ~AdminServer() = default;
  virtual std::string address() const = 0;  // as bound
  virtual void Stop() = 0;
};

}  // namespace perigee
