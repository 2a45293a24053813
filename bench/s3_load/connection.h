#pragma once
// Connection: HTTP/1.1 over one socket that is kept alive, blocking. Takes just what the servers of
// a measurement answer (a Content-Length, no chunks); anything else is an error, never a guess.
// Thread rule: one thread.

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/options.h"
#include "base/status.h"
#include "rdma/transport.h"

namespace perigee::bench {

class Connection {
 public:
  // Takes a body's bytes in order, as they come.
  using Sink = std::function<Status(std::string_view)>;

  static Result<std::unique_ptr<Connection>> Open(const HostPort& to);
  // Sends `head` and `body` and gives the answer's body to `sink`. Errors: kUnavailable (the
  // connection broke), kIo (another status than 200 or 204; the message has the answer),
  // kCorrupt (not HTTP as above), and what `sink` returns; the connection is of no use after one.
  Status Call(std::string_view head, std::string_view body, const Sink& sink);

 private:
  explicit Connection(rdma::OwnedFd fd) : fd_(std::move(fd)), buffer_(kBufferBytes, '\0') {}
  static constexpr size_t kBufferBytes = 256 << 10;

  Status Send(std::string_view head, std::string_view body);
  Result<size_t> Receive(size_t at);  // into the buffer from `at`

  rdma::OwnedFd fd_;
  std::string buffer_;
};

}  // namespace perigee::bench
