#pragma once
// One client connection: its bytes, and serving one request on it with blocking calls. Plain
// sockets and poll(2), each wait bounded; which thread owns the connection at a time is
// http_server.h's business. Thread rule: one owner at a time; Shutdown may be called by anyone.

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "objectd/s3/chunked_body.h"
#include "objectd/s3/http.h"
#include "objectd/s3/http_head.h"

namespace perigee::objectd::s3 {

// Answers one request. The handler must have sent a response when it returns.
using RequestHandler = std::function<void(Request& request, ResponseWriter& response)>;

struct ConnectionLimits {
  Nanos head_timeout = 30 * kSecond;   // from a request's first byte to the end of its head
  Nanos body_timeout = 30 * kSecond;   // without a byte moving, either way
  Nanos idle_timeout = 300 * kSecond;  // between requests
};

class Connection : public ByteSource {
 public:
  Connection(int fd, const ConnectionLimits& limits,
             Clock& clock);  // the descriptor stays its owner's to close
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int fd() const { return fd_; }
  void Shutdown();  // both directions; whoever owns it notices

  // Loop side. Reads what has arrived without waiting.
  enum class Intake { kMore, kHeadReady, kTooLong, kClosed };
  Intake ReadAvailable();
  Intake CheckBuffered() const;  // of bytes that came behind the last request
  bool has_bytes() const { return at_ < end_; }
  void ReleaseIdleBuffer();  // an idle connection keeps no memory
  // One try, without waiting; for the refusals that the loop sends itself.
  void SendNow(std::string_view bytes);

  // Pool side. True: ready for the next request; false: to be closed.
  bool ServeOne(const RequestHandler& handler);

  // ByteSource, waiting up to body_timeout for the client.
  Result<std::string_view> Peek() override;
  void Consume(size_t bytes) override { at_ += bytes; }
  Result<size_t> Read(MutableBytes out) override;
  // All of both, in as few packets as can be.
  Status Send(std::string_view head, ConstBytes body);

 private:
  std::string_view buffered() const { return {buffer_.get() + at_, end_ - at_}; }
  Result<size_t> Receive(uint8_t* out, size_t bytes);
  Status WaitFor(short events);
  void MakeRoom();
  void LingerBeforeClose();

  const int fd_;
  const ConnectionLimits& limits_;
  Clock& clock_;
  std::unique_ptr<char[]> buffer_;
  size_t capacity_ = 0, at_ = 0, end_ = 0;
};

}  // namespace perigee::objectd::s3
