#pragma once
// ConnectionCall: one request that came over a provider's connection, until it is answered. Any
// thread, one at a time.

#include <memory>
#include <string>
#include <utility>

#include "rdma/transport.h"

namespace perigee::rdma {

// What a reply needs of its request.
struct CallTicket {
  uint64_t id = 0;
  TrafficClass traffic = TrafficClass::kForeground;
  Nanos deadline = 0;
};

// Keeps the connection's memory alive, not its socket. kSend is the provider's way to send a reply:
// (Connection*, ticket, status, payload), called once.
template <class Connection, auto kSend>
class ConnectionCall : public ServerCall {
 public:
  ConnectionCall(std::shared_ptr<Connection> connection, wire::Method method, CallTicket ticket,
                 std::string header)
      : connection_(std::move(connection)),
        method_(method),
        ticket_(ticket),
        header_(std::move(header)) {}
  ~ConnectionCall() override {
    if (!answered_) Finish(Status(Code::kInternal, "the handler dropped the call"), {});
  }

  wire::Method method() const override { return method_; }
  const Peer& peer() const override { return connection_->peer(); }
  std::string_view header() const override { return header_; }
  Piece& bulk() override { return bulk_; }
  Nanos deadline() const override { return ticket_.deadline; }
  TrafficClass traffic() const override { return ticket_.traffic; }
  void Reply(Payload payload) override { Finish(Status::Ok(), std::move(payload)); }
  void Fail(const Status& status) override { Finish(status, {}); }

 private:
  void Finish(const Status& status, Payload payload) {
    PERIGEE_CHECK(!answered_);
    answered_ = true;
    kSend(connection_.get(), ticket_, status, std::move(payload));
  }

  const std::shared_ptr<Connection> connection_;
  const wire::Method method_;
  const CallTicket ticket_;
  const std::string header_;
  Piece bulk_;
  bool answered_ = false;
};

}  // namespace perigee::rdma
