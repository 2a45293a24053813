#include "objectd/s3/connection.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/failpoint.h"
#include "objectd/s3/errors.h"
#include "objectd/s3/time_format.h"

namespace perigee::objectd::s3 {

namespace {

constexpr size_t kBufferBytes = 16 << 10;
constexpr uint64_t kDrainBytesMax = 256 << 10;  // of an unread body, to keep the connection
constexpr uint64_t kLingerBytesMax = 4 << 20;   // swallowed so that the client can read our refusal
constexpr Nanos kWaitSlice = kSecond;           // patience may end while we wait

// Dates change once a second; formatting one costs as much as the rest of a head.
const std::string& DateOf(Nanos wall) {
  thread_local Nanos second = -1;
  thread_local std::string text;
  if (wall / kSecond != second) {
    second = wall / kSecond;
    text = FormatHttpDate(wall);
  }
  return text;
}

// The request's body on the connection; sends "100 Continue" when the client waits for it and
// somebody wants to read.
class WireBody final : public BodyReader {
 public:
  WireBody(Connection& connection, const RequestHead& head)
      : connection_(connection),
        left_(head.content_length.value_or(0)),
        expects_continue_(head.http11 &&
                          EqualsIgnoreCase(head.headers.Get("expect"), "100-continue")) {
    if (head.chunked) chunked_.emplace(connection);
    done_ = !head.chunked && left_ == 0;
  }

  Result<size_t> Read(MutableBytes out) override {
    // For an empty body too: botocore, answered without it, misreads the next response on the
    // connection.
    if (expects_continue_) {
      expects_continue_ = false;
      PERIGEE_TRY(connection_.Send("HTTP/1.1 100 Continue\r\n\r\n", {}));
    }
    if (done_) return size_t{0};
    if (chunked_) {
      PERIGEE_ASSIGN(size_t n, chunked_->Read(out));
      done_ = n == 0;
      return n;
    }
    PERIGEE_ASSIGN(
        size_t n,
        connection_.Read(out.first(static_cast<size_t>(std::min<uint64_t>(out.size(), left_)))));
    if (n == 0)
      return Status(Code::kUnavailable, "the client closed the connection inside the body");
    left_ -= n;
    done_ = left_ == 0;
    return n;
  }

  // Whether the next request can follow: what has arrived of an unread body is read away, if it is
  // little, but nobody waits for the rest. A client that was not told to continue may or may not
  // send its body.
  bool Finish() {
    if (done_ || expects_continue_ || chunked_ || left_ > kDrainBytesMax)
      return done_ && !expects_continue_;
    left_ -= connection_.DiscardArrived(left_);
    done_ = left_ == 0;
    return done_;
  }

 private:
  Connection& connection_;
  uint64_t left_;
  bool expects_continue_;
  bool done_ = false;
  std::optional<ChunkedBody> chunked_;
};

class WireResponse final : public ResponseWriter {
 public:
  // `body` null: the request could not be read, and the connection ends.
  WireResponse(Connection& connection, Clock& clock, WireBody* body, bool head_only,
               bool keep_alive)
      : connection_(connection),
        clock_(clock),
        body_(body),
        head_only_(head_only),
        keep_alive_(keep_alive) {}

  void Send(const ResponseHead& head, std::string_view body) override {
    PERIGEE_CHECK(!started_);
    bool bodiless = head.status == 204 || head.status == 304;
    std::string text = Format(head, bodiless ? std::nullopt : std::optional<uint64_t>(body.size()));
    if (head_only_ || bodiless) body = {};
    Put(text, AsBytes(body));
    left_ = 0;
  }
  void Start(const ResponseHead& head, uint64_t content_length) override {
    PERIGEE_CHECK(!started_);
    std::string text = Format(head, content_length);
    left_ = head_only_ ? 0 : content_length;
    if (left_ == 0) {
      Put(text, {});
    } else {
      held_ = std::move(text);  // goes out with the first bytes of the body
    }
  }
  void Write(ConstBytes data) override {
    PERIGEE_CHECK(data.size() <= left_);
    left_ -= data.size();
    Put(held_, data);
    held_.clear();
  }
  bool started() const override { return started_; }
  bool ok() const override { return ok_; }
  void Abort() override { ok_ = false; }

  bool complete() const { return started_ && ok_ && left_ == 0; }
  bool keep_alive() const { return keep_alive_; }

 private:
  std::string Format(const ResponseHead& head, std::optional<uint64_t> length) {
    started_ = true;
    keep_alive_ = keep_alive_ && body_ && body_->Finish();
    std::string text;
    text.reserve(512);
    AppendResponseHead(&text, head, {length, DateOf(clock_.Wall()), request_id(), keep_alive_});
    return text;
  }
  void Put(std::string_view head, ConstBytes body) {
    PERIGEE_FAILPOINT(s3_reply_before);
    if (ok_) ok_ = connection_.Send(head, body).ok();
    PERIGEE_FAILPOINT(s3_reply_after);
  }

  Connection& connection_;
  Clock& clock_;
  WireBody* const body_;
  const bool head_only_;
  bool keep_alive_;
  bool started_ = false, ok_ = true;
  uint64_t left_ = 0;
  std::string held_;
};

void SendBadHead(ResponseWriter& response, const Status& why) {
  Error error{
      why.Is(Code::kUnimplemented) ? ErrorCode::kNotImplemented : ErrorCode::kInvalidRequest,
      why.message()};
  ResponseHead head;
  head.status = InfoOf(error.code).http_status;
  head.headers.Add("Content-Type", "application/xml");
  response.Send(head, ErrorXml(error, "", ""));
}

}  // namespace

Connection::Connection(int fd, Patience& patience, Clock& clock)
    : fd_(fd), patience_(patience), clock_(clock) {}

void Connection::Shutdown() { ::shutdown(fd_, SHUT_RDWR); }

void Connection::MakeRoom() {
  if (at_ == end_) at_ = end_ = 0;
  if (end_ < capacity_) return;
  if (at_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + at_, end_ - at_);
    end_ -= at_;
    at_ = 0;
    return;
  }
  size_t bigger = capacity_ == 0 ? kBufferBytes : capacity_ * 2;
  // make_unique would zero it first.
  std::unique_ptr<char[]> next(new char[bigger]);
  if (end_ > 0) std::memcpy(next.get(), buffer_.get(), end_);
  buffer_ = std::move(next);
  capacity_ = bigger;
}

Connection::Intake Connection::CheckBuffered() const {
  size_t head = FindHeadEnd(buffered());
  if (head > kRequestHeadBytesMax) return Intake::kTooLong;
  if (head > 0) return Intake::kHeadReady;
  return end_ - at_ >= kRequestHeadBytesMax ? Intake::kTooLong : Intake::kMore;
}

Connection::Intake Connection::ReadAvailable() {
  while (true) {
    MakeRoom();
    ssize_t n = ::recv(fd_, buffer_.get() + end_, capacity_ - end_, MSG_DONTWAIT);
    if (n == 0) return Intake::kClosed;
    if (n < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN || errno == EWOULDBLOCK ? Intake::kMore : Intake::kClosed;
    }
    end_ += static_cast<size_t>(n);
    Intake state = CheckBuffered();
    // A full buffer may mean that more waits; else one recv per wake-up is enough.
    if (state != Intake::kMore || end_ < capacity_) return state;
  }
}

void Connection::ReleaseIdleBuffer() {
  if (has_bytes()) return;
  buffer_.reset();
  capacity_ = at_ = end_ = 0;
}

void Connection::SendNow(std::string_view bytes) {
  // Whether it arrives is the client's luck: the connection is closed next.
  (void)!::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

Status Connection::WaitFor(short events) {
  Patience::Waiting waiting(patience_);
  while (true) {
    Nanos left = patience_.Left(debt_);
    if (left <= 0) return Status(Code::kDeadlineExceeded, "the client stalled");
    Nanos began = clock_.Monotonic();
    pollfd p{fd_, events, 0};
    int n = ::poll(&p, 1, static_cast<int>(std::min(left, kWaitSlice) / kMillisecond + 1));
    debt_.Wait(clock_.Monotonic() - began);
    if (n > 0) return Status::Ok();
    if (n < 0 && errno != EINTR) return Status(Code::kUnavailable, std::strerror(errno));
  }
}

Result<size_t> Connection::Receive(uint8_t* out, size_t bytes) {
  while (true) {
    ssize_t n = ::recv(fd_, out, bytes, MSG_DONTWAIT);
    if (n >= 0) {
      patience_.Pay(&debt_, static_cast<uint64_t>(n));
      return static_cast<size_t>(n);
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK)
      return Status(Code::kUnavailable, std::strerror(errno));
    PERIGEE_TRY(WaitFor(POLLIN));
  }
}

Result<std::string_view> Connection::Peek() {
  if (at_ == end_) {
    MakeRoom();
    PERIGEE_ASSIGN(size_t n,
                   Receive(reinterpret_cast<uint8_t*>(buffer_.get()) + end_, capacity_ - end_));
    end_ += n;
  }
  return buffered();
}

Result<size_t> Connection::Read(MutableBytes out) {
  if (at_ == end_) return Receive(out.data(), out.size());
  size_t n = std::min(out.size(), end_ - at_);
  std::memcpy(out.data(), buffer_.get() + at_, n);
  at_ += n;
  return n;
}

Status Connection::Send(std::string_view head, ConstBytes body) {
  iovec parts[2] = {{const_cast<char*>(head.data()), head.size()},
                    {const_cast<uint8_t*>(body.data()), body.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  while (parts[0].iov_len + parts[1].iov_len > 0) {
    ssize_t n = ::sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK)
        return Status(Code::kUnavailable, std::strerror(errno));
      PERIGEE_TRY(WaitFor(POLLOUT));
      continue;
    }
    patience_.Pay(&debt_, static_cast<uint64_t>(n));
    for (iovec& part : parts) {
      size_t took = std::min<size_t>(static_cast<size_t>(n), part.iov_len);
      part.iov_base = static_cast<char*>(part.iov_base) + took;
      part.iov_len -= took;
      n -= static_cast<ssize_t>(took);
    }
  }
  return Status::Ok();
}

After Connection::ServeOne(const RequestHandler& handler) {
  debt_ = {};
  size_t head_bytes = FindHeadEnd(buffered());
  PERIGEE_CHECK(head_bytes > 0);
  Result<RequestHead> head = ParseHead(buffered().substr(0, head_bytes));
  at_ += head_bytes;
  if (!head.ok()) {
    WireResponse refusal(*this, clock_, nullptr, false, false);
    SendBadHead(refusal, head.status());
    return After::kLinger;
  }
  WireBody body(*this, *head);
  WireResponse response(*this, clock_, &body, head->method == "HEAD",
                        head->keep_alive && head->http11);
  Request request{*head, body};
  handler(request, response);
  PERIGEE_CHECK(response.started() || !response.ok());
  if (!response.complete()) return After::kClose;
  return response.keep_alive() ? After::kNextRequest : After::kLinger;
}

uint64_t Connection::DiscardArrived(uint64_t bytes) {
  uint64_t gone = std::min<uint64_t>(bytes, end_ - at_);
  at_ += static_cast<size_t>(gone);
  uint8_t sink[16 << 10];
  while (gone < bytes) {
    size_t want = static_cast<size_t>(std::min<uint64_t>(bytes - gone, sizeof sink));
    ssize_t n = ::recv(fd_, sink, want, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    gone += static_cast<uint64_t>(n);
  }
  return gone;
}

void Connection::BeginLinger() {
  ::shutdown(fd_, SHUT_WR);
  at_ = end_;
  ReleaseIdleBuffer();
}

bool Connection::Linger() {
  uint8_t sink[16 << 10];
  ssize_t n = ::recv(fd_, sink, sizeof sink, MSG_DONTWAIT);
  if (n < 0) return errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK;
  lingered_bytes_ += static_cast<uint64_t>(n);
  return n > 0 && lingered_bytes_ < kLingerBytesMax;
}

}  // namespace perigee::objectd::s3
