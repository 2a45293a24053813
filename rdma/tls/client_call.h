#pragma once
// One call of a `tls` channel, from Call to its answer. Loop-bound once submitted.

#include <string>

#include "rdma/event_loop.h"
#include "rdma/transport.h"

namespace perigee::rdma::tls {

struct ClientCall {
  wire::Method method{};
  TrafficClass traffic = TrafficClass::kForeground;
  std::string header;
  ConstBytes bulk;
  Nanos deadline = 0;
  Channel::Done done;  // empty once it has run
  EventLoop::TimerId timer = 0;
  uint64_t id = 0;  // on the connection; 0: not sent
};

}  // namespace perigee::rdma::tls
