#pragma once
// FakeChannel: a Channel whose peer is a function of the test. Answers at once, on the calling
// thread.

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "rdma/rpc.h"
#include "rdma/transport.h"

namespace perigee::client {

class FakeChannel final : public rdma::Channel {
 public:
  struct Seen {
    wire::Method method;
    std::string header;
    std::string bulk;
    Nanos timeout;
    rdma::TrafficClass traffic;
  };
  using Peer = std::function<Result<rdma::Payload>(const Seen&)>;

  explicit FakeChannel(Peer peer) : peer_(std::move(peer)) {}
  void Call(wire::Method method, std::string header, ConstBytes bulk, rdma::CallOptions options,
            Done done) override {
    Seen call{method, std::move(header), std::string(AsView(bulk)), options.timeout,
              options.traffic};
    {
      std::lock_guard lock(mu_);
      seen.push_back(call);
    }
    done(peer_(call));
  }
  bool Healthy() const override { return healthy; }
  std::string Describe() const override { return "fake"; }
  void Close() override { healthy = false; }

  bool healthy = true;
  std::vector<Seen> seen;

 private:
  Peer peer_;
  std::mutex mu_;
};

// Encodes a message as a whole reply.
template <class Message>
Result<rdma::Payload> ReplyWith(const Message& message) {
  rdma::Payload payload;
  payload.header = wire::Encode(message);
  return payload;
}

}  // namespace perigee::client
