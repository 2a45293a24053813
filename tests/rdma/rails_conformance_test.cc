// A RailChannel is a Channel: the conformance suite over two rails, both well or one of them
// leading nowhere.

#include <doctest/doctest.h>

#include <memory>
#include <utility>

#include "rdma/rails/rail_channel.h"
#include "tests/rdma/sim_world.h"

using namespace perigee;
using namespace perigee::rdma;

namespace {

enum class Second { kWell, kNowhere, kWellAndFirstNowhere };

// Answers the rails' own probes, so that the suite's handlers see its calls only. The end of a
// second rail's connection is not told: a channel's connection ends once.
class RailDoor final : public Handler {
 public:
  RailDoor(std::shared_ptr<Handler> inner, bool tells_ends)
      : inner_(std::move(inner)), tells_ends_(tells_ends) {}
  void OnCall(std::unique_ptr<ServerCall> call) override {
    if (call->method() == wire::Method::kPing && call->header().empty()) return call->Reply({});
    inner_->OnCall(std::move(call));
  }
  void OnDisconnect(const Peer& peer) override {
    if (tells_ends_) inner_->OnDisconnect(peer);
  }
  bool TakesLent(wire::Method method) const override { return inner_->TakesLent(method); }

 private:
  const std::shared_ptr<Handler> inner_;
  const bool tells_ends_;
};

class TwoListeners final : public Listener {
 public:
  TwoListeners(std::unique_ptr<Listener> first, std::unique_ptr<Listener> second)
      : first_(std::move(first)), second_(std::move(second)) {}
  std::string address() const override { return first_->address(); }
  void Stop() override {
    first_->Stop();
    second_->Stop();
  }

 private:
  const std::unique_ptr<Listener> first_, second_;
};

class RailTransport final : public Transport {
 public:
  RailTransport(std::unique_ptr<Transport> inner, std::unique_ptr<Transport> at_second,
                Clock& clock, Second second)
      : inner_(std::move(inner)),
        at_second_(std::move(at_second)),
        clock_(clock),
        second_(second) {}
  Result<std::unique_ptr<Listener>> Listen(const std::string& address,
                                           std::shared_ptr<Handler> handler) override {
    PERIGEE_ASSIGN(auto first, inner_->Listen(address, std::make_shared<RailDoor>(handler, true)));
    PERIGEE_ASSIGN(auto second, at_second_->Listen(address + "-second",
                                                   std::make_shared<RailDoor>(handler, false)));
    return std::unique_ptr<Listener>(new TwoListeners(std::move(first), std::move(second)));
  }
  Result<std::shared_ptr<Channel>> Connect(const std::string& address) override {
    const std::string nowhere = "sim:nothing-there";
    PERIGEE_ASSIGN(auto first,
                   inner_->Connect(second_ == Second::kWellAndFirstNowhere ? nowhere : address));
    const std::string other = second_ == Second::kWell ? address + "-second" : address;
    PERIGEE_ASSIGN(auto second, inner_->Connect(second_ == Second::kNowhere ? nowhere : other));
    return std::shared_ptr<Channel>(std::make_shared<RailChannel>(
        std::vector<Rail>{{"first", first}, {"second", second}}, clock_));
  }
  std::string name() const override { return inner_->name(); }
  bool passes_fds() const override { return inner_->passes_fds(); }

 private:
  const std::unique_ptr<Transport> inner_, at_second_;  // which listens there
  Clock& clock_;
  const Second second_;
};

class RailWorld final : public SimWorld {
 public:
  explicit RailWorld(Second second) : SimWorld(5), second_(second) {}
  std::unique_ptr<Transport> NewTransport(const std::string& host,
                                          TransportOptions options) override {
    auto at_second = SimWorld::NewTransport(host, options);
    return std::make_unique<RailTransport>(SimWorld::NewTransport(host, std::move(options)),
                                           std::move(at_second), scheduler().clock(), second_);
  }
  uint32_t rails() const override { return second_ == Second::kWell ? 2 : 1; }
  bool probes() const override { return true; }

 private:
  const Second second_;
};

}  // namespace

TEST_CASE("two rails conform") {
  CheckTransportConformance([] { return std::make_unique<RailWorld>(Second::kWell); });
}

TEST_CASE("a rail conforms beside one that leads nowhere") {
  CheckTransportConformance([] { return std::make_unique<RailWorld>(Second::kNowhere); });
}

TEST_CASE("a rail conforms behind one that leads nowhere") {
  CheckTransportConformance(
      [] { return std::make_unique<RailWorld>(Second::kWellAndFirstNowhere); });
}
