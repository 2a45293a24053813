#pragma once
// ChooseProvider: what --transport comes to on an interface that is listened on. Pure.
//
// `tls` where certificates are given. `ucx` on an interface with RDMA, one that is listed, or any
// when the fabric is trusted: over TCP, UCX lets whoever connects write the process's memory. `ofi`
// under the same conditions when it is asked for: it bounds less what strangers cost.

#include <string>

#include "rdma/network/fabric.h"
#include "rdma/network_options.h"

namespace perigee::rdma {

struct ProviderChoice {
  std::string provider;  // "tls", "ucx", "ofi"
  std::string why;       // in words: "certificates are given"
};

// kInvalidArgument: none may be used, and what would change that.
Result<ProviderChoice> ChooseProvider(const NetworkOptions& options, const Fabric& fabric);

}  // namespace perigee::rdma
