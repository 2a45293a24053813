#pragma once
// One call of a `local` channel, from Call to its answer.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/event.h"
#include "rdma/event_loop.h"
#include "rdma/local/bulk.h"
#include "rdma/transport.h"

namespace perigee::rdma::local {

class ClientConnection;

// What came back, before its bulk has a buffer.
struct Answer {
  size_t Bytes() const {
    return header.size() + inline_bulk.size() + (source ? source->bytes() : 0);
  }
  std::string header;
  std::string inline_bulk;
  std::optional<BulkSource> source;
  std::vector<OwnedFd> fds;
  uint64_t id = 0;
  std::shared_ptr<ClientConnection> from;  // set with `source`: wants to hear that it was pulled
};

struct ClientCall {
  // Set before the call is submitted, then constant.
  wire::Method method{};
  TrafficClass traffic = TrafficClass::kForeground;
  std::string header;
  ConstBytes bulk;
  BulkKind bulk_kind = BulkKind::kNone;
  SlabPool::Location at{};  // kSlab: of `bulk`, or of its copy in `staging`
  Piece staging;
  Nanos deadline = 0;
  Channel::Done done;  // empty: a thread waits in CallAndWait
  bool lent_reply = false;

  // Guarded by ClientCore's mutex.
  Lease lease;  // kSlab; withdrawn before the caller gets its memory back
  std::shared_ptr<ClientConnection> connection;  // while sent
  uint64_t id = 0;
  bool finished = false;
  Status status;
  Answer answer;
  EventLoop::TimerId timer = 0;     // asynchronous calls
  std::optional<CondVar> followed;  // made by a thread that waits while another reads

  // Loop only: asynchronous calls whose answer waits for a buffer.
  bool collecting = false;
  bool delivered = false;
  bool watching_pool = false;
};

}  // namespace perigee::rdma::local
