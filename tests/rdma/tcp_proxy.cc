#include "tests/rdma/tcp_proxy.h"

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace perigee::rdma {

namespace {
constexpr size_t kChunk = 16 << 10;
constexpr int kSmallBuffer = 64 << 10;
constexpr int kTurnMs = 2;

Nanos Now() { return RealClock::Get().Monotonic(); }
sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}
void Reset(OwnedFd& fd) {
  linger now{1, 0};
  (void)setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  fd.Reset(-1);
}
}  // namespace

TcpProxy::TcpProxy(uint16_t target)
    : target_(target), listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
  // Accepted sockets inherit it: a large one would take what a test means to hold back.
  REQUIRE(setsockopt(listener_.get(), SOL_SOCKET, SO_RCVBUF, &kSmallBuffer, sizeof kSmallBuffer) ==
          0);
  sockaddr_in address = Loopback(0);
  socklen_t length = sizeof address;
  REQUIRE(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
  REQUIRE(listen(listener_.get(), 64) == 0);
  REQUIRE(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { Run(); });
}

TcpProxy::~TcpProxy() {
  stop_ = true;
  thread_.join();
}

void TcpProxy::Accept() {
  OwnedFd in(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (in.get() < 0) return;
  auto relay = std::make_unique<Relay>();
  relay->ends[0] = std::move(in);
  relay->ends[1].Reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  (void)setsockopt(relay->ends[1].get(), SOL_SOCKET, SO_RCVBUF, &kSmallBuffer, sizeof kSmallBuffer);
  sockaddr_in address = Loopback(target_);
  if (connect(relay->ends[1].get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return Reset(relay->ends[0]);
  }
  relays_.push_back(std::move(relay));
}

void TcpProxy::Move(Relay& relay, int from) {
  std::vector<uint8_t>& held = relay.held[from];
  if (silent_ || Now() < relay.ready[from]) return;
  if (held.empty()) {
    held.resize(kChunk);
    ssize_t n = recv(relay.ends[from].get(), held.data(), held.size(), MSG_DONTWAIT);
    held.resize(n > 0 ? static_cast<size_t>(n) : 0);
    Spoil(held);
    if (n == 0 || (n < 0 && errno != EAGAIN)) relay.over = true;
  }
  if (held.empty()) return;
  auto allowed = static_cast<size_t>(std::clamp<int64_t>(until_cut_, 0, kChunk));
  ssize_t n = send(relay.ends[1 - from].get(), held.data(), std::min(held.size(), allowed),
                   MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n > 0) {
    held.erase(held.begin(), held.begin() + n);
    until_cut_ -= n;
    if (uint64_t rate = rate_) {
      relay.ready[from] = std::max(relay.ready[from], Now() - 20 * kMillisecond) +
                          n * kSecond / static_cast<Nanos>(rate);
    }
  } else if (n < 0 && errno != EAGAIN) {
    relay.over = true;
  }
  if (until_cut_ <= 0) relay.over = true;
}

void TcpProxy::Spoil(std::vector<uint8_t>& bytes) {
  if (until_spoiled_ == INT64_MAX) return;
  auto size = static_cast<int64_t>(bytes.size());
  if (until_spoiled_ < size) {
    bytes[static_cast<size_t>(until_spoiled_)] ^= 1;
    until_spoiled_ = INT64_MAX;
  } else {
    until_spoiled_ -= size;
  }
}

void TcpProxy::Run() {
  while (!stop_) {
    std::vector<pollfd> waits{{listener_.get(), POLLIN, 0}};
    for (auto& relay : relays_) {
      for (int i = 0; i < 2; ++i) {
        bool idle = !silent_ && relay->held[i].empty() && Now() >= relay->ready[i];
        if (idle) waits.push_back({relay->ends[i].get(), POLLIN, 0});
      }
    }
    (void)poll(waits.data(), waits.size(), kTurnMs);
    Accept();
    for (auto& relay : relays_) {
      for (int from = 0; from < 2; ++from) Move(*relay, from);
    }
    bool cut = until_cut_ <= 0;
    std::erase_if(relays_, [cut](auto& relay) {
      if (!relay->over && !cut) return false;
      for (OwnedFd& end : relay->ends) Reset(end);
      return true;
    });
    if (cut) until_cut_ = INT64_MAX;
  }
}

}  // namespace perigee::rdma
