#pragma once
// How fast the way from this process to another daemon is: latency and bandwidth by size, through
// the transport and its slab pool as every other call goes. A transfer over one piece goes as
// several calls, a few of them in flight. `perigee bench net` asks daemons for it.
// Thread-safe; ProbeNet blocks, for about 3 times `milliseconds` for each size.

#include <memory>

#include "base/scheduler.h"
#include "rdma/rpc.h"
#include "rdma/wire/probe.h"
#include "rdma/wire/meta.h"

namespace perigee::rdma {

// Serves both ends of it. `where` may block; `slow`: for who asks this process to measure.
// `home`: what an empty address means.
void AddNetProbe(Router* router, Scheduler* where, Scheduler* slow, Transport* transport,
                 std::shared_ptr<SlabPool> slabs, std::string home);

// kInvalidArgument: over 1 GiB, 5 s a figure, or no address; kUnavailable: nobody answers there.
Result<wire::NetProbeReply> ProbeNet(Transport& transport, SlabPool& slabs,
                                     const wire::NetProbeRequest& request);

}  // namespace perigee::rdma
