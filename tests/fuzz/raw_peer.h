#pragma once
// RawPeer: one end of a `local` connection that says what an input tells it to: bytes, frames with
// any fields, descriptors. Thread rule: one thread.

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>

#include "rdma/hello.h"
#include "rdma/local/frame.h"
#include "tests/fuzz/input.h"

namespace perigee::fuzz {

inline constexpr int kPeerWaitMs = 20'000;  // the other side is late only when it hangs

// A socket's path in a directory of its own.
class SocketDir {
 public:
  SocketDir() {
    path_ = (std::filesystem::temp_directory_path() / "perigee-fuzz-XXXXXX").string();
    PERIGEE_CHECK(mkdtemp(path_.data()) != nullptr);
  }
  ~SocketDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string path() const { return path_ + "/s"; }
  sockaddr_un address() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    return address;
  }

 private:
  std::string path_;
};

inline rdma::TransportOptions NodeOptions(uint64_t node_id) {
  rdma::TransportOptions options;
  options.cluster_secret = "the cluster's secret";
  options.role = rdma::Role::kNode;
  options.node_id = node_id;
  options.credits = 8;
  return options;
}

class RawPeer {
 public:
  explicit RawPeer(rdma::OwnedFd fd) : fd_(std::move(fd)) {}

  void SendFrame(rdma::local::FrameHeader head, std::string_view message,
                 std::string_view inline_bulk = {}, int descriptor = -1) {
    head.header_len = static_cast<uint32_t>(message.size());
    if (head.bulk == rdma::local::BulkKind::kInline)
      head.bulk_len = static_cast<uint32_t>(inline_bulk.size());
    uint8_t encoded[rdma::local::kFrameBytes];
    rdma::local::EncodeFrame(head, encoded);
    Send(std::string(AsView(encoded)).append(message).append(inline_bulk), descriptor);
  }
  // The next frame's message; nothing at the end of the connection.
  std::optional<std::string> ReceiveMessage() {
    uint8_t encoded[rdma::local::kFrameBytes];
    if (!ReadFully(encoded, sizeof encoded)) return std::nullopt;
    auto head =
        rdma::local::DecodeFrame(encoded, {rdma::kHeaderBytesMax, rdma::local::kInlineBulkMax});
    PERIGEE_CHECK(head.ok());
    std::string message(head->header_len, '\0');
    if (!ReadFully(reinterpret_cast<uint8_t*>(message.data()), message.size())) return std::nullopt;
    return message;
  }

  // One step of the input: bytes as they are, or a frame.
  void Play(Input& input) {
    const uint8_t step = input.Number<uint8_t>();
    if (step < 16) return Send(input.Text());
    rdma::local::FrameHeader head;
    head.kind = static_cast<rdma::local::FrameKind>(1 + step % 9);
    head.bulk = static_cast<rdma::local::BulkKind>(input.Number<uint8_t>() % 3);
    head.method = input.Number<uint8_t>();
    head.id = input.Number<uint8_t>();
    head.timeout_us = input.Number<uint32_t>();
    head.ref.slab = input.Number<uint8_t>() % 4;
    head.ref.offset = input.Number<uint32_t>();
    head.ref.lease_slot = input.Number<uint16_t>();
    head.ref.lease_value = input.Number<uint8_t>();
    if (head.bulk == rdma::local::BulkKind::kSlab) head.bulk_len = input.Number<uint32_t>();
    const bool with_descriptor = step >= 128;
    rdma::OwnedFd descriptor;
    if (with_descriptor) {
      head.fds = 1;
      descriptor = Memfd(input.Number<uint16_t>(), input.Number<uint8_t>());
    }
    const std::string_view message = input.Text();
    const bool inside = head.bulk == rdma::local::BulkKind::kInline;
    SendFrame(head, message, inside ? input.Text() : std::string_view(), descriptor.get());
  }

  // No more comes from this side; waits until the other has ended the connection too.
  void Finish() {
    ::shutdown(fd_.get(), SHUT_WR);
    uint8_t byte;
    while (ReadFully(&byte, 1)) {
    }
  }

 private:
  static rdma::OwnedFd Memfd(uint16_t bytes, uint8_t flags) {
    rdma::OwnedFd fd(::memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    PERIGEE_CHECK(::ftruncate(fd.get(), bytes) == 0);
    if (flags & 1) PERIGEE_CHECK(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK) == 0);
    return fd;
  }
  void Send(std::string_view bytes, int descriptor = -1) {
    if (bytes.empty()) return;
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof descriptor)] = {};
    msghdr msg{};
    msg.msg_iov = &part;
    msg.msg_iovlen = 1;
    if (descriptor >= 0) {
      msg.msg_control = control;
      msg.msg_controllen = sizeof control;
      cmsghdr* c = CMSG_FIRSTHDR(&msg);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof descriptor);
      std::memcpy(CMSG_DATA(c), &descriptor, sizeof descriptor);
    }
    // The other side may have ended the connection already.
    (void)!::sendmsg(fd_.get(), &msg, MSG_NOSIGNAL);
  }
  bool ReadFully(uint8_t* out, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
      pollfd ready{fd_.get(), POLLIN, 0};
      PERIGEE_CHECK(::poll(&ready, 1, kPeerWaitMs) > 0);
      ssize_t n = ::recv(fd_.get(), out + done, bytes - done, 0);
      if (n <= 0) return false;
      done += static_cast<size_t>(n);
    }
    return true;
  }

  rdma::OwnedFd fd_;
};

}  // namespace perigee::fuzz
