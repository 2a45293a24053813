#include "rdma/node_address.h"

#include <filesystem>
#include <fstream>

#include "rdma/rails/address_list.h"

namespace perigee::rdma {

std::string ThisMachine() {
  std::string machine;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), machine);
  for (const char* space : {"net", "mnt"}) {
    std::error_code none;
    machine +=
        " " + std::filesystem::read_symlink(std::string("/proc/self/ns/") + space, none).string();
  }
  return machine;
}

Result<std::string> ChooseAddress(const std::string& address, const wire::NodeDoors& doors,
                                  const std::string& this_machine, const Transport& transport) {
  const bool here = doors.machine.empty() || doors.machine == this_machine;
  if (here && transport.Speaks(address)) return address;
  std::vector<std::string> spoken;
  for (const std::string& elsewhere : doors.network)
    if (transport.Speaks(elsewhere)) spoken.push_back(elsewhere);
  if (!spoken.empty()) return JoinAddresses(spoken);
  if (doors.network.empty())
    return Status(Code::kUnavailable, "it is reached on its own machine only (--listen)");
  return Status(Code::kUnavailable, "it is reached by " + doors.network.front() +
                                        ", and this process speaks " + transport.name());
}

}  // namespace perigee::rdma
