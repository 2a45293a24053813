#pragma once
// Endpoint: one connection as UCX sees it: active messages out and in, pulls of what was announced,
// its failure and its end. Peer error handling is on at both ends.
//
// Buffers: what is being sent or pulled belongs to the operation until UCX has called back, also
// after Close: UCX 1.13 cannot cancel an active message. Thread rule: that of its Worker.

#include <functional>
#include <memory>
#include <string>

#include "rdma/slab_pool.h"
#include "rdma/ucx/address.h"
#include "rdma/ucx/worker.h"

struct ucp_conn_request;

namespace perigee::rdma::ucx {

inline constexpr unsigned kActiveMessageId = 1;

// One active message on its way out. `data` lies in `copy`, in `piece`, or in memory that stays
// until `done`; `done` is always called, once.
struct Sending {
  std::string head;
  std::string copy;
  Piece piece;
  ConstBytes data;
  std::function<void(Status)> done;
  std::shared_ptr<class Endpoint> endpoint;  // set by Send
};

class EndpointUser {
 public:
  virtual ~EndpointUser() = default;
  virtual void OnArrival(Arrival arrival) = 0;
  virtual void OnFailure(const Status& why) = 0;  // nothing arrives afterwards; still to be closed
};

class Endpoint : public std::enable_shared_from_this<Endpoint> {
 public:
  // The connection is made while the first message waits; OnFailure tells if it cannot be.
  static Result<std::shared_ptr<Endpoint>> Connect(Worker* worker, const SocketAddress& address,
                                                   EndpointUser* user);
  static Result<std::shared_ptr<Endpoint>> Accept(Worker* worker, ucp_conn_request* request,
                                                  EndpointUser* user);

  // Up to kEagerBytesMax bytes of data are sent along, more are announced.
  void Send(std::unique_ptr<Sending> sending);
  // `to` has room for all of it and stays until `done`.
  void Pull(Announced what, uint8_t* to, size_t bytes, std::function<void(Status)> done);
  // The user hears nothing more, the peer that the connection is gone. What is on its way ends with
  // a failure.
  void Close();
  // "tcp/eth1, sysv": what UCX has chosen for this connection, once it stands.
  std::string Transports() const;
  bool closed() const { return ep_ == nullptr; }

  // ---- for Worker and UCX's callbacks ----
  void Arrive(Arrival arrival);
  void Fail(Status why);
  void NoteFailure(Status why) { worker_->NoteFailure(shared_from_this(), std::move(why)); }
  void OperationDone(std::function<void(Status)> done, Status outcome);

 private:
  Endpoint(Worker* worker, EndpointUser* user) : worker_(worker), user_(user) {}
  static Result<std::shared_ptr<Endpoint>> Create(Worker* worker, EndpointUser* user, void* params);
  void CheckSettled();

  Worker* const worker_;
  EndpointUser* user_;
  ucp_ep* ep_ = nullptr;
  bool failed_ = false;
  bool closing_ = false;  // UCX has not finished its close
  size_t operations_ = 0;
};

}  // namespace perigee::rdma::ucx
