// `ucx` or `ofi` between two processes of this machine: 4 KiB request and response, and 1 MiB one
// way, to hold against `ucx_perftest -t ucp_am_lat -s 4096` and `-t ucp_am_bw -s 1048576`, and
// `fi_pingpong -p tcp -e msg -S 4096` and `-S 1048576`.
//
//   fabric_bench ucx|ofi [shm] [poll] [one-loop]
//
// One line of JSON: half a round trip in microseconds (median; for a thread that waits, and chained
// on the loop), bytes per second one way, CPU seconds of the client per GB, and what the library
// chose.

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/event.h"
#include "rdma/ofi_transport.h"
#include "rdma/ucx_transport.h"

namespace perigee::rdma {
namespace {

constexpr auto kEcho = wire::Method::kPing;
constexpr auto kSink = wire::Method::kMetaLookup;
constexpr size_t kLarge = 1 << 20;
constexpr size_t kSmall = 4096;
constexpr Nanos kRun = 3 * kSecond;

class Server final : public Handler {
 public:
  void OnCall(std::unique_ptr<ServerCall> call) override {
    Payload payload;
    if (call->method() == kEcho) payload.bulk = std::move(call->bulk());
    call->bulk().Release();
    call->Reply(std::move(payload));
  }
};

double CpuSeconds(int who) {
  rusage usage{};
  getrusage(who, &usage);
  auto seconds = [](timeval t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TransportOptions NodeOptions(uint64_t id) {
  TransportOptions options;
  options.cluster_secret = "the secret of a benchmark, not secret";
  options.role = Role::kNode;
  options.node_id = id;
  return options;
}

struct Wanted {
  std::string provider;
  bool shared_memory = false;
  bool poll = false;
  uint32_t loops = 2;
};

Result<std::unique_ptr<Transport>> Make(const Wanted& wanted, TransportOptions options) {
  if (wanted.provider == "ofi") {
    OfiOptions ofi;
    ofi.loops = wanted.loops;
    ofi.poll = wanted.poll;
    return CreateOfiTransport(std::move(options), std::move(ofi));
  }
  UcxOptions ucx;
  ucx.loops = wanted.loops;
  ucx.poll = wanted.poll;
  ucx.shared_memory = wanted.shared_memory;
  return CreateUcxTransport(std::move(options), std::move(ucx));
}

// Serves until `stop` is closed; its address goes to `tell`.
int Serve(const Wanted& wanted, int tell, int stop) {
  auto transport = Make(wanted, NodeOptions(1));
  PERIGEE_CHECK(transport.ok());
  auto listener =
      (*transport)->Listen(wanted.provider + ":127.0.0.1:0", std::make_shared<Server>());
  PERIGEE_CHECK(listener.ok());
  std::string address = (*listener)->address();
  PERIGEE_CHECK(write(tell, address.data(), address.size()) > 0);
  char byte;
  (void)!read(stop, &byte, 1);
  return 0;
}

// Each call is made when the one before is answered: `wait`, by a thread that waits for it;
// otherwise where the answer arrives, as code that runs on the transport's loops does.
double HalfRoundTripUs(Channel& channel, SlabPool& pool, bool wait) {
  struct Chain {
    std::vector<Nanos> took;
    Nanos started = 0, end = 0;
    Event over;
    std::function<void()> next;
  } chain;
  auto piece = pool.Allocate(kSmall, kSecond);
  PERIGEE_CHECK(piece.ok());
  std::memset(piece->data(), 7, kSmall);
  auto note = [&](const Result<Payload>& reply) {
    PERIGEE_CHECK(reply.ok() && reply->bulk.size() == kSmall);
    Nanos now = RealClock::Get().Monotonic();
    chain.took.push_back(now - std::exchange(chain.started, now));
    return now < chain.end;
  };
  chain.started = RealClock::Get().Monotonic();
  chain.end = chain.started + kRun;
  chain.next = [&] {
    channel.Call(kEcho, "", piece->span(), {}, [&](Result<Payload> reply) {
      if (note(reply)) {
        chain.next();
      } else {
        chain.over.Set();
      }
    });
  };
  if (wait) {
    while (note(channel.CallAndWait(kEcho, "", piece->span(), {}))) {
    }
  } else {
    chain.next();
    chain.over.Wait();
  }
  auto middle = chain.took.begin() + static_cast<long>(chain.took.size() / 2);
  std::nth_element(chain.took.begin(), middle, chain.took.end());
  return static_cast<double>(*middle) / 2e3;
}

double BytesPerSecond(Channel& channel, SlabPool& pool) {
  struct State {
    std::mutex mu;
    CondVar changed;
    size_t in_flight = 0;
    uint64_t bytes = 0;
  };
  auto state = std::make_shared<State>();
  auto piece = pool.Allocate(kLarge, kSecond);
  PERIGEE_CHECK(piece.ok());
  std::memset(piece->data(), 7, kLarge);
  Nanos start = RealClock::Get().Monotonic();
  while (RealClock::Get().Monotonic() < start + kRun) {
    {
      std::unique_lock lock(state->mu);
      state->changed.Wait(lock, [&] { return state->in_flight < 16; });
      ++state->in_flight;
    }
    channel.Call(kSink, "", piece->span(), {}, [state](Result<Payload> reply) {
      PERIGEE_CHECK(reply.ok());
      std::lock_guard lock(state->mu);
      --state->in_flight;
      state->bytes += kLarge;
      state->changed.NotifyAll();
    });
  }
  std::unique_lock lock(state->mu);
  state->changed.Wait(lock, [&] { return state->in_flight == 0; });
  return static_cast<double>(state->bytes) * 1e9 /
         static_cast<double>(RealClock::Get().Monotonic() - start);
}

int Main(int argc, char** argv) {
  Wanted wanted;
  bool understood = argc > 1;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (i == 1) {
      wanted.provider = word;
      understood = word == "ucx" || word == "ofi";
    } else if (word == "shm" && wanted.provider == "ucx") {
      wanted.shared_memory = true;
    } else if (word == "poll") {
      wanted.poll = true;
    } else if (word == "one-loop") {
      wanted.loops = 1;
    } else {
      understood = false;
    }
  }
  if (!understood) {
    std::fprintf(stderr, "fabric_bench ucx|ofi [shm] [poll] [one-loop]\n");
    return 2;
  }
  if (wanted.poll) wanted.loops = 1;
  int told[2], stop[2];
  PERIGEE_CHECK(pipe(told) == 0 && pipe(stop) == 0);
  pid_t child = fork();
  PERIGEE_CHECK(child >= 0);
  if (child == 0) {
    close(stop[1]);
    return Serve(wanted, told[1], stop[0]);
  }
  close(stop[0]);
  char address[128] = {};
  PERIGEE_CHECK(read(told[0], address, sizeof address - 1) > 0);
  double half_us, chained_us, rate, cpu;
  std::string path;
  {
    TransportOptions options = NodeOptions(2);
    auto pool = SlabPool::Create({});
    PERIGEE_CHECK(pool.ok());
    options.pool = *pool;
    auto transport = Make(wanted, std::move(options));
    PERIGEE_CHECK(transport.ok());
    auto channel = (*transport)->Connect(address);
    PERIGEE_CHECK(channel.ok());
    half_us = HalfRoundTripUs(**channel, **pool, true);
    chained_us = HalfRoundTripUs(**channel, **pool, false);
    double before = CpuSeconds(RUSAGE_SELF);
    rate = BytesPerSecond(**channel, **pool);
    cpu = CpuSeconds(RUSAGE_SELF) - before;
    path = (*channel)->Describe();
  }
  close(stop[1]);
  (void)waitpid(child, nullptr, 0);
  double gigabytes = rate * (static_cast<double>(kRun) / 1e9) / 1e9;
  std::printf(
      "{\"half_round_trip_us\": %.1f, \"chained_us\": %.1f, \"bytes_per_second\": %.3g, "
      "\"client_cpu_seconds_per_gb\": %.2f, \"path\": \"%s\"}\n",
      half_us, chained_us, rate, cpu / gigabytes, path.c_str());
  return 0;
}

}  // namespace
}  // namespace perigee::rdma

int main(int argc, char** argv) { return perigee::rdma::Main(argc, argv); }
