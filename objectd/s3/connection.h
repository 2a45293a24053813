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
#include "objectd/s3/patience.h"

namespace perigee::objectd::s3 {

// Answers one request. The handler must have sent a response when it returns.
using RequestHandler = std::function<void(Request& request, ResponseWriter& response)>;

// What becomes of the connection after a request: kLinger: the client has its answer, but may still
// be sending.
enum class After { kNextRequest, kLinger, kClose };

class Connection : public ByteSource {
 public:
  // The descriptor stays its owner's to close.
  Connection(int fd, Patience& patience, Clock& clock);
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
  // Closing with unread bytes would reset the connection, and the client might never see our
  // answer: so it is closed for writing first, and what still comes is thrown away. False: enough
  // of that, it can be closed.
  void BeginLinger();
  bool Linger();

  // Pool side. No thread waits for a client that has not been authenticated.
  After ServeOne(const RequestHandler& handler);
  // Of a body: what has arrived of its first `bytes` is thrown away. The number of them.
  uint64_t DiscardArrived(uint64_t bytes);

  // ByteSource, waiting for the client as long as `patience` allows.
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

  const int fd_;
  Patience& patience_;
  Clock& clock_;
  Patience::Debt debt_;  // of the request being served
  std::unique_ptr<char[]> buffer_;
  size_t capacity_ = 0, at_ = 0, end_ = 0;
  uint64_t lingered_bytes_ = 0;
};

}  // namespace perigee::objectd::s3
