#pragma once
// UcxServerCall: one request of a ServerConnection, until it is answered. Any thread, one at a
// time.

#include <memory>
#include <string>
#include <utility>

#include "rdma/ucx/server_connection.h"

namespace perigee::rdma::ucx {

// Keeps the connection's memory alive, not the connection.
class UcxServerCall final : public ServerCall {
 public:
  UcxServerCall(std::shared_ptr<ServerConnection> connection, wire::Method method, uint64_t id,
                Nanos deadline, std::string header)
      : connection_(std::move(connection)),
        method_(method),
        id_(id),
        deadline_(deadline),
        header_(std::move(header)) {}
  ~UcxServerCall() override {
    if (!answered_) Fail(Status(Code::kInternal, "the handler dropped the call"));
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
    connection_->SendReply(id_, deadline_, status, std::move(payload));
  }

  const std::shared_ptr<ServerConnection> connection_;
  const wire::Method method_;
  const uint64_t id_;
  const Nanos deadline_;
  const std::string header_;
  Piece bulk_;
  bool answered_ = false;
};

}  // namespace perigee::rdma::ucx
