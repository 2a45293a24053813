#include "fuse/device.h"

#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <vector>

#include "base/log.h"
#include "base/mounts.h"
#include "fuse/kernel_abi.h"

namespace perigee::fuse {

namespace {
constexpr Nanos kInitWait = 10 * kSecond;
}  // namespace

struct DeviceIo {
  static ssize_t Read(int fd, void* buf, size_t len, void* userdata) {
    ssize_t n = read(fd, buf, len);
    Device* device = static_cast<SessionData*>(userdata)->device;
    if (n >= static_cast<ssize_t>(sizeof(InHeader) + 16) && device && !device->init_seen_.load()) {
      InHeader header;
      std::memcpy(&header, buf, sizeof header);
      if (header.opcode == kOpInit) {
        InitIn in{};
        std::memcpy(&in, static_cast<char*>(buf) + sizeof header,
                    std::min(sizeof in, static_cast<size_t>(n) - sizeof header));
        device->offered_flags_ = in.flags;
        device->offered_flags2_ = (in.flags & kInitExt) ? in.flags2 : 0;
        device->init_unique_ = header.unique;
        device->init_seen_ = true;
      }
    }
    return n;
  }

  static ssize_t Writev(int fd, struct iovec* iov, int count, void* userdata) {
    Device* device = static_cast<SessionData*>(userdata)->device;
    uint64_t wanted = device ? device->init_unique_.load() : 0;
    if (wanted != 0 && count >= 2 && iov[0].iov_len == sizeof(OutHeader)) {
      OutHeader header;
      std::memcpy(&header, iov[0].iov_base, sizeof header);
      if (header.unique == wanted && header.error == 0 && iov[1].iov_len >= sizeof(InitOut)) {
        device->init_unique_ = 0;
        InitOut out;
        std::memcpy(&out, iov[1].iov_base, sizeof out);
        uint32_t offered = device->offered_flags_.load();
        if (offered & kHandleKillprivV2) out.flags |= kHandleKillprivV2;
        if (device->options_.allow_passthrough && (device->offered_flags2_ & kFlags2Passthrough)) {
          out.flags |= kInitExt;
          out.flags2 |= kFlags2Passthrough;
          out.max_stack_depth = device->options_.stack_depth;
          device->passthrough_ = true;
        }
        iovec patched[2] = {iov[0], {&out, sizeof out}};
        ssize_t n = writev(fd, patched, 2);
        if (device->passthrough_) device->TryBacking();
        device->init_answered_.Set();
        return n;
      }
    }
    return writev(fd, iov, count);
  }
};

// "major:minor" of what is mounted at `path`; "" when nothing is.
static std::string MountedAt(const std::string& path) {
  std::ifstream in("/proc/self/mountinfo");
  std::string found, id, parent, device, root, mount_point, rest;
  while (in >> id >> parent >> device >> root >> mount_point && std::getline(in, rest)) {
    if (mount_point == path) found = device;
  }
  return found;
}

Status Device::MountAsRoot() {
  fd_ = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (fd_ < 0) return Status::FromErrno(errno, "open /dev/fuse");
  char data[256];
  std::snprintf(data, sizeof data,
                "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", fd_);
  if (mount("perigee", options_.mount_point.c_str(), "fuse.perigee", MS_NOSUID | MS_NODEV, data) !=
      0) {
    Status st = Status::FromErrno(errno, "mount " + options_.mount_point);
    close(fd_);
    fd_ = -1;
    return st;
  }
  mounted_ = true;
  return Status::Ok();
}

Result<std::unique_ptr<Device>> Device::Mount(fuse_session* session, SessionData* data,
                                              DeviceOptions options) {
  if (DetachDeadMounts(options.mount_point)) {
    log::Info("dead_mount_detached", {{"mount", options.mount_point}});
  }
  struct stat st;
  if (stat(options.mount_point.c_str(), &st) != 0) {
    return Status::FromErrno(errno, "mount point " + options.mount_point);
  }
  if (!S_ISDIR(st.st_mode)) {
    return Status(Code::kNotDirectory, "mount point " + options.mount_point + ": not a directory");
  }
  char resolved[PATH_MAX];
  if (realpath(options.mount_point.c_str(), resolved) == nullptr) {
    return Status::FromErrno(errno, "mount point " + options.mount_point);
  }
  if (!MountedAt(resolved).empty()) {
    return Status(Code::kAlreadyExists, options.mount_point + ": something is mounted there");
  }
  std::unique_ptr<Device> device(new Device(session, std::move(options)));
  if (geteuid() != 0) {
    device->by_fusermount_ = true;
    if (fuse_session_mount(session, device->options_.mount_point.c_str()) != 0) {
      return Status(Code::kUnavailable,
                    "fusermount3 could not mount " + device->options_.mount_point);
    }
    device->mounted_ = true;
    device->fd_ = fuse_session_fd(session);
    return device;
  }
  PERIGEE_TRY(device->MountAsRoot());
  device->bdi_ = MountedAt(resolved);
  data->device = device.get();
  static const fuse_custom_io kIo = {DeviceIo::Writev, DeviceIo::Read, nullptr, nullptr};
  int err = fuse_session_custom_io(session, &kIo, device->fd_);
  if (err != 0) return Status::FromErrno(err < 0 ? -err : err, "fuse_session_custom_io");
  return device;
}

Device::~Device() { Unmount(); }

void Device::Unmount() {
  if (!mounted_) return;
  mounted_ = false;
  if (by_fusermount_) {
    fuse_session_unmount(session_);
  } else if (umount2(options_.mount_point.c_str(), MNT_DETACH) != 0 && errno != EINVAL) {
    log::Warn("unmount_failed", {{"mount", options_.mount_point}, {"errno", errno}});
  }
}

// The kernel offers passthrough to mounts that may not use it.
void Device::TryBacking() {
  const int fd = memfd_create("perigee", MFD_CLOEXEC);
  if (fd < 0) return;  // opens will tell
  auto id = BackingOpen(fd);
  if (id.ok()) {
    BackingClose(*id);
  } else if (id.code() == Code::kPermissionDenied) {
    backing_refused_ = true;
    passthrough_ = false;
  } else {
    id.status().Ignore();  // of this file; others will tell
  }
  close(fd);
}

std::string Device::why() const {
  if (passthrough_) return "kernel passthrough";
  if (by_fusermount_) return "no passthrough: not root (the kernel asks for CAP_SYS_ADMIN)";
  if (!options_.allow_passthrough) return "no passthrough: switched off by --no-passthrough";
  if (!init_seen_) return "not connected yet";
  if (backing_refused_)
    return "no passthrough: the kernel refuses it in a user namespace (it asks for CAP_SYS_ADMIN)";
  return "no passthrough: this kernel does not offer it (6.9 or later does)";
}

Result<int32_t> Device::BackingOpen(int fd) {
  BackingMap map{fd, 0, 0};
  int id = ioctl(fd_, kIocBackingOpen, &map);
  if (id <= 0) {
    return Status::FromErrno(
        errno, errno == ELOOP ? "backing file on a stacked file system (see --stack-depth)"
                              : "FUSE_DEV_IOC_BACKING_OPEN");
  }
  return id;
}

void Device::BackingClose(int32_t id) {
  auto arg = static_cast<uint32_t>(id);
  if (ioctl(fd_, kIocBackingClose, &arg) != 0) {
    log::Warn("backing_close_failed", {{"id", id}, {"errno", errno}});
  }
}

void Device::SetReadAhead(uint32_t kib) {
  // Only root may, and the INIT reply sets it to something else.
  if (bdi_.empty() || !init_answered_.WaitFor(kInitWait)) return;
  // Found without a call on the mount itself: killed while it waits for its own answer, a process
  // cannot end, and with it everyone who uses the mount.
  std::ofstream out("/sys/class/bdi/" + bdi_ + "/read_ahead_kb");
  out << kib;
}

}  // namespace perigee::fuse
