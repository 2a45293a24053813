#pragma once
// Stream: frames over one connected Unix socket, with the descriptors beside them.
//
// The reading side is used by one thread at a time (its owner decides which); the writing side
// under write_mutex(). A write never blocks: what the socket does not take is queued, and
// `on_backlog` is called once so that the owner has Flush called when the socket takes more. Memory
// grows with what actually arrived, not with what a header claims.

#include <sys/socket.h>
#include <sys/uio.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "rdma/local/bulk.h"
#include "rdma/local/frame.h"
#include "rdma/provider_core.h"

namespace perigee::rdma::local {

struct Frame {
  FrameHeader head;
  std::string_view message;  // these two until the next Receive
  ConstBytes inline_bulk;
  std::vector<OwnedFd> fds;
};

class Stream {
 public:
  Stream(OwnedFd fd, ByteCounters counters) : fd_(std::move(fd)), counters_(counters) {}

  // ---- reading side ----
  enum class Got { kBytes, kNothing, kEnd };
  // Waits up to about `timeout` for bytes (0: not at all; may return kNothing earlier).
  Result<Got> Receive(Nanos timeout);
  // False when no whole frame has arrived. A failure means that the peer breaks the rules: end the
  // connection.
  Result<bool> Next(const FrameLimits& limits, Frame* frame);

  // ---- writing side ----
  std::mutex& write_mutex() { return write_mu_; }
  void set_on_backlog(std::function<void()> fn) { on_backlog_ = std::move(fn); }
  // With write_mutex held. kUnavailable: the connection is gone.
  Status Send(const FrameHeader& head, std::string_view message, ConstBytes inline_bulk,
              std::span<const int> fds);
  // With write_mutex held: makes sure that the peer knows the slab of this pool, and the lease
  // table.
  Status Announce(const SlabPool& pool, uint32_t slab, const LeaseTable& leases);
  // With write_mutex held. True when nothing is queued any more.
  Result<bool> Flush();
  size_t backlog() const { return backlog_.load(std::memory_order_relaxed); }

  // Ends both directions; a thread in Receive returns. Thread-safe. The descriptor is closed by the
  // destructor.
  void Shutdown();
  int fd() const { return fd_.get(); }

 private:
  struct Chunk {
    std::vector<uint8_t> bytes;
    size_t done = 0;
    std::vector<OwnedFd> fds;  // go with the first byte
  };
  Status SetReceiveTimeout(Nanos timeout);
  void MakeRoom();
  Status TakeFds(msghdr* msg);
  Result<size_t> SendSome(std::span<iovec> parts, std::span<const int> fds);  // 0: not now

  OwnedFd fd_;
  ByteCounters counters_;

  // Reading side.
  std::unique_ptr<uint8_t[]> buffer_;
  size_t capacity_ = 0, begin_ = 0, end_ = 0;
  size_t wanted_ = kFrameBytes;  // bytes of the frame that is arriving
  bool filled_ = false;          // the last Receive filled the buffer
  std::deque<OwnedFd> fds_;
  Nanos receive_timeout_ = 0;  // as set on the socket; 0: none

  // Writing side.
  std::mutex write_mu_;  // guards what follows
  std::deque<Chunk> queue_;
  std::function<void()> on_backlog_;
  std::set<uint32_t> announced_;
  std::atomic<size_t> backlog_{0};
};

}  // namespace perigee::rdma::local
