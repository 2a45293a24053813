#pragma once
// ConnectionCall: one request that came over a provider's connection, until it is answered. Any
// thread, one at a time.

#include <memory>
#include <string>
#include <utility>

#include "rdma/transport.h"

namespace perigee::rdma {

// Keeps the connection's memory alive, not its socket. kSend is the provider's way to send a reply:
// (Connection*, id, deadline, status, payload), called once.
template <class Connection, auto kSend>
class ConnectionCall : public ServerCall {
 public:
  ConnectionCall(std::shared_ptr<Connection> connection, wire::Method method, uint64_t id,
                 Nanos deadline, std::string header)
      : connection_(std::move(connection)),
        method_(method),
        id_(id),
        deadline_(deadline),
        header_(std::move(header)) {}
  ~ConnectionCall() override {
    if (!answered_) Finish(Status(Code::kInternal, "the handler dropped the call"), {});
  }

  wire::Method method() const override { return method_; }
  const Peer& peer() const override { return connection_->peer(); }
  std::string_view header() const override { return header_; }
  Piece& bulk() override { return bulk_; }
  Nanos deadline() const override { return deadline_; }
  void Reply(Payload payload) override { Finish(Status::Ok(), std::move(payload)); }
  void Fail(const Status& status) override { Finish(status, {}); }

 private:
  void Finish(const Status& status, Payload payload) {
    PERIGEE_CHECK(!answered_);
    answered_ = true;
    kSend(connection_.get(), id_, deadline_, status, std::move(payload));
  }

  const std::shared_ptr<Connection> connection_;
  const wire::Method method_;
  const uint64_t id_;
  const Nanos deadline_;
  const std::string header_;
  Piece bulk_;
  bool answered_ = false;
};

}  // namespace perigee::rdma
