#pragma once
// Device: a mounted /dev/fuse connection that speaks passthrough through libfuse 3.14.
//
// libfuse 3.14 cannot ask for passthrough, but it sends every reply through a custom writev: there
// the INIT reply gets the passthrough flag and stack depth, when the kernel offered it in the INIT
// request. See docs/decisions and the kernel's fuse.h. Backing files are registered with ioctls on
// the device descriptor. As another user than root, fusermount3 mounts, and there is no passthrough
// (the kernel wants CAP_SYS_ADMIN). Thread-safe after Mount.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "base/event.h"
#include "base/status.h"

struct fuse_session;

namespace perigee::fuse {

struct DeviceOptions {
  std::string mount_point;
  bool allow_passthrough = true;
  uint32_t stack_depth =
      1;  // 2: the burst store may lie on overlayfs, but nothing can be stacked on the mount
};

class Device;

// The session's user data: what libfuse hands to every operation and to the custom I/O.
struct SessionData {
  Device* device = nullptr;  // set by Mount
};

class Device {
 public:
  // Detaches a dead mount of ours first. kAlreadyExists: something live is mounted there. `data` is
  // what the session was made with; both outlive the device.
  static Result<std::unique_ptr<Device>> Mount(fuse_session* session, SessionData* data,
                                               DeviceOptions options);
  ~Device();

  bool passthrough() const { return passthrough_.load(); }  // known after INIT
  // Why, in words: "kernel passthrough", "not root: fusermount3 cannot", "kernel 6.1 does not offer
  // it".
  std::string why() const;
  // Registers a read-only descriptor; > 0 is the id.
  Result<int32_t> BackingOpen(int fd);
  void BackingClose(int32_t id);
  // KiB that the kernel reads ahead in cached mode; once the mount is ready. Best effort.
  void SetReadAhead(uint32_t kib);
  void Unmount();

 private:
  friend struct DeviceIo;
  Device(fuse_session* session, DeviceOptions options)
      : session_(session), options_(std::move(options)) {}
  Status MountAsRoot();
  void TryBacking();

  fuse_session* session_;
  DeviceOptions options_;
  int fd_ = -1;
  bool mounted_ = false;
  bool by_fusermount_ = false;
  std::atomic<bool> passthrough_ = false;
  std::atomic<bool> backing_refused_ = false;
  std::string bdi_;  // the mount's device, as "0:39"
  Event init_answered_;
  std::atomic<bool> init_seen_ = false;
  std::atomic<uint64_t> init_unique_ = 0;
  std::atomic<uint32_t> offered_flags_ = 0, offered_flags2_ = 0;
};

}  // namespace perigee::fuse
