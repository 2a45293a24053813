#include "rdma/net_probe.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/event.h"

namespace perigee::rdma {
namespace {

constexpr uint64_t kBytesMax = uint64_t{1} << 30;
constexpr uint32_t kMillisecondsMax = 5000;
constexpr size_t kInFlight = 4;
constexpr Nanos kPieceWait = 5 * kSecond;
constexpr Nanos kCallTimeout = 10 * kSecond;
constexpr uint64_t kSizes[] = {64,      4 << 10, 16 << 10, 64 << 10, 256 << 10,
                               1 << 20, 4 << 20, 16 << 20, 64 << 20};

// Calls of one channel with a bound on those in flight. The first failure is kept.
class Window {
 public:
  explicit Window(Channel& channel) : channel_(channel) {}
  ~Window() { Drain().Ignore(); }

  Status Send(std::string header, ConstBytes bulk) {
    {
      std::unique_lock lock(mu_);
      changed_.Wait(lock, [&] { return in_flight_ < kInFlight; });
      PERIGEE_TRY(failed_);
      ++in_flight_;
    }
    channel_.Call(wire::Method::kNetEcho, std::move(header), bulk, {.timeout = kCallTimeout},
                  [this](Result<Payload> reply) {
                    if (reply.ok()) reply->bulk.Release();  // before whoever waits goes on
                    std::lock_guard lock(mu_);
                    if (!reply.ok() && failed_.ok()) failed_ = std::move(reply).TakeStatus();
                    --in_flight_;
                    changed_.NotifyAll();
                  });
    return Status::Ok();
  }
  Status Drain() {
    std::unique_lock lock(mu_);
    changed_.Wait(lock, [&] { return in_flight_ == 0; });
    return failed_;
  }

 private:
  Channel& channel_;
  std::mutex mu_;  // guards what follows
  CondVar changed_;
  size_t in_flight_ = 0;
  Status failed_;
};

enum class Direction { kSend, kRead };

class Probe {
 public:
  Probe(Channel& channel, Piece& source, Nanos each)
      : channel_(channel), source_(source), each_(each), window_(channel) {}

  Result<wire::NetProbeRow> Measure(uint64_t bytes) {
    wire::NetProbeRow row{.bytes = bytes};
    PERIGEE_TRY(Transfer(bytes, Direction::kSend));  // registers memory, fills caches
    PERIGEE_TRY(window_.Drain());
    std::vector<uint64_t> times;
    for (Nanos begin = Now(), at = begin; at - begin < each_;) {
      PERIGEE_TRY(Once(bytes));
      Nanos now = Now();
      times.push_back(static_cast<uint64_t>(now - at));
      at = now;
    }
    std::sort(times.begin(), times.end());
    row.transfers = times.size();
    row.median_ns = times[times.size() / 2];
    row.p99_ns = times[times.size() * 99 / 100];
    PERIGEE_ASSIGN(row.sent_per_s, Bandwidth(bytes, Direction::kSend));
    PERIGEE_ASSIGN(row.read_per_s, Bandwidth(bytes, Direction::kRead));
    return row;
  }

 private:
  static Nanos Now() { return RealClock::Get().Monotonic(); }

  Status Once(uint64_t bytes) {
    if (bytes > source_.size()) {
      PERIGEE_TRY(Transfer(bytes, Direction::kSend));
      return window_.Drain();
    }
    return channel_
        .CallAndWait(wire::Method::kNetEcho, wire::Encode(wire::NetEchoRequest()),
                     std::as_const(source_).span().first(bytes), {.timeout = kCallTimeout})
        .status();
  }
  Status Transfer(uint64_t bytes, Direction direction) {
    for (uint64_t left = bytes; left > 0;) {
      uint64_t n = std::min<uint64_t>(left, source_.size());
      wire::NetEchoRequest q{.reply_bytes = direction == Direction::kRead ? n : 0};
      ConstBytes bulk;
      if (direction == Direction::kSend) bulk = std::as_const(source_).span().first(n);
      PERIGEE_TRY(window_.Send(wire::Encode(q), bulk));
      left -= n;
    }
    return Status::Ok();
  }
  Result<uint64_t> Bandwidth(uint64_t bytes, Direction direction) {
    uint64_t moved = 0;
    const Nanos begin = Now();
    while (Now() - begin < each_) {
      PERIGEE_TRY(Transfer(bytes, direction));
      moved += bytes;
    }
    PERIGEE_TRY(window_.Drain());
    return static_cast<uint64_t>(static_cast<double>(moved) * kSecond /
                                 static_cast<double>(Now() - begin));
  }

  Channel& channel_;
  const Piece& source_;
  const Nanos each_;
  Window window_;  // last: what is in flight reads source_
};

}  // namespace

Result<wire::NetProbeReply> ProbeNet(Transport& transport, SlabPool& slabs,
                                     const wire::NetProbeRequest& q) {
  if (q.address.empty()) return Status(Code::kInvalidArgument, "no address to measure the way to");
  if (q.bytes_max > kBytesMax || q.milliseconds == 0 || q.milliseconds > kMillisecondsMax)
    return Status(Code::kInvalidArgument, "at most 1 GiB a transfer, and 5 s a figure");
  PERIGEE_ASSIGN(auto channel, transport.Connect(q.address));
  PERIGEE_ASSIGN(Piece source, slabs.Allocate(kPieceBytesMax, kPieceWait));
  std::memset(source.data(), 0x5a, source.size());
  wire::NetProbeReply reply;
  {
    Probe probe(*channel, source, q.milliseconds * kMillisecond);
    for (uint64_t bytes : kSizes) {
      if (bytes > q.bytes_max) break;
      PERIGEE_ASSIGN(wire::NetProbeRow row, probe.Measure(bytes));
      reply.rows.push_back(std::move(row));
    }
  }
  reply.path = channel->Describe();
  channel->Close();
  return reply;
}

void AddNetProbe(Router* router, Scheduler* where, Scheduler* slow, Transport* transport,
                 std::shared_ptr<SlabPool> slabs, std::string home) {
  router->Add<wire::NetEchoRequest>(
      wire::Method::kNetEcho, Access::kNodesOnly, where,
      [slabs](Context& ctx, wire::NetEchoRequest q) -> Result<wire::Empty> {
        if (q.reply_bytes == 0) return wire::Empty{};
        ctx.bulk.Release();
        PERIGEE_ASSIGN(ctx.reply_bulk, slabs->Allocate(q.reply_bytes, kPieceWait));
        // Not what others left in that memory.
        std::memset(ctx.reply_bulk.data(), 0xa5, ctx.reply_bulk.size());
        return wire::Empty{};
      });
  router->Add<wire::NetProbeRequest>(
      wire::Method::kNetProbe, Access::kNodesOnly, slow,
      [transport, slabs, home = std::move(home)](
          Context&, wire::NetProbeRequest q) -> Result<wire::NetProbeReply> {
        if (q.address.empty()) q.address = home;
        return ProbeNet(*transport, *slabs, q);
      });
}

}  // namespace perigee::rdma
