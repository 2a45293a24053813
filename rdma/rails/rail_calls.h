#pragma once
// RailCalls: the calls of a RailChannel, each from rail to rail until it is done. What is under way
// keeps it alive. Thread-safe.

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rdma/rails/rail_set.h"

namespace perigee::rdma {

class RailCalls : public std::enable_shared_from_this<RailCalls> {
 public:
  RailCalls(std::vector<Rail> rails, Clock& clock, metrics::Registry* registry)
      : clock_(clock), set_(std::move(rails), clock, registry) {}

  RailSet& set() { return set_; }
  void Call(wire::Method method, std::string header, ConstBytes bulk, CallOptions options,
            Channel::Done done);
  Result<Payload> CallAndWait(wire::Method method, std::string header, ConstBytes bulk,
                              CallOptions options);
  void Close();  // and the rails

 private:
  // A call on its way.
  struct Journey {
    wire::Method method{};
    std::string header;
    ConstBytes bulk;
    CallOptions options;
    Nanos deadline = 0;
    RailMask passed_over = 0;  // rails that failed under it
    std::string failure;       // the last of them, in words
    bool asked = false;        // the rails, which of them answers
  };
  struct Asynchronous {
    Journey journey;
    Channel::Done done;
  };
  struct Question;

  Journey Start(wire::Method method, std::string header, ConstBytes bulk, CallOptions options);
  CallOptions OptionsOf(const Journey& journey) const;
  std::string HeaderFor(Journey* journey) const;
  bool GoesOn(Journey* journey, const RailSet::Turn& turn, const Result<Payload>& result);
  void Send(const std::shared_ptr<Asynchronous>& call);
  void Open(const std::shared_ptr<Asynchronous>& call);
  void Ask(const Journey& journey, std::function<void(Status)> told);
  void Heard(Question* question, size_t rail, Nanos began, const Result<Payload>& answer);
  void ProbeRested();

  Clock& clock_;
  RailSet set_;
  std::atomic<bool> closed_{false};
};

}  // namespace perigee::rdma
