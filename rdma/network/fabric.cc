#include "rdma/network/fabric.h"

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <filesystem>
#include <fstream>

#include "rdma/rendezvous/address.h"
#include "rdma/transport.h"

namespace perigee::rdma {

namespace {

bool HasCarrier(const std::string& interface) {
  OwnedFd probe(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  return ioctl(probe.get(), SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_RUNNING) != 0;
}

}  // namespace

std::string RdmaDeviceOf(const std::string& interface, const std::string& sysfs) {
  const std::string net = sysfs + "/class/net/" + interface;
  std::error_code none;
  std::string device;
  for (const auto& entry : std::filesystem::directory_iterator(net + "/device/infiniband", none)) {
    std::string name = entry.path().filename().string();
    if (device.empty() || name < device) device = std::move(name);
  }
  if (device.empty()) return "";
  unsigned port = 0;  // which of the device's ports, from 0
  std::ifstream(net + "/dev_port") >> port;
  return device + ":" + std::to_string(port + 1);
}

Result<Fabric> FabricOf(const std::string& address) {
  PERIGEE_ASSIGN(rendezvous::SocketAddress parsed, rendezvous::ParseAddress(address));
  PERIGEE_ASSIGN(rendezvous::Interface interface, rendezvous::InterfaceOf(parsed));
  return Fabric{interface.name, interface.loopback, HasCarrier(interface.name),
                RdmaDeviceOf(interface.name, "/sys")};
}

}  // namespace perigee::rdma
