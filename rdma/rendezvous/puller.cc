#include "rdma/rendezvous/puller.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/checksum.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "rdma/rendezvous/loop.h"

namespace perigee::rdma::rendezvous {

namespace {
constexpr Nanos kDeliverMax = 5 * kSecond;

Status Checked(const Piece& piece, uint32_t crc) {
  PERIGEE_FAILPOINT_STATUS(rdma_rendezvous_after_pull);
  if (Crc32c(piece.span()) == crc) return Status::Ok();
  return Status(Code::kCorrupt, "a bulk payload does not have its checksum");
}
}  // namespace

Puller::Puller(Loop* loop, std::string provider, std::shared_ptr<SlabPool> pool, uint64_t bytes_max)
    : loop_(loop),
      provider_(std::move(provider)),
      pool_(std::move(pool)),
      bytes_max_(bytes_max),
      watching_(std::make_shared<bool>(false)) {}

Puller::~Puller() = default;

void Puller::Pull(uint64_t flow, Source source, Nanos deadline, Done done) {
  uint64_t id = ++next_id_;
  auto& queue = flows_[flow];
  if (queue.empty()) turns_.push_back(flow);
  queue.push_back(Waiting{std::move(source), std::move(done), 0, id});
  Pump();
  auto it = flows_.find(flow);
  if (it == flows_.end() || it->second.back().id != id) return;
  it->second.back().timer = loop_->At(deadline, [this, flow, id] { Expire(flow, id); });
}

void Puller::Pump() {
  if (std::exchange(pumping_, true)) return;  // a `done` pulls again
  while (StartNext()) {
  }
  pumping_ = false;
}

// The second try, after the registration, closes the gap before it.
bool Puller::TakePiece(size_t bytes, Piece* piece) {
  *piece = pool_->TryAllocate(bytes);
  if (*piece) return true;
  if (*watching_) return false;
  *watching_ = true;
  pool_->OnNextFree([loop = loop_->weak_from_this(), watching = watching_] {
    auto alive = loop.lock();
    if (!alive) return;
    // After Stop nobody waits for the buffer.
    (void)alive->Post([raw = alive.get(), watching] {
      *watching = false;
      raw->pulls().Pump();
    });
  });
  *piece = pool_->TryAllocate(bytes);
  return static_cast<bool>(*piece);
}

bool Puller::MayStart(uint64_t flow, size_t bytes) const {
  auto of = pulling_of_.find(flow);
  return (bytes_pulling_ == 0 || bytes_pulling_ + bytes <= bytes_max_) &&
         (of == pulling_of_.end() || of->second + bytes <= bytes_max_ / 4);
}

bool Puller::StartNext() {
  auto turn = std::find_if(turns_.begin(), turns_.end(), [this](uint64_t flow) {
    return MayStart(flow, flows_.at(flow).front().source.bytes);
  });
  if (turn == turns_.end()) return false;
  uint64_t flow = *turn;
  auto it = flows_.find(flow);
  Piece piece;
  if (!TakePiece(it->second.front().source.bytes, &piece)) return false;
  Waiting waiting = std::move(it->second.front());
  it->second.pop_front();
  turns_.erase(turn);
  if (it->second.empty()) {
    flows_.erase(it);
  } else {
    turns_.push_back(flow);
  }
  loop_->Cancel(waiting.timer);
  Start(flow, std::move(waiting), std::move(piece));
  return true;
}

void Puller::Start(uint64_t flow, Waiting waiting, Piece piece) {
  Source& source = waiting.source;
  if (!source.announced) {
    std::memcpy(piece.data(), source.copied.data(), source.bytes);
    waiting.done(std::move(piece));
    return;
  }
  bytes_pulling_ += source.bytes;
  pulling_of_[flow] += source.bytes;
  auto shared = std::make_shared<Piece>(std::move(piece));
  Loop::TimerId stalled = loop_->At(
      RealClock::Get().Monotonic() + kDeliverMax, [this, flow, endpoint = source.endpoint] {
        log::Warn("rdma_peer_violation", {{"why", "announced bulk was not delivered"},
                                          {"provider", provider_},
                                          {"connection", flow}});
        endpoint->Fail(Status(Code::kUnavailable, "the peer does not deliver what it announced"));
      });
  PERIGEE_FAILPOINT(rdma_rendezvous_before_pull);
  source.endpoint->Pull(std::move(source.announced), shared->data(), source.bytes,
                        [this, flow, shared, stalled, crc = source.crc, bytes = source.bytes,
                         done = std::move(waiting.done)](Status st) {
                          loop_->Cancel(stalled);
                          Arrived(flow, bytes);
                          if (st.ok()) st = Checked(*shared, crc);
                          if (st.ok()) {
                            done(std::move(*shared));
                          } else {
                            shared->Release();
                            done(std::move(st));
                          }
                          Pump();
                        });
}

void Puller::Arrived(uint64_t flow, size_t bytes) {
  bytes_pulling_ -= bytes;
  auto of = pulling_of_.find(flow);
  of->second -= bytes;
  if (of->second == 0) pulling_of_.erase(of);
}

void Puller::Expire(uint64_t flow, uint64_t id) {
  auto it = flows_.find(flow);
  if (it == flows_.end()) return;
  auto late = std::find_if(it->second.begin(), it->second.end(),
                           [id](const Waiting& w) { return w.id == id; });
  if (late == it->second.end()) return;
  Waiting waiting = std::move(*late);
  it->second.erase(late);
  if (it->second.empty()) {
    flows_.erase(it);
    std::erase(turns_, flow);
  }
  waiting.source.announced.reset();
  waiting.done(Status(Code::kDeadlineExceeded, "no buffer for the payload came free in time"));
  Pump();
}

void Puller::Drop(uint64_t flow) {
  auto it = flows_.find(flow);
  if (it == flows_.end()) return;
  std::deque<Waiting> dropped = std::move(it->second);
  flows_.erase(it);
  std::erase(turns_, flow);
  for (Waiting& waiting : dropped) {
    loop_->Cancel(waiting.timer);
    waiting.source.announced.reset();
    waiting.done(Status(Code::kUnavailable, "the connection was lost"));
  }
  Pump();
}

void Puller::DropAll() {
  while (!flows_.empty()) Drop(flows_.begin()->first);
}

}  // namespace perigee::rdma::rendezvous
