#pragma once
// Fabric: the network interface of an address, as far as the choice of a provider goes. Values.

#include <string>

#include "base/status.h"

namespace perigee::rdma {

struct Fabric {
  std::string interface;
  bool loopback = false;
  bool carrier = true;      // its cable is in, as it were
  std::string rdma_device;  // by UCX's name, "mlx5_0:1"; empty: an interface without RDMA
};

// Of the address "HOST:PORT" of this machine. kNotFound: no interface has it. kUnavailable: no
// such host.
Result<Fabric> FabricOf(const std::string& address);
// Of an interface, by what the kernel says under `sysfs` ("/sys").
std::string RdmaDeviceOf(const std::string& interface, const std::string& sysfs);

}  // namespace perigee::rdma
