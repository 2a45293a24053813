#include "cli/s3_probe.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <ctime>
#include <fstream>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/options.h"

namespace perigee::cli {

namespace {
constexpr const char* kRegion = "us-east-1";
constexpr const char* kPayload = "UNSIGNED-PAYLOAD";
constexpr size_t kHeadBytesMax = 64 << 10;

Status SendAll(int fd, ConstBytes data) {
  while (!data.empty()) {
    ssize_t n = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Status::FromErrno(errno, "send to the S3 endpoint");
    data = data.subspan(static_cast<size_t>(n));
  }
  return Status::Ok();
}

Result<size_t> Receive(int fd, MutableBytes into) {
  while (true) {
    ssize_t n = recv(fd, into.data(), into.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Status::FromErrno(errno, "receive from the S3 endpoint");
    if (n == 0) return Status(Code::kUnavailable, "the S3 endpoint closed the connection");
    return static_cast<size_t>(n);
  }
}
}  // namespace

S3Probe::S3Probe(S3Probe&& o) noexcept
    : fd_(o.fd_),
      host_(std::move(o.host_)),
      access_key_(std::move(o.access_key_)),
      secret_key_(std::move(o.secret_key_)) {
  o.fd_ = -1;
}

S3Probe::~S3Probe() {
  if (fd_ >= 0) close(fd_);
}

Result<S3Probe> S3Probe::Connect(const std::string& endpoint, const std::string& credentials_file) {
  S3Probe probe;
  std::ifstream in(credentials_file);
  std::string name, equals, value;
  while (in >> name) {
    if (name.starts_with('[')) continue;
    in >> equals >> value;
    if (name == "aws_access_key_id") probe.access_key_ = value;
    if (name == "aws_secret_access_key") probe.secret_key_ = value;
  }
  if (probe.access_key_.empty())
    return Status(Code::kUnauthenticated, credentials_file + ": no key in it");
  probe.host_ = endpoint.substr(endpoint.find("//") + 2);
  PERIGEE_ASSIGN(HostPort address, ParseHostPort(probe.host_));
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  int err = getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (err != 0) return Status(Code::kUnavailable, endpoint + ": " + gai_strerror(err));
  probe.fd_ = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool connected = probe.fd_ >= 0 && connect(probe.fd_, found->ai_addr, found->ai_addrlen) == 0;
  freeaddrinfo(found);
  if (!connected) return Status::FromErrno(errno, "connect " + endpoint);
  int on = 1;
  setsockopt(probe.fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  timeval patience{60, 0};
  setsockopt(probe.fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return probe;
}

Result<uint64_t> S3Probe::Exchange(const std::string& method, const std::string& path,
                                   ConstBytes body) {
  time_t now = RealClock::Get().Wall() / kSecond;
  tm utc;
  gmtime_r(&now, &utc);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &utc);
  std::string date(stamp, 8), scope = date + "/" + kRegion + "/s3/aws4_request";
  std::string signed_headers = "host;x-amz-content-sha256;x-amz-date";
  std::string canonical = method + "\n" + path + "\n\nhost:" + host_ +
                          "\nx-amz-content-sha256:" + kPayload + "\nx-amz-date:" + stamp + "\n\n" +
                          signed_headers + "\n" + kPayload;
  std::string to_sign = std::string("AWS4-HMAC-SHA256\n") + stamp + "\n" + scope + "\n" +
                        HexEncode(Hash(HashKind::kSha256, canonical));
  std::string key = HmacSha256("AWS4" + secret_key_, date);
  for (const char* step : {kRegion, "s3", "aws4_request"}) key = HmacSha256(key, step);
  std::string head = method + " " + path + " HTTP/1.1\r\nHost: " + host_ +
                     "\r\nx-amz-date: " + stamp + "\r\nx-amz-content-sha256: " + kPayload +
                     "\r\nContent-Length: " + std::to_string(body.size()) +
                     "\r\nAuthorization: AWS4-HMAC-SHA256 Credential=" + access_key_ + "/" + scope +
                     ", SignedHeaders=" + signed_headers +
                     ", Signature=" + HexEncode(HmacSha256(key, to_sign)) + "\r\n\r\n";
  PERIGEE_TRY(SendAll(fd_, AsBytes(head)));
  PERIGEE_TRY(SendAll(fd_, body));

  AlignedBuffer buffer(1 << 20);
  std::string reply;
  size_t head_end;
  while ((head_end = reply.find("\r\n\r\n")) == std::string::npos) {
    if (reply.size() > kHeadBytesMax)
      return Status(Code::kCorrupt, "the S3 endpoint's reply has no end of head");
    PERIGEE_ASSIGN(size_t n, Receive(fd_, buffer.span()));
    reply.append(reinterpret_cast<char*>(buffer.data()), n);
  }
  std::string lower = reply.substr(0, head_end);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  int code = std::atoi(reply.c_str() + reply.find(' ') + 1);
  uint64_t length = 0;
  if (size_t at = lower.find("\r\ncontent-length:"); at != std::string::npos)
    length = std::strtoull(lower.c_str() + at + 17, nullptr, 10);
  uint64_t got = reply.size() - head_end - 4;
  while (got < length) {
    PERIGEE_ASSIGN(size_t n, Receive(fd_, buffer.span()));
    got += n;
  }
  if (code / 100 != 2)
    return Status(Code::kUnavailable,
                  method + " " + path + ": the S3 endpoint answered " + std::to_string(code));
  return length;
}

Status S3Probe::Put(const std::string& path, ConstBytes body) {
  return Exchange("PUT", path, body).status();
}
Result<uint64_t> S3Probe::Get(const std::string& path) { return Exchange("GET", path, {}); }
Status S3Probe::Delete(const std::string& path) { return Exchange("DELETE", path, {}).status(); }

}  // namespace perigee::cli
