#pragma once
// NodeChannels: one channel to each node that is called, kept until it does not answer. Then the
// next call looks the node up again: it may have come back elsewhere. A node with several network
// addresses has a rail to each. Thread-safe; To blocks.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "rdma/transport.h"
#include "rdma/wire/control.h"

namespace perigee::rdma {

class NodeChannels {
 public:
  // Where a node registered itself; any error means that it cannot be called now.
  using Lookup = std::function<Result<wire::GetNodeReply>(wire::NodeId)>;
  NodeChannels(Transport& transport, Clock& clock, Lookup lookup);

  // kUnavailable: the node is not known, or has no address that leads there from here.
  Result<std::shared_ptr<Channel>> To(wire::NodeId node);
  // What a call over `channel` came to.
  void Note(wire::NodeId node, const std::shared_ptr<Channel>& channel, const Status& status);
  std::vector<wire::LinkInfo> Links() const;  // for status
  void Close();

 private:
  struct Entry {
    std::shared_ptr<Channel> channel;  // null: it did not answer
    std::string address, problem;
    int64_t since = 0;
  };

  Transport& transport_;
  Clock& clock_;
  const Lookup lookup_;
  const std::string machine_;
  mutable std::mutex mu_;  // guards nodes_
  std::map<wire::NodeId, Entry> nodes_;
};

}  // namespace perigee::rdma
