#pragma once
// ClientConnection: the client's end of one connection: hello, and the calls in flight. Waiting
// calls and reconnecting belong to ClientCore. Thread rule: loop-bound.

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "rdma/credits.h"
#include "rdma/hello.h"
#include "rdma/tls/client_call.h"
#include "rdma/tls/core.h"
#include "rdma/tls/link.h"

namespace perigee::rdma::tls {

class ClientCore;

class ClientConnection final : public Link {
 public:
  static Result<std::shared_ptr<ClientConnection>> Open(std::shared_ptr<ClientCore> owner,
                                                        std::shared_ptr<Core> core,
                                                        std::shared_ptr<EventLoop> loop,
                                                        const SocketAddress& address,
                                                        const std::string& host);

  bool ready() const { return ready_; }
  bool reached() const { return connected(); }  // there is somebody at that address
  bool HasCredit(TrafficClass traffic) const { return credits_.Free(traffic); }
  void SendRequest(const std::shared_ptr<ClientCall>& call);
  // The call has ended, and its memory is not touched any more.
  void GiveUp(uint64_t id);
  // Every call that still waits for an answer.
  std::vector<std::shared_ptr<ClientCall>> TakeCalls();

 private:
  struct InFlight {
    std::shared_ptr<ClientCall> call;  // null: given up, its answer is awaited for its credit
    TrafficClass traffic = TrafficClass::kForeground;
    bool offered = false;     // its bulk was announced
    bool collecting = false;  // the answer is there, its bulk is not
    std::string answer;
  };
  ClientConnection(std::shared_ptr<ClientCore> owner, std::shared_ptr<Core> core,
                   std::shared_ptr<EventLoop> loop);
  void OnOpen() override;
  FrameLimits Limits() const override;
  Status OnFrame(const Frame& frame) override;
  void OnBulk(uint64_t id, Result<Piece> piece) override;
  void OnEnd(const Status& why) override;
  Status HandleHello(const Frame& frame);
  Status HandleResponse(const Frame& frame);
  // The call is over and its credit is free.
  void Erase(std::unordered_map<uint64_t, InFlight>::iterator it);

  const std::shared_ptr<ClientCore> owner_;
  std::optional<HelloClient> hello_;
  bool ready_ = false;
  Credits credits_;  // none before hello is done
  uint64_t next_id_ = 0;
  std::unordered_map<uint64_t, InFlight> in_flight_;
};

}  // namespace perigee::rdma::tls
