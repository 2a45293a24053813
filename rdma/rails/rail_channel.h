#pragma once
// RailChannel: a Channel over several Channels ("rails") to the same peer, which spreads its calls
// over them by measured rate (rdma/rails/rail_set.h).
//
// A rail takes calls once it has answered a probe (kPing). One whose channel is lost is cooled
// down, from 1 s to 30 s and twice as long each time, and probed before it takes calls again;
// without calls nothing is probed. While no rail is up each call probes all of them at once and
// goes by the first that answers: a rail that leads nowhere delays nobody, and no call is sent to
// it. A call whose rail fails under it may have been executed and fails with kUnavailable, as
// Channel says, except those that only move bulk (reads and writes of shards, reads of burst
// files): executed twice they are the same, and they are sent again by another rail. When no rail
// answers, a call fails with a message that has each rail's own; a refusal by one outweighs the
// others' kUnavailable. Credits and waiting room are each rail's own.
//
// Thread-safe. No lock is held over callbacks.

#include <memory>
#include <string>
#include <vector>

#include "rdma/rails/rail_set.h"

namespace perigee::rdma {

class RailCalls;

class RailChannel final : public Channel {
 public:
  // As RailSet's. The clock and the registry must outlive the channel and its calls.
  RailChannel(std::vector<Rail> rails, Clock& clock, metrics::Registry* registry = nullptr);
  ~RailChannel() override;

  void Call(wire::Method method, std::string header, ConstBytes bulk, CallOptions options,
            Done done) override;
  Result<Payload> CallAndWait(wire::Method method, std::string header, ConstBytes bulk = {},
                              CallOptions options = {}) override;
  bool Healthy() const override;          // some rail is up, or not tried yet
  std::string Describe() const override;  // "2 rails: tls 10.0.0.1:9002, tls 10.1.0.1:9002"
  void Close() override;
  std::vector<wire::RailInfo> Rails() const;

 private:
  const std::shared_ptr<RailCalls> calls_;
};

// Empty where the channel has no rails but is one connection.
std::vector<wire::RailInfo> RailsOf(const Channel& channel);

}  // namespace perigee::rdma
