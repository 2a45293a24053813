#include "rdma/local/core.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace perigee::rdma::local {

Result<std::shared_ptr<Core>> Core::Create(TransportOptions options, LocalOptions local) {
  options.credits = std::clamp<uint32_t>(options.credits, 1, kLeaseSlots / 2);
  std::shared_ptr<Core> core(new Core());
  PERIGEE_TRY(core->Init(std::move(options), "local", local.loops));
  PERIGEE_ASSIGN(core->leases_, LeaseTable::Create());
  core->local_ = local;
  return core;
}

Result<SocketPath> SocketPath::Of(const std::string& path) {
  SocketPath out;
  sockaddr_un address{};
  static_assert(sizeof address <= sizeof out.address_);
  address.sun_family = AF_UNIX;
  std::string name = path;
  if (name.empty() || name.find('\0') != std::string::npos) {
    return Status(Code::kInvalidArgument, "not a socket path: \"" + path + "\"");
  }
  if (name.size() >= sizeof address.sun_path) {
    size_t slash = name.rfind('/');
    std::string dir = slash == std::string::npos ? "." : name.substr(0, slash + 1);
    out.dir_.Reset(open(dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (out.dir_.get() < 0) return Status::FromErrno(errno, "open " + dir);
    name = "/proc/self/fd/" + std::to_string(out.dir_.get()) + "/" + name.substr(slash + 1);
    if (name.size() >= sizeof address.sun_path) {
      return Status(Code::kInvalidArgument, "socket name too long: " + path);
    }
  }
  std::memcpy(address.sun_path, name.data(), name.size());
  std::memcpy(out.address_, &address, sizeof address);
  out.length_ = static_cast<uint32_t>(offsetof(sockaddr_un, sun_path) + name.size() + 1);
  return out;
}

}  // namespace perigee::rdma::local
