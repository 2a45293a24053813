#pragma once
// libfabric's error numbers as Status. Thread-safe.

#include <string_view>

#include "base/status.h"

namespace perigee::rdma::ofi {

// `rc`: 0, or a negative error as libfabric's functions return it.
Status FromFi(long rc, std::string_view what);

}  // namespace perigee::rdma::ofi
