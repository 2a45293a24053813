#pragma once
// Link: the messages of one connection, the same on both sides: framing and its checks, bodies that
// come apart from their bulk, heartbeat, and memory that the peer takes too long to fetch.
//
// Whatever breaks the rules ends the link (one log line) and nothing else. Loop-bound; lives until
// its last message has been sent.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "rdma/rendezvous/core.h"
#include "rdma/rendezvous/frame.h"
#include "rdma/rendezvous/worker.h"

namespace perigee::rdma::rendezvous {

struct Incoming {
  FrameHeader head;
  std::string body;
  Source bulk;  // head.bulk_len bytes
};

// A message to send. `bulk` lies in `piece`, or in memory that stays until `sent`.
struct Outgoing {
  FrameHeader head;  // lengths and data are filled in; data_crc is the bulk's, when it is announced
  std::string body;
  ConstBytes bulk;
  Piece piece;
  Nanos fetch_by = 0;          // a peer that holds on to announced bulk longer loses the connection
  std::function<void()> sent;  // optional; nobody reads `bulk` any more. May run within Send
};

class LinkUser {
 public:
  virtual ~LinkUser() = default;
  // A failure is the peer's fault and ends the link.
  virtual Status OnIncoming(Incoming incoming) = 0;
  virtual void OnEnd(const Status& why) = 0;  // once, last; not after Leave and Close
};

class Link final : public EndpointUser, public std::enable_shared_from_this<Link> {
 public:
  Link(std::shared_ptr<Core> core, std::shared_ptr<Loop> loop, uint64_t number, LinkUser* user)
      : core_(std::move(core)), loop_(std::move(loop)), number_(number), user_(user) {}

  Status Connect(const SocketAddress& address);
  Status Accept(std::shared_ptr<ConnectionRequest> request);
  // Hello is over: larger messages, the heartbeat, and what calls carry is counted.
  void BeginService(size_t body_max, PeerBytes* bytes);
  // Whether bulk is announced rather than sent along, beside a body of this size.
  static bool Announces(size_t body_bytes, size_t bulk_bytes) {
    return bulk_bytes > 0 && body_bytes + bulk_bytes > kEagerBytesMax;
  }
  void Send(Outgoing out);
  void SendControl(FrameKind kind, std::string body);
  // Gets the bulk of a message that came here (see Puller).
  void Pull(Source bulk, TrafficClass traffic, Nanos deadline, Puller::Done done);
  // Both tell the user; a violation is also logged.
  void End(const Status& why);
  void OnViolation(const Status& why);
  void Close();
  // Closes after a last word, if that is possible soon.
  void Leave(FrameKind last, std::string body);
  // Messages that the peer has not taken yet, and what they hold beside pieces of a pool.
  size_t unsent() const { return unsent_; }
  size_t unsent_bytes() const { return unsent_bytes_; }
  std::string Transports() const { return endpoint_ ? endpoint_->Transports() : ""; }

  void OnArrival(Arrival arrival) override;
  void OnFailure(const Status& why) override { End(why); }

 private:
  struct Part {  // one of the two messages of a call whose body is apart
    std::optional<Incoming> main;
    std::optional<std::string> body;
  };
  Status Handle(Arrival arrival);
  Status Whole(const FrameHeader& head, std::string data);
  Status PullBody(const FrameHeader& head, Arrival arrival);
  Status Assemble(uint64_t id);
  Status Deliver(Incoming incoming);
  size_t PartsMax() const;
  void Transmit(FrameHeader head, std::string_view body_in_head, std::unique_ptr<Sending> sending,
                Nanos fetch_by, std::function<void()> sent);
  void ArmTick();
  void Tick();
  bool Detach();

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Loop> loop_;
  const uint64_t number_;
  LinkUser* user_;  // null: ended
  std::shared_ptr<Endpoint> endpoint_;
  FrameLimits limits_;
  PeerBytes* bytes_ = nullptr;  // until hello is done
  std::unordered_map<uint64_t, Part> parts_;
  size_t bodies_pulling_ = 0;
  // Announced bulk that the peer has not fetched, by a number of ours.
  std::map<uint64_t, Nanos> held_;
  uint64_t next_held_ = 0;
  size_t unsent_ = 0;
  size_t unsent_bytes_ = 0;
  bool heard_ = true;  // a message came, or bulk went over, since the last tick
  bool spoken_ = true;
  uint32_t silent_ticks_ = 0;
  Nanos last_tick_ = 0;
  Loop::TimerId tick_ = 0;
};

}  // namespace perigee::rdma::rendezvous
