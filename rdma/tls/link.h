#pragma once
// Link: one TLS connection as frames and payloads, the same for both ends. Small frames go first,
// responses by their traffic class; large payloads follow in pieces once granted, by class as well,
// so that none delays a small frame by more than one piece. It tells the peer each second that it
// lives, and ends when nothing came for `dead_after`.
//
// Nothing is read faster than it can be handed on, and nothing queued without bound: payloads wait
// where they lie, messages are bounded by the credits of hello, and a server whose peer does not
// take its answers reads no more requests. Thread rule: loop-bound.

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rdma/tls/bulk_in.h"
#include "rdma/tls/bulk_out.h"
#include "rdma/tls/core.h"
#include "rdma/tls/frame.h"
#include "rdma/tls/socket.h"

namespace perigee::rdma::tls {

struct Frame {
  FrameHeader head;
  std::string_view message;  // these two during OnFrame
  ConstBytes inline_bulk;
};

class Link : public Watcher, public std::enable_shared_from_this<Link> {
 public:
  ~Link() override;
  void OnReady(uint32_t events) override;
  // Ends the connection from the loop's next turn on; `why` goes to OnEnd.
  void Fail(Status why);
  // Now, and without OnEnd.
  void End();

  void Send(const FrameHeader& head, std::string_view message = {}, ConstBytes inline_bulk = {});
  // Announced with this frame, which was sent; see BulkOut.
  void Offer(const FrameHeader& head, ConstBytes data, Piece keep, Nanos until) {
    out_.Offer(head.id, head.traffic, data, std::move(keep), until);
  }
  // The payload's memory is not touched any more when this returns. `answered`: the receiver has
  // ended the call, and sends no grant any more.
  void Withdraw(uint64_t id, bool answered);
  // Wants the payload that came or was announced with `frame`, of a call of this class: OnBulk has
  // it or says why not.
  Status Expect(const Frame& frame, TrafficClass traffic);
  // Does not want it any more: OnBulk will not run. `tell`: the sender is to know.
  void Drop(uint64_t id, bool tell);
  void Decline(uint64_t id);
  // What was sent goes out. Last in whatever the loop runs, after any number of the above.
  void Flush();

  const std::shared_ptr<EventLoop>& loop() const { return loop_; }
  Core& core() const { return *core_; }

 protected:
  enum class Side { kClient, kServer };
  Link(std::shared_ptr<Core> core, std::shared_ptr<EventLoop> loop, Side side);
  // From the loop. A client's socket may still be connecting.
  Status Begin(std::unique_ptr<TlsSocket> socket);
  bool connected() const { return phase_ != Phase::kConnecting; }
  bool ended() const { return phase_ == Phase::kEnded; }
  // Hello is done: what calls carry from here on is counted for this peer.
  void KnowPeer(Role role, uint64_t node_id) { bytes_ = core_->BytesWith(role, node_id); }

  virtual void OnOpen() = 0;  // TLS stands
  virtual FrameLimits Limits() const = 0;
  virtual Status OnFrame(const Frame& frame) = 0;
  virtual void OnBulk(uint64_t id, Result<Piece> piece) = 0;
  virtual void OnEnd(const Status& why) = 0;  // once, last

 private:
  enum class Phase { kConnecting, kHandshake, kOpen, kEnded };
  void EndWith(const Status& why);
  Status Advance();
  Status ReadSome();
  Status Parse();
  Status Handle(const Frame& frame);
  Status PieceArrived(size_t bytes);
  void GrantSome();
  Status WriteSome();
  bool Writing() const;
  bool TakeSmall();
  bool ChooseNext();
  void Tick();
  void ArmTick();

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<EventLoop> loop_;
  const Side side_;
  PeerBytes* bytes_ = nullptr;  // until hello is done
  Watch watch_;
  std::unique_ptr<TlsSocket> socket_;
  Phase phase_ = Phase::kConnecting;
  EventLoop::TimerId tick_ = 0;
  Nanos heard_ = 0, spoke_ = 0;

  // Reading.
  std::vector<uint8_t> buffer_;
  size_t begin_ = 0, end_ = 0;
  uint64_t piece_id_ = 0;
  size_t piece_left_ = 0;  // of a kData frame
  bool paused_ = false;
  bool again_ = false;  // more to read is posted
  BulkIn in_;
  bool watching_pool_ = false;

  // Writing.
  std::deque<std::string> small_;      // in order: requests, and what is about payloads
  ClassQueue<std::string> responses_;  // behind those
  size_t small_bytes_ = 0;             // of both
  std::string text_;                   // the small frame under way
  ConstBytes text_left_;               // of it, or of a piece's header
  std::array<uint8_t, kFrameBytes> piece_head_;
  std::optional<BulkOut::Next> piece_;  // under way, behind its header
  std::vector<uint8_t> piece_copy_;     // of a piece whose payload was withdrawn
  BulkOut out_;
};

}  // namespace perigee::rdma::tls
