#pragma once
// OfiEndpoint: one connection as libfabric sees it: messages through a ring of posted buffers, and
// announced data, which the accepting side (the server) alone moves: it reads the client's and
// writes into memory that the client grants. Thread rule: that of its Worker.
//
// A peer that breaks the grammar, or speaks of announcements that there are not, loses the
// connection, with one log line. Keys and ranges that it was not given are refused by libfabric.

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "base/clock.h"
#include "rdma/ofi/device.h"
#include "rdma/ofi/envelope.h"
#include "rdma/ofi/listen_socket.h"
#include "rdma/ofi/memory.h"
#include "rdma/rendezvous/worker.h"

namespace perigee::rdma::ofi {

class OfiEndpoint;
class OfiWorker;

// One operation while libfabric has it.
struct Operation {
  enum class Kind { kReceive, kSend, kRead, kWrite };
  std::array<void*, 8> context{};  // libfabric's own (fi_context2); first
  std::shared_ptr<OfiEndpoint> endpoint;
  Kind kind = Kind::kReceive;
  Buffer buffer;                                 // of a message
  std::unique_ptr<rendezvous::Sending> sending;  // told when a message has been sent
  Registration registration;                     // of memory outside the pool
  uint64_t token = 0;                            // of a transfer's announcement
  std::function<void(Status)> done;              // of a read
};

class OfiEndpoint final : public rendezvous::Endpoint,
                          public std::enable_shared_from_this<OfiEndpoint> {
 public:
  static Result<std::shared_ptr<OfiEndpoint>> Connect(OfiWorker* worker, Device* device,
                                                      fi_info& info,
                                                      rendezvous::EndpointUser* user);
  static Result<std::shared_ptr<OfiEndpoint>> Accept(OfiWorker* worker, Device* device,
                                                     OfiConnectionRequest& request,
                                                     rendezvous::EndpointUser* user);

  void Send(std::unique_ptr<rendezvous::Sending> sending) override;
  void Pull(rendezvous::Announced what, uint8_t* to, size_t bytes,
            std::function<void(Status)> done) override;
  void Fail(Status why) override;
  void Close() override;
  std::string Transports() const override;
  bool closed() const override { return closing_; }

  // ---- for OfiWorker ----
  void OnConnected();
  void FailSoon(Status why);
  void OnCompletion(std::unique_ptr<Operation> operation, const Status& outcome, size_t bytes);
  // Posts what waits. False: libfabric takes nothing now, and will not tell when it does.
  bool Flush();
  // Ends what has been closed. True: libfabric has nothing of it any more.
  bool Settle(Nanos now);
  void CloseNow();
  fid_ep* get() const { return ep_; }
  // ---- for announcements ----
  void Release(uint64_t token);

 private:
  enum class Side { kClient, kServer };
  struct Outgoing {  // waits to be posted
    Operation::Kind kind = Operation::Kind::kSend;
    Envelope envelope;  // of a transfer: its token, length and the peer's memory
    std::string head;
    std::unique_ptr<rendezvous::Sending> sending;
    uint8_t* local = nullptr;
    std::function<void(Status)> done;
  };
  struct Offered {  // our announcement, until the peer has it or lets it go
    std::unique_ptr<rendezvous::Sending> sending;
    Exposure exposure;     // a client's
    bool writing = false;  // a server's
  };
  struct Granted {  // a client's memory, until the server has written it
    Exposure exposure;
    std::function<void(Status)> done;
  };
  OfiEndpoint(OfiWorker* worker, Device* device, fid_ep* ep, Side side,
              rendezvous::EndpointUser* user)
      : worker_(worker), device_(device), ep_(ep), side_(side), user_(user) {}
  static Result<std::shared_ptr<OfiEndpoint>> Create(OfiWorker* worker, Device* device,
                                                     fi_info& info, Side side,
                                                     rendezvous::EndpointUser* user);
  Status PostReceive(std::unique_ptr<Operation> operation);
  Result<bool> Post(Outgoing* out);
  Result<bool> PostMessage(Outgoing* out);
  Result<bool> PostTransfer(Outgoing* out);
  void Enqueue(Outgoing out);
  void Control(EnvelopeKind kind, uint64_t token);
  Status OnMessage(ConstBytes message);
  Status OnAnnounce(const Envelope& envelope, ConstBytes head);
  Status OnGrant(const Envelope& envelope);
  Status OnWritten(uint64_t token);
  Status OnRelease(uint64_t token);
  void Violation(const Status& why);
  void Finish(std::unique_ptr<rendezvous::Sending> sending, Status outcome);
  void FinishOffered(uint64_t token, Status outcome);

  OfiWorker* const worker_;
  Device* const device_;
  fid_ep* ep_;  // null: closed, and libfabric told
  const Side side_;
  rendezvous::EndpointUser* user_;
  bool connecting_ = false;  // libfabric knows of the connection
  bool up_ = false;
  bool failed_ = false;
  bool closing_ = false;
  Nanos close_by_ = 0;
  size_t posted_ = 0;     // operations that libfabric has
  size_t transmits_ = 0;  // of these all but receives
  std::deque<Outgoing> outgoing_;
  uint64_t next_token_ = 0;
  uint64_t last_peer_token_ = 0;
  std::unordered_map<uint64_t, Offered> offered_;  // by our token
  std::unordered_map<uint64_t, Granted> granted_;  // by the peer's
};

}  // namespace perigee::rdma::ofi
