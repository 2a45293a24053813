#pragma once
// ClientConnection: the client's end of one connection: hello, sending, and turning frames into
// answers. It knows calls by id only while they are in flight; queues, waiting threads and
// reconnecting belong to ClientCore.
//
// Thread rule: sending under stream().write_mutex(); Receive and Dispatch by the holder of the
// reader's role.

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "rdma/credits.h"
#include "rdma/hello.h"
#include "rdma/local/client_call.h"
#include "rdma/local/core.h"

namespace perigee::rdma::local {

class ClientCore;

class ClientConnection : public Watcher, public std::enable_shared_from_this<ClientConnection> {
 public:
  // kBusy: the server's backlog is full, try again soon.
  static Result<std::shared_ptr<ClientConnection>> Open(std::shared_ptr<ClientCore> owner,
                                                        std::shared_ptr<EventLoop> loop,
                                                        const std::string& path);

  // Registers with the loop and sends the first hello. Before anyone else knows the connection.
  Status Begin();
  void OnReady(uint32_t events) override;
  // With write_mutex held.
  Status SendRequest(const ClientCall& call);
  // Tells the server that the bulk of answer `id` is not needed any more.
  void SendPulled(uint64_t id);
  // Handles every whole frame that has arrived. A failure ends the connection.
  Status Dispatch();
  // No callbacks of this connection start afterwards, and a reader returns. Thread-safe.
  void End();

  Stream& stream() { return stream_; }
  Watch& watch() { return watch_; }

  // Guarded by ClientCore's mutex.
  enum class Reader { kNobody, kCaller, kLoop };
  Reader reader = Reader::kLoop;  // hello is the loop's
  bool ready = false;
  bool ended = false;  // the loop saw the end while a caller was reading
  bool broken = false;
  Credits credits;             // none before hello is done
  PeerBytes* bytes = nullptr;  // likewise, then constant
  uint64_t next_id = 0;
  size_t async_in_flight = 0;
  // By id. `call` is null when its caller has given up: it holds its credit until the server
  // answers.
  struct InFlight {
    std::shared_ptr<ClientCall> call;
    TrafficClass traffic = TrafficClass::kForeground;
  };
  std::unordered_map<uint64_t, InFlight> in_flight;
  EventLoop::TimerId hello_timer = 0;

 private:
  ClientConnection(std::shared_ptr<ClientCore> owner, std::shared_ptr<EventLoop> loop, OwnedFd fd);
  Status Handle(Frame& frame, bool* credit_freed);
  Status HandleHello(const Frame& frame);
  Status HandleResponse(Frame& frame, bool* credit_freed);
  Status SendControl(FrameKind kind, std::string_view message);

  const std::shared_ptr<ClientCore> owner_;
  const std::shared_ptr<EventLoop> loop_;
  Watch watch_;
  Stream stream_;
  // Reader only.
  std::optional<HelloClient> hello_;
  bool serving_ = false;
  RemoteSlabs slabs_;
};

}  // namespace perigee::rdma::local
