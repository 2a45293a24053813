#pragma once
// Server: the burst buffer daemon, assembled: transport, pools, index, engine, services, admin
// door. Start returns once local clients are served; objectd may be away then (it is asked again
// until it answers). Stop ends everything.

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/admin_server.h"
#include "base/daemon.h"
#include "base/preflight.h"
#include "bufferd/burst_service.h"
#include "bufferd/engine.h"
#include "bufferd/forward.h"
#include "bufferd/options.h"
#include "bufferd/peers.h"
#include "client/blob/remote_cluster.h"
#include "rdma/network/network.h"

namespace perigee::bufferd {

class Server {
 public:
  static Result<std::unique_ptr<Server>> Start(const BufferdOptions& options);
  ~Server();
  void Stop();

 private:
  struct Pools {
    std::unique_ptr<Scheduler> client, slow, peer, watch, told, tell, feed, work, fill, flush,
        unlink, shards;
    std::vector<Scheduler*> All() const;
  };
  explicit Server(BufferdOptions options) : options_(std::move(options)) {}
  Status OpenStore();
  Status Connect();
  Status BuildEngine();
  Status Listen();
  Status StartAdmin();
  void KeepRegistered();
  bool RegisterNode();
  void NoteAway(const Status& failed);
  bool Connected() const { return objectd_->Healthy() && registered_ && names_->there(); }
  std::vector<PreflightCheck> Preflight() const;
  void CompleteStatus(wire::BufferdStatusReply* status) const;

  const BufferdOptions options_;
  wire::NodeId node_ = 0;
  const uint64_t incarnation_ = static_cast<uint64_t>(RealClock::Get().Wall());  // start time
  std::string boot_;
  bool stopped_ = false;
  std::unique_ptr<Disk> disk_;
  std::unique_ptr<PidLock> lock_;
  std::unique_ptr<metrics::Registry> registry_;
  Pools pools_;
  std::shared_ptr<rdma::SlabPool> slabs_;
  std::unique_ptr<rdma::Network> network_;
  std::shared_ptr<rdma::Channel> objectd_, feed_channel_;
  std::unique_ptr<Names> names_;
  std::unique_ptr<Delegations> delegations_;
  std::unique_ptr<client::MetaClient> meta_, feed_;
  std::unique_ptr<client::RemoteCluster> cluster_, cluster_ahead_, cluster_flush_;
  const std::shared_ptr<client::GivenUpLeases> given_up_ =
      std::make_shared<client::GivenUpLeases>();
  std::unique_ptr<client::BlobReader> blobs_, blobs_ahead_;
  std::unique_ptr<RpcPeers> peers_;
  std::unique_ptr<BurstIndex> index_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<BurstService> service_;
  std::unique_ptr<Forward> forward_;
  std::unique_ptr<AdminServer> admin_;
  std::vector<PreflightCheck> preflight_;
  std::atomic<bool> registered_{false};
  mutable std::mutex link_mu_;  // guards what follows
  wire::LinkInfo link_;         // to objectd: since when, and what is wrong
};

}  // namespace perigee::bufferd
