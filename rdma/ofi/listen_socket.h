#pragma once
// OfiListenSocket: a passive endpoint with an event queue of its own, and the connection requests
// that come to it. Thread rule: that of its Worker.

#include <functional>
#include <memory>

#include "rdma/ofi/fabric.h"
#include "rdma/rendezvous/worker.h"

struct fid_eq;
struct fid_pep;

namespace perigee::rdma::ofi {

// Rejected when it is destroyed unaccepted.
class OfiConnectionRequest final : public rendezvous::ConnectionRequest {
 public:
  OfiConnectionRequest(std::shared_ptr<fid_pep> pep, InfoPtr info)
      : pep_(std::move(pep)), info_(std::move(info)) {}
  ~OfiConnectionRequest() override;
  fi_info& info() { return *info_; }
  void Accepted() { pep_.reset(); }

 private:
  std::shared_ptr<fid_pep> pep_;
  InfoPtr info_;
};

class OfiListenSocket final : public rendezvous::ListenSocket {
 public:
  using OnRequest = std::function<void(std::shared_ptr<rendezvous::ConnectionRequest>)>;
  // `ended` runs when it is destroyed.
  static Result<std::unique_ptr<OfiListenSocket>> Create(
      Fabric* fabric, const rendezvous::SocketAddress& address, OnRequest on_request,
      std::function<void(OfiListenSocket*)> ended);
  ~OfiListenSocket() override;
  void Reject(std::shared_ptr<rendezvous::ConnectionRequest>) override {}  // its destructor does
  const rendezvous::SocketAddress& address() const override { return address_; }

  // ---- for OfiWorker ----
  // Tells of one request, if there is one.
  bool Progress();
  fid_eq* eq() const { return eq_; }
  fid_fabric* fabric() const { return fabric_; }

 private:
  OfiListenSocket() = default;
  void EndUnfinished();
  OnRequest on_request_;
  std::function<void(OfiListenSocket*)> ended_;
  fid_fabric* fabric_ = nullptr;
  fid_eq* eq_ = nullptr;
  std::shared_ptr<fid_pep> pep_;
  rendezvous::SocketAddress address_;
};

}  // namespace perigee::rdma::ofi
