#pragma once
// NodesOnly: a handler's door to the network, for peers that proved the cluster secret. Others,
// whom `tls` lets in with a certificate alone, get kPermissionDenied: no user of another machine is
// known here. Thread-safe.

#include <memory>
#include <utility>

#include "rdma/transport.h"

namespace perigee::rdma {

class NodesOnly final : public Handler {
 public:
  explicit NodesOnly(std::shared_ptr<Handler> inner) : inner_(std::move(inner)) {}

  void OnCall(std::unique_ptr<ServerCall> call) override {
    if (call->peer().role == Role::kNode) return inner_->OnCall(std::move(call));
    call->Fail(Status(Code::kPermissionDenied, "for nodes with the cluster secret"));
  }
  void OnDisconnect(const Peer& peer) override { inner_->OnDisconnect(peer); }
  bool TakesLent(wire::Method method) const override { return inner_->TakesLent(method); }

 private:
  const std::shared_ptr<Handler> inner_;
};

}  // namespace perigee::rdma
