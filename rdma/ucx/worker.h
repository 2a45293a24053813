#pragma once
// UcxWorker: a ucp_worker and what happens on it. UCX calls back from inside its progress function;
// there only a note is made of what came, and everyone is told after it has returned, so that
// whoever is told may do anything, closing endpoints included.
//
// Thread rule: that of Worker (UCX's mode SINGLE).

#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "base/status.h"
#include "rdma/rendezvous/worker.h"
#include "rdma/ucx/context.h"

struct ucp_worker;
struct ucp_ep;

namespace perigee::rdma::ucx {

using rendezvous::Arrival;
using rendezvous::ConnectionRequest;
using rendezvous::EndpointUser;
using rendezvous::ListenSocket;
using rendezvous::SocketAddress;

class UcxEndpoint;

// UCX's descriptor of data that a peer has announced.
class UcxAnnouncement final : public rendezvous::Announcement {
 public:
  UcxAnnouncement(ucp_worker* worker, void* descriptor)
      : worker_(worker), descriptor_(descriptor) {}
  ~UcxAnnouncement() override;
  void* Take();  // it is UCX's again

 private:
  ucp_worker* worker_;
  void* descriptor_;
};

class UcxWorker final : public rendezvous::Worker {
 public:
  static Result<std::unique_ptr<UcxWorker>> Create(std::shared_ptr<Context> context);
  ~UcxWorker() override;

  Result<std::shared_ptr<rendezvous::Endpoint>> Connect(const SocketAddress& address,
                                                        EndpointUser* user) override;
  Result<std::shared_ptr<rendezvous::Endpoint>> Accept(std::shared_ptr<ConnectionRequest> request,
                                                       EndpointUser* user) override;
  Result<std::unique_ptr<ListenSocket>> Listen(
      const SocketAddress& address,
      std::function<void(std::shared_ptr<ConnectionRequest>)> on_request) override;
  bool Progress() override;
  bool Arm() override;
  int event_fd() const override { return event_fd_; }
  void Signal() override;

  // ---- for endpoints and listen sockets ----
  ucp_worker* get() const { return worker_; }
  // `fn` runs within this Progress or the next one.
  void Defer(std::function<void()> fn);
  void Add(ucp_ep* ep, const std::shared_ptr<UcxEndpoint>& endpoint);
  void Retire(ucp_ep* ep, const std::shared_ptr<UcxEndpoint>& endpoint);
  void Settled(const std::shared_ptr<UcxEndpoint>& endpoint) { retired_.erase(endpoint); }
  // Called inside UCX's progress. False: nobody has this endpoint any more.
  bool Note(ucp_ep* ep, Arrival* arrival);
  void NoteFailure(std::shared_ptr<UcxEndpoint> endpoint, Status why);

 private:
  struct Event {
    std::shared_ptr<UcxEndpoint> endpoint;  // of an arrival or a failure
    Arrival arrival;
    Status failure;
    std::function<void()> fn;  // without an endpoint
  };
  explicit UcxWorker(std::shared_ptr<Context> context) : context_(std::move(context)) {}

  const std::shared_ptr<Context> context_;
  ucp_worker* worker_ = nullptr;
  int event_fd_ = -1;
  std::deque<Event> events_;
  std::unordered_map<ucp_ep*, std::shared_ptr<UcxEndpoint>> endpoints_;
  std::set<std::shared_ptr<UcxEndpoint>> retired_;  // closed, but UCX has their buffers
};

}  // namespace perigee::rdma::ucx
