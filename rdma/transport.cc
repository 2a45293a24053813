#include "rdma/transport.h"

#include <unistd.h>

#include <atomic>
#include <optional>
#include <utility>

#include "base/event.h"

namespace perigee::rdma {

void OwnedFd::Reset(int fd) {
  if (fd_ >= 0 && fd_ != fd) ::close(fd_);
  fd_ = fd;
}

uint64_t NextConnectionId() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

Result<Payload> Channel::CallAndWait(wire::Method method, std::string header, ConstBytes bulk,
                                     CallOptions options) {
  struct Wait {
    Event done;
    std::optional<Result<Payload>> result;
  };
  auto wait = std::make_shared<Wait>();
  Call(method, std::move(header), bulk, options, [wait](Result<Payload> result) {
    wait->result.emplace(std::move(result));
    wait->done.Set();
  });
  // Bounded: every provider finishes a call at its deadline.
  wait->done.Wait();
  return std::move(*wait->result);
}

}  // namespace perigee::rdma
