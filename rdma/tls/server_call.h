#pragma once
// TlsServerCall: one request of a ServerConnection, until it is answered. Any thread, one at a
// time.

#include <memory>
#include <string>
#include <utility>

#include "base/failpoint.h"
#include "rdma/tls/server_connection.h"

namespace perigee::rdma::tls {

// Keeps the connection's memory alive, not its socket.
class TlsServerCall final : public ServerCall {
 public:
  TlsServerCall(std::shared_ptr<ServerConnection> connection, wire::Method method, uint64_t id,
                Nanos deadline, std::string_view header)
      : connection_(std::move(connection)),
        method_(method),
        id_(id),
        deadline_(deadline),
        header_(header) {}
  ~TlsServerCall() override {
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
    PERIGEE_FAILPOINT(rdma_tls_before_reply);
    connection_->Reply(id_, deadline_, status, std::move(payload));
    PERIGEE_FAILPOINT(rdma_tls_after_reply);
  }

  const std::shared_ptr<ServerConnection> connection_;
  const wire::Method method_;
  const uint64_t id_;
  const Nanos deadline_;
  const std::string header_;
  Piece bulk_;
  bool answered_ = false;
};

}  // namespace perigee::rdma::tls
