#pragma once
// What every transport provider must do. A provider's test makes a world and calls
// CheckTransportConformance from a TEST_CASE; each SUBCASE gets a fresh world.

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "base/event.h"
#include "base/scheduler.h"
#include "rdma/transport.h"

namespace perigee::rdma {

class TransportWorld {
 public:
  virtual ~TransportWorld() = default;
  virtual std::unique_ptr<Transport> NewTransport(const std::string& host,
                                                  TransportOptions options) = 0;
  virtual std::string Address(const std::string& name) = 0;
  virtual Scheduler& scheduler() = 0;  // runs handlers and concurrent callers
  virtual uint32_t rails() const { return 1; }  // connections that a channel's calls go over
  // Whether channels send calls of their own (kPing), which the world's servers answer.
  virtual bool probes() const { return false; }
};

void CheckTransportConformance(const std::function<std::unique_ptr<TransportWorld>()>& make_world);

// Options of a node that knows the tests' secret.
TransportOptions NodeOptions(uint64_t node_id);

// A handler whose behaviour is a function; remembers who disconnected.
class FunctionHandler final : public Handler {
 public:
  explicit FunctionHandler(std::function<void(std::unique_ptr<ServerCall>)> fn)
      : fn_(std::move(fn)) {}
  void OnCall(std::unique_ptr<ServerCall> call) override { fn_(std::move(call)); }
  void OnDisconnect(const Peer& peer) override;
  size_t disconnects() const;
  // False when `count` connections have not ended within ten seconds.
  bool WaitForDisconnects(size_t count);

 private:
  std::function<void(std::unique_ptr<ServerCall>)> fn_;
  mutable std::mutex mu_;
  CondVar changed_;
  size_t disconnects_ = 0;
};

// Keeps calls until the test answers them.
class CallShelf {
 public:
  void Put(std::unique_ptr<ServerCall> call);
  // Null when no call has come within ten seconds.
  std::unique_ptr<ServerCall> Take();
  bool Empty() const;

 private:
  mutable std::mutex mu_;
  CondVar changed_;
  std::deque<std::unique_ptr<ServerCall>> calls_;
};

}  // namespace perigee::rdma
