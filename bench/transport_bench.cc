// Transports: a 4 KiB request with a 4 KiB answer, and 1 MiB one way with eight calls in flight, on
// each provider, beside what they stand on: memcpy, a Unix socket, TCP, AES-GCM. Client and server
// are threads of this process, so cpu_s_per_GB is that of both ends. Prints the ratios at the end.

#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/event.h"
#include "base/log.h"
#include "base/random.h"
#include "bench/place.h"
#include "rdma/transport.h"

namespace {

using namespace perigee;
using namespace perigee::rdma;
using bench::Place;

constexpr size_t kSmall = 4 << 10;
constexpr size_t kLarge = 1 << 20;
constexpr int kWindow = 8;
constexpr size_t kRecord = 16 << 10;  // of TLS

// ---------------------------------------------------------------- providers

struct Provider {
  const char* name;
  Result<std::unique_ptr<Transport>> (*make)(const Place& place, TransportOptions options);
  std::string (*address)(const Place& place);
};

const Provider kProviders[] = {
    {"local",
     [](const Place&, TransportOptions options) {
       return CreateLocalTransport(std::move(options));
     },
     [](const Place& place) { return "local:" + place.File("bench.sock"); }},
    {"tls",
     [](const Place& place, TransportOptions options) {
       return CreateTlsTransport(std::move(options), place.Tls());
     },
     [](const Place&) { return std::string("tls:127.0.0.1:0"); }},
};

// Answers with what it got when the header says so, else with nothing.
class BenchHandler final : public Handler {
 public:
  void OnCall(std::unique_ptr<ServerCall> call) override {
    Payload payload;
    if (call->header() == "echo") payload.bulk = std::move(call->bulk());
    call->Reply(std::move(payload));
  }
};

struct Ends {
  Place place;
  std::unique_ptr<Transport> server, client;
  std::unique_ptr<Listener> listener;
  std::shared_ptr<Channel> channel;
  std::shared_ptr<SlabPool> pool;

  explicit Ends(const Provider& provider) {
    TransportOptions options;
    options.cluster_secret = "a secret of thirty-two characters";
    options.role = Role::kNode;
    server = Must(provider.make(place, options));
    pool = options.pool = Must(SlabPool::Create({}));
    client = Must(provider.make(place, options));
    listener = Must(server->Listen(provider.address(place), std::make_shared<BenchHandler>()));
    channel = Must(client->Connect(listener->address()));
    Must(channel->CallAndWait(wire::Method::kPing, "", {}, {}));
  }
  ~Ends() {
    channel->Close();
    listener->Stop();
  }
  template <class T>
  static T Must(Result<T> result) {
    if (!result.ok()) std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
    PERIGEE_CHECK(result.ok());
    return std::move(result).value();
  }
};

// ---------------------------------------------------------------- figures

double CpuNow() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}
double Now() { return static_cast<double>(RealClock::Get().Monotonic()) / kSecond; }

std::map<std::string, double> g_figures;  // bytes a second, or calls a second

// From construction to Done: one row.
class Meter {
 public:
  explicit Meter(std::string row) : row_(std::move(row)), cpu_(CpuNow()), begin_(Now()) {}
  void Done(benchmark::State& state, size_t bytes_each) {
    double seconds = Now() - begin_;
    auto times = static_cast<double>(state.iterations());
    double bytes = times * static_cast<double>(bytes_each);
    state.SetBytesProcessed(static_cast<int64_t>(bytes));
    state.counters["cpu_s_per_GB"] = (CpuNow() - cpu_) / (bytes / 1e9);
    g_figures[row_] = bytes_each == kLarge ? bytes / seconds : times / seconds;
  }

 private:
  std::string row_;
  double cpu_, begin_;
};

std::vector<uint8_t> Noise(size_t bytes) {
  std::vector<uint8_t> out(bytes);
  Random(1).Fill(out.data(), out.size());
  return out;
}

// ---------------------------------------------------------------- ours

void RequestResponse(benchmark::State& state, const Provider* provider) {
  Ends ends(*provider);
  std::vector<uint8_t> data = Noise(kSmall);
  Meter meter(std::string("4k ") + provider->name);
  for (auto _ : state) {
    Payload reply = Ends::Must(ends.channel->CallAndWait(wire::Method::kPing, "echo", data, {}));
    PERIGEE_CHECK(reply.bulk.size() == kSmall);
  }
  meter.Done(state, kSmall);
}

void OneWay(benchmark::State& state, const Provider* provider) {
  Ends ends(*provider);
  std::vector<uint8_t> noise = Noise(kLarge);
  std::vector<Piece> pieces;
  for (int i = 0; i < kWindow; ++i) {
    pieces.push_back(Ends::Must(ends.pool->Allocate(kLarge, kSecond)));
    std::memcpy(pieces.back().data(), noise.data(), kLarge);
  }
  std::mutex mu;
  CondVar changed;
  std::vector<int> free;
  for (int i = 0; i < kWindow; ++i) free.push_back(i);
  Meter meter(std::string("1m ") + provider->name);
  for (auto _ : state) {
    int slot;
    {
      std::unique_lock lock(mu);
      PERIGEE_CHECK(changed.WaitFor(lock, 10 * kSecond, [&] { return !free.empty(); }));
      slot = free.back();
      free.pop_back();
    }
    ends.channel->Call(wire::Method::kPing, "", pieces[static_cast<size_t>(slot)].span(), {},
                       [&, slot](Result<Payload> result) {
                         PERIGEE_CHECK(result.ok());
                         std::lock_guard lock(mu);
                         free.push_back(slot);
                         changed.NotifyAll();
                       });
  }
  {
    std::unique_lock lock(mu);
    PERIGEE_CHECK(changed.WaitFor(lock, 10 * kSecond, [&] { return free.size() == kWindow; }));
  }
  meter.Done(state, kLarge);
}

// ---------------------------------------------------------------- what they stand on

void Memcpy(benchmark::State& state) {
  std::vector<uint8_t> from = Noise(kWindow * kLarge), to(kWindow * kLarge);
  Meter meter("1m memcpy");
  size_t at = 0;
  for (auto _ : state) {
    std::memcpy(to.data() + at, from.data() + at, kLarge);
    benchmark::ClobberMemory();
    at = (at + kLarge) % from.size();
  }
  meter.Done(state, kLarge);
}

bool ReadAll(int fd, uint8_t* out, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    ssize_t n = read(fd, out + done, bytes - done);
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}
void WriteAll(int fd, const uint8_t* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    ssize_t n = write(fd, data + done, bytes - done);
    PERIGEE_CHECK(n > 0);
    done += static_cast<size_t>(n);
  }
}

std::array<OwnedFd, 2> UnixPair() {
  int ends[2];
  PERIGEE_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  return {OwnedFd(ends[0]), OwnedFd(ends[1])};
}
std::array<OwnedFd, 2> TcpPair() {
  OwnedFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  OwnedFd one(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  PERIGEE_CHECK(bind(listener.get(), any, length) == 0 && listen(listener.get(), 1) == 0);
  PERIGEE_CHECK(getsockname(listener.get(), any, &length) == 0);
  PERIGEE_CHECK(connect(one.get(), any, length) == 0);
  OwnedFd other(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  int on = 1;
  for (int fd : {one.get(), other.get()}) {
    PERIGEE_CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
  }
  return {std::move(one), std::move(other)};
}

void PingPong(benchmark::State& state, const char* row, std::array<OwnedFd, 2> (*make)()) {
  auto ends = make();
  std::thread other([fd = ends[1].get()] {
    std::vector<uint8_t> data(kSmall);
    while (ReadAll(fd, data.data(), kSmall)) WriteAll(fd, data.data(), kSmall);
  });
  std::vector<uint8_t> data = Noise(kSmall);
  Meter meter(row);
  for (auto _ : state) {
    WriteAll(ends[0].get(), data.data(), kSmall);
    PERIGEE_CHECK(ReadAll(ends[0].get(), data.data(), kSmall));
  }
  meter.Done(state, kSmall);
  shutdown(ends[0].get(), SHUT_RDWR);
  other.join();
}

void PlainTcp(benchmark::State& state) {
  auto ends = TcpPair();
  std::thread other([fd = ends[1].get()] {
    std::vector<uint8_t> data(kLarge);
    while (ReadAll(fd, data.data(), kLarge)) {
    }
    WriteAll(fd, data.data(), 1);  // all of it is here
  });
  std::vector<uint8_t> data = Noise(kLarge);
  Meter meter("1m tcp");
  for (auto _ : state) WriteAll(ends[0].get(), data.data(), kLarge);
  shutdown(ends[0].get(), SHUT_WR);
  PERIGEE_CHECK(ReadAll(ends[0].get(), data.data(), 1));
  meter.Done(state, kLarge);
  other.join();
}

void AesGcm(benchmark::State& state) {
  std::vector<uint8_t> data = Noise(kLarge), out(kRecord + 16);
  uint8_t key[16] = {1}, nonce[12] = {2}, tag[16];
  std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                          EVP_CIPHER_CTX_free);
  EVP_CIPHER_CTX* raw = context.get();
  PERIGEE_CHECK(EVP_EncryptInit_ex(raw, EVP_aes_128_gcm(), nullptr, key, nonce) == 1);
  Meter meter("1m aes");
  for (auto _ : state) {
    for (size_t at = 0; at < kLarge; at += kRecord) {
      ++nonce[0];
      int bytes = 0, rest = 0;
      PERIGEE_CHECK(EVP_EncryptInit_ex(raw, nullptr, nullptr, nullptr, nonce) == 1);
      PERIGEE_CHECK(EVP_EncryptUpdate(raw, out.data(), &bytes, data.data() + at, kRecord) == 1);
      PERIGEE_CHECK(EVP_EncryptFinal_ex(raw, out.data() + bytes, &rest) == 1);
      PERIGEE_CHECK(EVP_CIPHER_CTX_ctrl(raw, EVP_CTRL_GCM_GET_TAG, sizeof tag, tag) == 1);
    }
    benchmark::ClobberMemory();
  }
  meter.Done(state, kLarge);
}

// ---------------------------------------------------------------- ratios

void PrintRatios() {
  auto have = [](std::initializer_list<const char*> rows) {
    for (const char* row : rows) {
      if (!g_figures.contains(row)) return false;
    }
    return true;
  };
  if (have({"1m tls", "1m tcp", "1m aes"})) {
    double limit = 1 / (1 / g_figures["1m tcp"] + 1 / g_figures["1m aes"]);
    std::printf("tls 1 MiB one way: %.3f of 1/(1/tcp + 1/AES-GCM) (%.2f of %.2f GB/s)\n",
                g_figures["1m tls"] / limit, g_figures["1m tls"] / 1e9, limit / 1e9);
  }
  if (have({"1m local", "1m memcpy"})) {
    std::printf("local 1 MiB one way: %.3f of memcpy (%.2f of %.2f GB/s)\n",
                g_figures["1m local"] / g_figures["1m memcpy"], g_figures["1m local"] / 1e9,
                g_figures["1m memcpy"] / 1e9);
  }
  auto times = [&](const char* ours, const char* raw, const char* what) {
    if (!have({ours, raw})) return;
    std::printf("%s: %.2f times the raw time (%.1f and %.1f us)\n", what,
                g_figures[raw] / g_figures[ours], 1e6 / g_figures[ours], 1e6 / g_figures[raw]);
  };
  times("4k local", "4k unix", "local 4 KiB request and response");
  times("4k tls", "4k tcp", "tls 4 KiB request and response");
}

}  // namespace

int main(int argc, char** argv) {
  log::Configure("transport_bench", log::Level::kError, log::Format::kText);
  auto add = [](const std::string& name, auto... what) {
    benchmark::RegisterBenchmark(name.c_str(), what...)->UseRealTime();
  };
  add("request_4k/unix", PingPong, "4k unix", UnixPair);
  add("request_4k/tcp", PingPong, "4k tcp", TcpPair);
  add("one_way_1m/memcpy", Memcpy);
  add("one_way_1m/tcp", PlainTcp);
  add("one_way_1m/aes_128_gcm", AesGcm);
  for (const Provider& provider : kProviders) {
    add(std::string("request_4k/") + provider.name, RequestResponse, &provider);
    add(std::string("one_way_1m/") + provider.name, OneWay, &provider);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  PrintRatios();
  return 0;
}
