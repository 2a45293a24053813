// Bytes on a connection as a client may send them: several requests one behind the other, bodies of
// either framing, handlers that read all, some or none of them.

#include <sys/socket.h>
#include <unistd.h>

#include "objectd/s3/connection.h"
#include "rdma/transport.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::objectd::s3;
using Intake = Connection::Intake;

// How much of its body a method's handler reads.
size_t ReadsWanted(const std::string& method) {
  if (method == "PUT") return ~size_t{0};
  return method == "POST" ? 1 : 0;
}

class Client {
 public:
  explicit Client(std::string_view bytes) {
    int fds[2];
    PERIGEE_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    mine_.Reset(fds[0]);
    theirs_.Reset(fds[1]);
    ssize_t sent = ::send(mine_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes_sent_ = sent > 0 ? static_cast<size_t>(sent) : 0;
    ::shutdown(mine_.get(), SHUT_WR);
  }
  int server_fd() const { return theirs_.get(); }
  size_t bytes_sent() const { return bytes_sent_; }
  void Drain() {
    char sink[16 << 10];
    while (::recv(mine_.get(), sink, sizeof sink, MSG_DONTWAIT) > 0) {
    }
  }

 private:
  rdma::OwnedFd mine_, theirs_;
  size_t bytes_sent_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Client client(AsView(ConstBytes(data, size)));
  Patience patience({.timeout = 5 * kSecond});
  Connection connection(client.server_fd(), patience, RealClock::Get());
  size_t body_bytes = 0, requests = 0;
  const RequestHandler handler = [&](Request& request, ResponseWriter& response) {
    ++requests;
    uint64_t here = 0;
    uint8_t piece[777];
    for (size_t i = 0; i < ReadsWanted(request.head.method); ++i) {
      Result<size_t> n = request.body.Read(piece);
      if (!n.ok() || *n == 0) break;
      PERIGEE_CHECK(*n <= sizeof piece);
      here += *n;
    }
    PERIGEE_CHECK(here <= request.head.content_length.value_or(UINT64_MAX));
    body_bytes += here;
    response.Send({}, std::to_string(here));
  };
  while (true) {
    Intake state = connection.has_bytes() ? connection.CheckBuffered() : Intake::kMore;
    while (state == Intake::kMore) state = connection.ReadAvailable();
    if (state != Intake::kHeadReady) break;
    After after = connection.ServeOne(handler);
    client.Drain();
    if (after == After::kLinger) {
      connection.BeginLinger();
      while (connection.Linger()) {
      }
    }
    if (after != After::kNextRequest) break;
  }
  PERIGEE_CHECK(body_bytes + requests <= client.bytes_sent());
  return 0;
}
