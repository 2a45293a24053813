#include "rdma/local/stream.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>

namespace perigee::rdma::local {

namespace {
constexpr size_t kBufferSmall = 8 << 10;   // takes a small call with a page of bulk in one read
constexpr size_t kBufferLarge = 64 << 10;  // once a read filled it
constexpr size_t kFdsQueuedMax = 16;       // arrived before their frame
constexpr size_t kPartsMax = 3;

struct alignas(cmsghdr) Control {
  char bytes[CMSG_SPACE(sizeof(int) * kFdsMax)];
};
}  // namespace

// ---------------------------------------------------------------- reading

// SO_RCVTIMEO stays as it is while it is neither late nor far too early: no system call per call.
Status Stream::SetReceiveTimeout(Nanos timeout) {
  if (receive_timeout_ != 0 && receive_timeout_ <= timeout && receive_timeout_ > timeout / 4) {
    return Status::Ok();
  }
  auto us = std::bit_floor(static_cast<uint64_t>(std::max<Nanos>(timeout / kMicrosecond, 1)));
  us = std::min<uint64_t>(us, uint64_t{1} << 35);  // ten hours
  timeval tv{};
  tv.tv_sec = static_cast<time_t>(us / 1'000'000);
  tv.tv_usec = static_cast<suseconds_t>(us % 1'000'000);
  if (setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) != 0) {
    return Status::FromErrno(errno, "SO_RCVTIMEO");
  }
  receive_timeout_ = static_cast<Nanos>(us) * kMicrosecond;
  return Status::Ok();
}

void Stream::MakeRoom() {
  size_t have = end_ - begin_;
  if (have == 0) {
    begin_ = end_ = 0;
    // An idle connection keeps 8 KiB, a busy one 64.
    if (capacity_ > kBufferLarge || (capacity_ > kBufferSmall && !filled_)) {
      buffer_.reset();
      capacity_ = 0;
    }
  }
  size_t want = filled_ ? kBufferLarge : kBufferSmall;
  if (wanted_ > want) {
    // A large frame: at most twice of what has come, so that an idle claim costs nothing.
    want = std::min(wanted_, std::max(kBufferLarge, 2 * have));
  }
  if (want > capacity_ || (capacity_ - end_ == 0 && begin_ == 0)) {
    want = std::max(want, have + kBufferSmall);
    auto grown = std::make_unique_for_overwrite<uint8_t[]>(want);
    if (have > 0) std::memcpy(grown.get(), buffer_.get() + begin_, have);
    buffer_ = std::move(grown);
    capacity_ = want;
    begin_ = 0;
    end_ = have;
  } else if (begin_ > 0 && begin_ + std::max(wanted_, have + 1) > capacity_) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, have);
    begin_ = 0;
    end_ = have;
  }
}

Status Stream::TakeFds(msghdr* msg) {
  Status st;
  if ((msg->msg_flags & MSG_CTRUNC) != 0) {
    st = Status(Code::kCorrupt, "more descriptors than a frame may carry");
  }
  for (cmsghdr* c = CMSG_FIRSTHDR(msg); c != nullptr; c = CMSG_NXTHDR(msg, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      fds_.emplace_back(fd);
    }
  }
  if (st.ok() && fds_.size() > kFdsQueuedMax) {
    st = Status(Code::kCorrupt, "descriptors that belong to no frame");
  }
  return st;
}

Result<Stream::Got> Stream::Receive(Nanos timeout) {
  int flags = MSG_CMSG_CLOEXEC;
  if (timeout > 0) {
    PERIGEE_TRY(SetReceiveTimeout(timeout));
  } else {
    flags |= MSG_DONTWAIT;
  }
  MakeRoom();
  iovec part{buffer_.get() + end_, capacity_ - end_};
  Control control;
  msghdr msg{};
  msg.msg_iov = &part;
  msg.msg_iovlen = 1;
  msg.msg_control = control.bytes;
  msg.msg_controllen = sizeof control.bytes;
  ssize_t n = recvmsg(fd_.get(), &msg, flags);
  if (n < 0) {
    if (errno == EAGAIN || errno == EINTR) return Got::kNothing;
    if (errno == ECONNRESET) return Got::kEnd;
    return Status::FromErrno(errno, "recvmsg");
  }
  if (n == 0) return Got::kEnd;
  filled_ = static_cast<size_t>(n) == part.iov_len;
  end_ += static_cast<size_t>(n);
  if (counters_.received != nullptr) counters_.received->Add(static_cast<double>(n));
  if (msg.msg_controllen > 0 || (msg.msg_flags & MSG_CTRUNC) != 0) PERIGEE_TRY(TakeFds(&msg));
  return Got::kBytes;
}

Result<bool> Stream::Next(const FrameLimits& limits, Frame* frame) {
  size_t have = end_ - begin_;
  wanted_ = kFrameBytes;
  if (have < kFrameBytes) return false;
  const uint8_t* at = buffer_.get() + begin_;
  PERIGEE_ASSIGN(frame->head, DecodeFrame(at, limits));
  size_t total = frame->head.TotalBytes();
  if (have < total) {
    wanted_ = total;
    return false;
  }
  if (frame->head.fds > fds_.size()) {
    return Status(Code::kCorrupt, "a frame without the descriptors it announces");
  }
  frame->fds.clear();
  for (uint8_t i = 0; i < frame->head.fds; ++i) {
    frame->fds.push_back(std::move(fds_.front()));
    fds_.pop_front();
  }
  frame->message = AsView(ConstBytes(at + kFrameBytes, frame->head.header_len));
  frame->inline_bulk =
      ConstBytes(at + kFrameBytes + frame->head.header_len, frame->head.InlineBytes());
  begin_ += total;
  return true;
}

// ---------------------------------------------------------------- writing

Result<size_t> Stream::SendSome(std::span<iovec> parts, std::span<const int> fds) {
  msghdr msg{};
  msg.msg_iov = parts.data();
  msg.msg_iovlen = parts.size();
  Control control;
  if (!fds.empty()) {
    PERIGEE_CHECK(fds.size() <= kFdsMax);
    msg.msg_control = control.bytes;
    msg.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  while (true) {
    ssize_t n = sendmsg(fd_.get(), &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
      if (counters_.sent != nullptr) counters_.sent->Add(static_cast<double>(n));
      return static_cast<size_t>(n);
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return size_t{0};
    int err = errno;
    return Status(Code::kUnavailable, Status::FromErrno(err, "sendmsg").message());
  }
}

Status Stream::Send(const FrameHeader& head, std::string_view message, ConstBytes inline_bulk,
                    std::span<const int> fds) {
  uint8_t encoded[kFrameBytes];
  EncodeFrame(head, encoded);
  iovec parts[kPartsMax] = {
      {encoded, sizeof encoded},
      {const_cast<char*>(message.data()), message.size()},
      {const_cast<uint8_t*>(inline_bulk.data()), inline_bulk.size()},
  };
  size_t total = sizeof encoded + message.size() + inline_bulk.size();
  size_t done = 0;
  bool was_idle = queue_.empty();
  if (was_idle) {
    PERIGEE_ASSIGN(done, SendSome(parts, fds));
    if (done == total) return Status::Ok();
  }
  Chunk chunk;
  chunk.bytes.reserve(total - done);
  size_t skip = done;
  for (const iovec& part : parts) {
    size_t from = std::min(skip, part.iov_len);
    skip -= from;
    const auto* data = static_cast<const uint8_t*>(part.iov_base);
    chunk.bytes.insert(chunk.bytes.end(), data + from, data + part.iov_len);
  }
  if (done == 0) {
    for (int fd : fds) {
      // Its owner may close it before it leaves.
      OwnedFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
      if (copy.get() < 0) return Status::FromErrno(errno, "keeping a descriptor to send");
      chunk.fds.push_back(std::move(copy));
    }
  }
  backlog_.fetch_add(chunk.bytes.size(), std::memory_order_relaxed);
  queue_.push_back(std::move(chunk));
  if (was_idle && on_backlog_) on_backlog_();
  return Status::Ok();
}

Result<bool> Stream::Flush() {
  while (!queue_.empty()) {
    Chunk& chunk = queue_.front();
    int fds[kFdsMax];
    for (size_t i = 0; i < chunk.fds.size(); ++i) fds[i] = chunk.fds[i].get();
    iovec part{chunk.bytes.data() + chunk.done, chunk.bytes.size() - chunk.done};
    PERIGEE_ASSIGN(size_t n, SendSome(std::span(&part, 1), std::span(fds, chunk.fds.size())));
    if (n == 0) return false;
    chunk.fds.clear();
    chunk.done += n;
    backlog_.fetch_sub(n, std::memory_order_relaxed);
    if (chunk.done == chunk.bytes.size()) queue_.pop_front();
  }
  return true;
}

Status Stream::Announce(const SlabPool& pool, uint32_t slab, const LeaseTable& leases) {
  auto announce = [this](uint32_t id, uint64_t bytes, int fd) {
    FrameHeader head;
    head.kind = FrameKind::kSlab;
    head.fds = 1;
    head.ref.slab = id;
    head.ref.offset = bytes;
    announced_.insert(id);
    return Send(head, {}, {}, std::span(&fd, 1));
  };
  if (announced_.contains(slab)) return Status::Ok();
  if (!announced_.contains(kLeaseSlab)) {
    PERIGEE_TRY(announce(kLeaseSlab, kLeaseTableBytes, leases.fd()));
  }
  // Slabs that the pool gave back since the last new one; and when a pool is larger than a peer may
  // be shown at once, another one (it is announced anew when next used).
  for (auto it = announced_.begin(); it != announced_.end();) {
    bool full = announced_.size() >= kSlabsPerConnectionMax;
    if (*it == kLeaseSlab || (!full && pool.GetSlab(*it).ok())) {
      ++it;
      continue;
    }
    FrameHeader head;
    head.kind = FrameKind::kForgetSlab;
    head.ref.slab = *it;
    it = announced_.erase(it);
    PERIGEE_TRY(Send(head, {}, {}, {}));
  }
  PERIGEE_ASSIGN(SlabPool::Slab info, pool.GetSlab(slab));
  return announce(slab, info.bytes, info.fd);
}

void Stream::Shutdown() { (void)shutdown(fd_.get(), SHUT_RDWR); }

}  // namespace perigee::rdma::local
