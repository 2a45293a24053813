#pragma once
// The addresses of one peer, or of one daemon's listeners, as one text:
// "tls:10.0.0.1:9002,tls:10.1.0.1:9002". A socket's path may have commas: it is always one address.

#include <string>
#include <vector>

namespace perigee::rdma {

std::vector<std::string> SplitAddresses(const std::string& list);
std::string JoinAddresses(const std::vector<std::string>& addresses);

}  // namespace perigee::rdma
