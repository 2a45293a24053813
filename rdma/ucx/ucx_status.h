#pragma once
// UCX's status codes as ours. Thread rule: values.

#include <string_view>

#include "base/status.h"

namespace perigee::rdma::ucx {

// `ucs_status` is a ucs_status_t. What only says that the peer is gone is kUnavailable.
Status FromUcs(int ucs_status, std::string_view what);

}  // namespace perigee::rdma::ucx
