#pragma once
// UcxEndpoint: one connection as UCX sees it: active messages out and in, pulls of what was
// announced, its failure and its end. Peer error handling is on at both ends. UCX 1.13 cannot
// cancel an active message: it has the buffers until it calls back, also after Close. Thread rule:
// that of its Worker.

#include <functional>
#include <memory>
#include <string>

#include "rdma/ucx/worker.h"

struct ucp_conn_request;

namespace perigee::rdma::ucx {

inline constexpr unsigned kActiveMessageId = 1;

class UcxEndpoint final : public rendezvous::Endpoint,
                          public std::enable_shared_from_this<UcxEndpoint> {
 public:
  static Result<std::shared_ptr<UcxEndpoint>> Connect(UcxWorker* worker,
                                                      const SocketAddress& address,
                                                      EndpointUser* user);
  static Result<std::shared_ptr<UcxEndpoint>> Accept(UcxWorker* worker, ucp_conn_request* request,
                                                     EndpointUser* user);

  void Send(std::unique_ptr<rendezvous::Sending> sending) override;
  void Pull(rendezvous::Announced what, uint8_t* to, size_t bytes,
            std::function<void(Status)> done) override;
  void Fail(Status why) override;
  void Close() override;
  std::string Transports() const override;
  bool closed() const override { return ep_ == nullptr; }

  // ---- for UcxWorker and UCX's callbacks ----
  void Arrive(Arrival arrival);
  void NoteFailure(Status why) { worker_->NoteFailure(shared_from_this(), std::move(why)); }
  void OperationDone(std::function<void(Status)> done, Status outcome);

 private:
  UcxEndpoint(UcxWorker* worker, EndpointUser* user) : worker_(worker), user_(user) {}
  static Result<std::shared_ptr<UcxEndpoint>> Create(UcxWorker* worker, EndpointUser* user,
                                                     void* params);
  void CheckSettled();

  UcxWorker* const worker_;
  EndpointUser* user_;
  ucp_ep* ep_ = nullptr;
  bool failed_ = false;
  bool closing_ = false;  // UCX has not finished its close
  size_t operations_ = 0;
};

}  // namespace perigee::rdma::ucx
