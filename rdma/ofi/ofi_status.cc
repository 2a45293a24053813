#include "rdma/ofi/ofi_status.h"

#include <rdma/fi_errno.h>

#include <string>

namespace perigee::rdma::ofi {

namespace {
Code CodeOf(int error) {
  switch (error) {
    case FI_ENOMEM:
    case FI_EMFILE:
    case FI_ENOSPC:
      return Code::kBusy;
    case FI_ETRUNC:  // a message larger than any of ours
      return Code::kTooLarge;
    case FI_EADDRINUSE:
      return Code::kAlreadyExists;
    case FI_EINVAL:
    case FI_EADDRNOTAVAIL:
      return Code::kInvalidArgument;
    default:
      return Code::kUnavailable;
  }
}
}  // namespace

Status FromFi(long rc, std::string_view what) {
  if (rc == 0) return Status::Ok();
  int error = static_cast<int>(-rc);
  return Status(CodeOf(error), std::string(what) + ": " + fi_strerror(error));
}

}  // namespace perigee::rdma::ofi
