#pragma once
// Which of a node's addresses to call it by. A socket's path means something on its own machine
// only: the same path elsewhere may be another node's. So it is used by processes that see the
// same sockets, and by all when the node gave no other address; else those of its network addresses
// that this process can speak to, as one list (rdma/rails/address_list.h). Thread-safe.

#include <string>

#include "base/status.h"
#include "rdma/transport.h"
#include "rdma/wire/meta.h"

namespace perigee::rdma {

// Whatever sees this process's sockets has the same: the kernel's boot, and the namespaces of
// network and mounts.
std::string ThisMachine();

// kUnavailable: this process cannot reach it, and why.
Result<std::string> ChooseAddress(const std::string& address, const wire::NodeDoors& doors,
                                  const std::string& this_machine, const Transport& transport);

}  // namespace perigee::rdma
