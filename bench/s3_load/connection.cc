#include "bench/s3_load/connection.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <optional>

#include "objectd/s3/http.h"

namespace perigee::bench {
namespace {

using objectd::s3::AsciiLower;
using objectd::s3::ParseDecimal;
using objectd::s3::TrimBlanks;

struct ReplyHead {
  uint64_t status = 0;
  uint64_t length = 0;
};

Result<ReplyHead> ParseHead(std::string_view text) {
  const Status bad(Code::kCorrupt, "the answer is not understood: " + std::string(text));
  ReplyHead head;
  if (text.size() < 12 || !text.starts_with("HTTP/1.1 ")) return bad;
  std::optional<uint64_t> status = ParseDecimal(text.substr(9, 3)), length;
  if (!status) return bad;
  head.status = *status;
  for (size_t at = text.find("\r\n"); at != std::string_view::npos;) {
    const size_t end = text.find("\r\n", at + 2);
    std::string_view line = text.substr(at + 2, end == text.npos ? text.npos : end - at - 2);
    const size_t colon = line.find(':');
    if (colon != line.npos && AsciiLower(line.substr(0, colon)) == "content-length")
      length = ParseDecimal(TrimBlanks(line.substr(colon + 1)));
    at = end;
  }
  if (!length && head.status != 204) return bad;
  head.length = length.value_or(0);
  return head;
}

}  // namespace

Result<std::unique_ptr<Connection>> Connection::Open(const HostPort& to) {
  rdma::OwnedFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(to.port);
  if (::inet_pton(AF_INET, to.host.c_str(), &address.sin_addr) != 1)
    return Status(Code::kInvalidArgument, "not an IPv4 address: " + to.host);
  int on = 1;
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
    return Status::FromErrno(errno, "connect to " + to.host + ":" + std::to_string(to.port));
  return std::unique_ptr<Connection>(new Connection(std::move(fd)));
}

Status Connection::Send(std::string_view head, std::string_view body) {
  iovec parts[2] = {{const_cast<char*>(head.data()), head.size()},
                    {const_cast<char*>(body.data()), body.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  while (parts[0].iov_len + parts[1].iov_len > 0) {
    ssize_t n = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Status(Code::kUnavailable, "the connection broke while sending");
    for (iovec& part : parts) {
      size_t took = std::min<size_t>(static_cast<size_t>(n), part.iov_len);
      part.iov_base = static_cast<char*>(part.iov_base) + took;
      part.iov_len -= took;
      n -= static_cast<ssize_t>(took);
    }
  }
  return Status::Ok();
}

Result<size_t> Connection::Receive(size_t at) {
  while (true) {
    ssize_t n = ::recv(fd_.get(), buffer_.data() + at, buffer_.size() - at, 0);
    if (n > 0) return static_cast<size_t>(n);
    if (n < 0 && errno == EINTR) continue;
    return Status(Code::kUnavailable, "the connection broke before the answer's end");
  }
}

Status Connection::Call(std::string_view head, std::string_view body, const Sink& sink) {
  PERIGEE_TRY(Send(head, body));
  size_t have = 0, head_bytes;
  while ((head_bytes = std::string_view(buffer_).substr(0, have).find("\r\n\r\n")) ==
         std::string::npos) {
    if (have == buffer_.size()) return Status(Code::kCorrupt, "the answer's head has no end");
    PERIGEE_ASSIGN(size_t n, Receive(have));
    have += n;
  }
  PERIGEE_ASSIGN(ReplyHead reply, ParseHead(std::string_view(buffer_).substr(0, head_bytes)));
  const bool good = reply.status == 200 || reply.status == 204;
  std::string refusal;
  std::string_view piece = std::string_view(buffer_).substr(head_bytes + 4, have - head_bytes - 4);
  for (uint64_t left = reply.length;;) {
    if (piece.size() > left) return Status(Code::kCorrupt, "more bytes than the answer announced");
    left -= piece.size();
    if (!good) refusal.append(piece);
    if (good && !piece.empty()) PERIGEE_TRY(sink(piece));
    if (left == 0) break;
    PERIGEE_ASSIGN(size_t n, Receive(0));
    piece = std::string_view(buffer_).substr(0, n);
  }
  if (good) return Status::Ok();
  return Status(Code::kIo, "status " + std::to_string(reply.status) + ": " + refusal);
}

}  // namespace perigee::bench
