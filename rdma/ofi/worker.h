#pragma once
// OfiWorker: libfabric on one loop: a device (domain and queues) for each fabric that is used, and
// the endpoints and listen sockets on them. It sleeps on the queues' descriptors. Thread rule: that
// of Worker.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "rdma/ofi/device.h"
#include "rdma/ofi/endpoint.h"
#include "rdma/ofi/fabric.h"
#include "rdma/ofi/listen_socket.h"
#include "rdma/rendezvous/worker.h"
#include "rdma/transport.h"

struct fid;

namespace perigee::rdma::ofi {

class OfiWorker final : public rendezvous::Worker {
 public:
  static Result<std::unique_ptr<OfiWorker>> Create(std::shared_ptr<Fabric> fabric,
                                                   std::shared_ptr<SlabPool> pool);
  ~OfiWorker() override;

  Result<std::shared_ptr<rendezvous::Endpoint>> Connect(const rendezvous::SocketAddress& address,
                                                        rendezvous::EndpointUser* user) override;
  Result<std::shared_ptr<rendezvous::Endpoint>> Accept(
      std::shared_ptr<rendezvous::ConnectionRequest> request,
      rendezvous::EndpointUser* user) override;
  Result<std::unique_ptr<rendezvous::ListenSocket>> Listen(
      const rendezvous::SocketAddress& address,
      std::function<void(std::shared_ptr<rendezvous::ConnectionRequest>)> on_request) override;
  bool Progress() override;
  bool Arm() override;
  int event_fd() const override { return epoll_.get(); }
  void Signal() override;

  // ---- for endpoints ----
  // `fn` runs within this Progress or the next one.
  void Defer(std::function<void()> fn) { deferred_.push_back(std::move(fn)); }
  void Retire(const std::shared_ptr<OfiEndpoint>& endpoint);
  // Its Flush is to be tried again before long.
  void RetryLater(const std::shared_ptr<OfiEndpoint>& endpoint) { blocked_.insert(endpoint); }

 private:
  OfiWorker(std::shared_ptr<Fabric> fabric, std::shared_ptr<SlabPool> pool)
      : fabric_(std::move(fabric)), pool_(std::move(pool)) {}
  Result<Device*> DeviceFor(const fi_info& info);
  Status Watch(fid* queue);
  bool ReadCompletions(Device* device);
  bool ReadEvents(Device* device);
  void Event(fid* endpoint, uint32_t kind, Status failure);
  bool RunDeferred();
  bool Retry();
  bool SettleRetired();
  void WakeSoon();

  const std::shared_ptr<Fabric> fabric_;
  const std::shared_ptr<SlabPool> pool_;
  OwnedFd epoll_;
  OwnedFd signal_;
  OwnedFd timer_;
  std::map<std::string, std::unique_ptr<Device>> devices_;
  std::set<OfiListenSocket*> listening_;
  std::unordered_map<fid*, std::shared_ptr<OfiEndpoint>> endpoints_;
  std::set<std::shared_ptr<OfiEndpoint>> retired_;  // closed, but libfabric has something of them
  std::set<std::shared_ptr<OfiEndpoint>> blocked_;
  std::deque<std::function<void()>> deferred_;
  uint32_t refusals_ = 0;  // to sleep, one after the other
  uint32_t rounds_ = 0;
};

}  // namespace perigee::rdma::ofi
