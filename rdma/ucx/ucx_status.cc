#include "rdma/ucx/ucx_status.h"

#include <ucs/type/status.h>

#include <string>

namespace perigee::rdma::ucx {

namespace {
Code CodeOf(ucs_status_t status) {
  switch (status) {
    case UCS_ERR_NO_MEMORY:
    case UCS_ERR_NO_RESOURCE:
      return Code::kBusy;
    case UCS_ERR_BUSY:
      return Code::kAlreadyExists;  // of an address
    case UCS_ERR_INVALID_PARAM:
    case UCS_ERR_INVALID_ADDR:
    case UCS_ERR_NO_ELEM:
      return Code::kInvalidArgument;
    default:
      return Code::kUnavailable;
  }
}
}  // namespace

Status FromUcs(int ucs_status, std::string_view what) {
  auto status = static_cast<ucs_status_t>(ucs_status);
  if (status == UCS_OK) return Status::Ok();
  return Status(CodeOf(status), std::string(what) + ": " + ucs_status_string(status));
}

}  // namespace perigee::rdma::ucx
