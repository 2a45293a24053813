#include "rdma/rendezvous/puller.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>
#include <vector>

#include "base/checksum.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "rdma/rendezvous/loop.h"

namespace perigee::rdma::rendezvous {

namespace {
constexpr Nanos kDeliverMax = 5 * kSecond;

Nanos Now() { return RealClock::Get().Monotonic(); }

Status Checked(const Piece& piece, uint32_t crc) {
  PERIGEE_FAILPOINT_STATUS(rdma_rendezvous_after_pull);
  if (Crc32c(piece.span()) == crc) return Status::Ok();
  return Status(Code::kCorrupt, "a bulk payload does not have its checksum");
}
}  // namespace

Puller::Puller(Loop* loop, std::string provider, std::shared_ptr<SlabPool> pool, uint64_t bytes_max,
               Nanos class_age)
    : loop_(loop),
      provider_(std::move(provider)),
      pool_(std::move(pool)),
      bytes_max_(bytes_max),
      watching_(std::make_shared<bool>(false)),
      order_(class_age) {}

Puller::~Puller() = default;

void Puller::Pull(uint64_t flow, Source source, TrafficClass traffic, Nanos deadline, Done done) {
  uint64_t id = ++next_id_;
  Lane& lane = Of(traffic);
  if (lane.turns.empty()) order_.WaitsSince(traffic, Now());
  auto& queue = lane.flows[flow];
  if (queue.empty()) lane.turns.push_back(flow);
  queue.push_back(Waiting{std::move(source), std::move(done), 0, id});
  Pump();
  auto it = lane.flows.find(flow);
  if (it == lane.flows.end() || it->second.back().id != id) return;
  it->second.back().timer =
      loop_->At(deadline, [this, flow, traffic, id] { Expire(flow, traffic, id); });
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

void Puller::OnTheWay::Add(const Pulled& pulled) {
  bytes += pulled.bytes;
  if (IsBackground(pulled.traffic)) background += pulled.bytes;
}

void Puller::OnTheWay::Remove(const Pulled& pulled) {
  bytes -= pulled.bytes;
  if (IsBackground(pulled.traffic)) background -= pulled.bytes;
}

// Of the flow whose turn it is in its class. A flow that has no room for what goes first there is
// `full` for the classes behind, too: they would starve it.
std::optional<Puller::Pulled> Puller::NextOf(TrafficClass traffic, std::set<uint64_t>* full) const {
  const Lane& lane = lanes_[IndexOf(traffic)];
  const uint64_t share = bytes_max_ / 4;
  for (uint64_t flow : lane.turns) {
    if (full->contains(flow)) continue;
    Pulled next{flow, traffic, lane.flows.at(flow).front().source.bytes};
    auto of = pulling_of_.find(flow);
    if (of == pulling_of_.end()) return next;
    if (IsBackground(traffic) && of->second.background > 0 &&
        of->second.background + next.bytes > share - share / 4) {
      continue;
    }
    if (of->second.bytes + next.bytes <= share) return next;
    full->insert(flow);
  }
  return std::nullopt;
}

std::optional<Puller::Pulled> Puller::Next() const {
  std::set<uint64_t> full;
  std::array<bool, kTrafficClasses> passed{};
  auto may = [&](TrafficClass traffic) {
    return !passed[IndexOf(traffic)] && !lanes_[IndexOf(traffic)].turns.empty();
  };
  while (auto traffic = order_.Next(Now(), may)) {
    passed[IndexOf(*traffic)] = true;
    auto next = NextOf(*traffic, &full);
    if (!next) continue;
    bool too_much = IsBackground(*traffic) && pulling_.background > 0 &&
                    pulling_.background + next->bytes > BackgroundPlaces(bytes_max_);
    if (!too_much) return next;
  }
  return std::nullopt;
}

// Where all together is too much the first one is waited for, not passed by: it would starve.
bool Puller::StartNext() {
  auto next = Next();
  if (!next || (pulling_.bytes > 0 && pulling_.bytes + next->bytes > bytes_max_)) return false;
  Piece piece;
  if (!TakePiece(next->bytes, &piece)) return false;
  Waiting waiting = TakeWaiting(*next);
  loop_->Cancel(waiting.timer);
  Start(*next, std::move(waiting), std::move(piece));
  return true;
}

Puller::Waiting Puller::TakeWaiting(const Pulled& next) {
  Lane& lane = Of(next.traffic);
  auto it = lane.flows.find(next.flow);
  Waiting waiting = std::move(it->second.front());
  it->second.pop_front();
  std::erase(lane.turns, next.flow);
  if (it->second.empty()) {
    lane.flows.erase(it);
  } else {
    lane.turns.push_back(next.flow);
  }
  order_.WaitsSince(next.traffic, Now());
  return waiting;
}

void Puller::Start(const Pulled& next, Waiting waiting, Piece piece) {
  Source& source = waiting.source;
  if (!source.announced) {
    std::memcpy(piece.data(), source.copied.data(), source.bytes);
    waiting.done(std::move(piece));
    return;
  }
  pulling_.Add(next);
  pulling_of_[next.flow].Add(next);
  auto shared = std::make_shared<Piece>(std::move(piece));
  Loop::TimerId stalled =
      loop_->At(Now() + kDeliverMax, [this, flow = next.flow, endpoint = source.endpoint] {
        log::Warn("rdma_peer_violation", {{"why", "announced bulk was not delivered"},
                                          {"provider", provider_},
                                          {"connection", flow}});
        endpoint->Fail(Status(Code::kUnavailable, "the peer does not deliver what it announced"));
      });
  PERIGEE_FAILPOINT(rdma_rendezvous_before_pull);
  source.endpoint->Pull(
      std::move(source.announced), shared->data(), source.bytes,
      [this, next, shared, stalled, crc = source.crc, done = std::move(waiting.done)](Status st) {
        loop_->Cancel(stalled);
        Arrived(next);
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

void Puller::Arrived(const Pulled& pulled) {
  pulling_.Remove(pulled);
  auto of = pulling_of_.find(pulled.flow);
  of->second.Remove(pulled);
  if (of->second.bytes == 0) pulling_of_.erase(of);
}

void Puller::Expire(uint64_t flow, TrafficClass traffic, uint64_t id) {
  Lane& lane = Of(traffic);
  auto it = lane.flows.find(flow);
  if (it == lane.flows.end()) return;
  auto late = std::find_if(it->second.begin(), it->second.end(),
                           [id](const Waiting& w) { return w.id == id; });
  if (late == it->second.end()) return;
  Waiting waiting = std::move(*late);
  it->second.erase(late);
  if (it->second.empty()) {
    lane.flows.erase(it);
    std::erase(lane.turns, flow);
  }
  waiting.source.announced.reset();
  waiting.done(Status(Code::kDeadlineExceeded, "no buffer for the payload came free in time"));
  Pump();
}

void Puller::Drop(uint64_t flow) {
  std::vector<Waiting> dropped;
  for (Lane& lane : lanes_) {
    auto it = lane.flows.find(flow);
    if (it == lane.flows.end()) continue;
    std::move(it->second.begin(), it->second.end(), std::back_inserter(dropped));
    lane.flows.erase(it);
    std::erase(lane.turns, flow);
  }
  if (dropped.empty()) return;
  for (Waiting& waiting : dropped) {
    loop_->Cancel(waiting.timer);
    waiting.source.announced.reset();
    waiting.done(Status(Code::kUnavailable, "the connection was lost"));
  }
  Pump();
}

void Puller::DropAll() {
  for (Lane& lane : lanes_) {
    while (!lane.flows.empty()) Drop(lane.flows.begin()->first);
  }
}

}  // namespace perigee::rdma::rendezvous
