#include "rdma/rails/address_list.h"

#include <algorithm>

namespace perigee::rdma {

std::vector<std::string> SplitAddresses(const std::string& list) {
  if (list.starts_with("local:")) return {list};
  std::vector<std::string> addresses;
  for (size_t at = 0; at <= list.size();) {
    const size_t comma = std::min(list.find(',', at), list.size());
    addresses.push_back(list.substr(at, comma - at));
    at = comma + 1;
  }
  return addresses;
}

std::string JoinAddresses(const std::vector<std::string>& addresses) {
  std::string list;
  for (const std::string& address : addresses) list += (list.empty() ? "" : ",") + address;
  return list;
}

}  // namespace perigee::rdma
