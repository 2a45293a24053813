#include "rdma/network/provider_choice.h"

#include <algorithm>

namespace perigee::rdma {

Result<ProviderChoice> ChooseProvider(const NetworkOptions& o, const Fabric& fabric) {
  if (o.transport == "tls") return ProviderChoice{"tls", "asked for"};
  if (o.transport == "auto" && o.certified())
    return ProviderChoice{"tls", "certificates are given"};
  const std::string library = o.transport == "ofi" ? "ofi" : "ucx";
  const std::string& name = fabric.interface;
  const bool listed = std::find(o.fabric_interfaces.begin(), o.fabric_interfaces.end(), name) !=
                      o.fabric_interfaces.end();
  if (listed) return ProviderChoice{library, name + " is a --fabric-interface"};
  if (!fabric.rdma_device.empty())
    return ProviderChoice{library, name + " has RDMA, " + fabric.rdma_device};
  if (o.fabric_trusted) return ProviderChoice{library, "the fabric is trusted"};
  if (o.transport == library && fabric.loopback)
    return ProviderChoice{library, "asked for, on this machine"};
  if (o.transport == library) {
    return Status(Code::kInvalidArgument,
                  "--transport " + library + ": over TCP on " + name +
                      " strangers reach more than they should (see --fabric-interface): "
                      "--fabric-interface " +
                      name + " or --fabric-trusted allows it, --transport tls needs no trust");
  }
  return Status(Code::kInvalidArgument,
                "--listen " + o.listen +
                    ": no certificates (--ca-file, --cert-file, --key-file), and " + name +
                    " has no RDMA and is not trusted (--fabric-interface " + name +
                    ", --fabric-trusted)");
}

}  // namespace perigee::rdma
