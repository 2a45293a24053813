#pragma once
// FakeCall: a request to an RPC router without a transport, which must be answered exactly once.

#include <memory>
#include <string>

#include "rdma/transport.h"

namespace perigee::fuzz {

struct Answer {
  int times = 0;
  Code code = Code::kOk;
  rdma::Payload payload;
};

class FakeCall final : public rdma::ServerCall {
 public:
  FakeCall(wire::Method method, rdma::Peer peer, std::string_view header, Nanos deadline,
           std::shared_ptr<Answer> answer)
      : method_(method),
        peer_(std::move(peer)),
        header_(header),
        deadline_(deadline),
        answer_(std::move(answer)) {}
  wire::Method method() const override { return method_; }
  const rdma::Peer& peer() const override { return peer_; }
  std::string_view header() const override { return header_; }
  rdma::Piece& bulk() override { return bulk_; }
  Nanos deadline() const override { return deadline_; }
  void Reply(rdma::Payload payload) override {
    ++answer_->times;
    answer_->payload = std::move(payload);
  }
  void Fail(const Status& status) override {
    ++answer_->times;
    answer_->code = status.code();
    PERIGEE_CHECK(answer_->code != Code::kOk);
  }

 private:
  const wire::Method method_;
  const rdma::Peer peer_;
  const std::string header_;
  const Nanos deadline_;
  const std::shared_ptr<Answer> answer_;
  rdma::Piece bulk_;
};

}  // namespace perigee::fuzz
