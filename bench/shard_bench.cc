// Small shards to the drives of another node over `tls` on loopback: 4,000 of 16 KiB, written by 24
// threads as bufferd has them, made durable one by one, with and without batches. calls_per_file
// counts the calls that carried them. Client and server are threads of this process, and the drives
// lie where TMPDIR says.

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdlib>
#include <thread>
#include <vector>

#include "base/checksum.h"
#include "base/disk.h"
#include "base/random.h"
#include "bench/place.h"
#include "client/blob/shard_batcher.h"
#include "objectd/volume/drive_service.h"

namespace {

using namespace perigee;
using client::ShardBatcher;

constexpr uint64_t kFiles = 4000;
constexpr size_t kFileBytes = 16 << 10;
constexpr int kThreads = 24;
constexpr uint64_t kDrives = 2;

template <class T>
T Must(Result<T> result) {
  if (!result.ok()) std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
  PERIGEE_CHECK(result.ok());
  return std::move(result).value();
}

// Counts what a channel is asked.
class CountingChannel final : public rdma::Channel {
 public:
  explicit CountingChannel(std::shared_ptr<rdma::Channel> channel) : channel_(std::move(channel)) {}
  void Call(wire::Method method, std::string header, ConstBytes bulk, rdma::CallOptions options,
            Done done) override {
    calls++;
    channel_->Call(method, std::move(header), bulk, options, std::move(done));
  }
  Result<rdma::Payload> CallAndWait(wire::Method method, std::string header, ConstBytes bulk,
                                    rdma::CallOptions options) override {
    calls++;
    return channel_->CallAndWait(method, std::move(header), bulk, options);
  }
  bool Healthy() const override { return channel_->Healthy(); }
  std::string Describe() const override { return channel_->Describe(); }
  void Close() override { channel_->Close(); }

  std::atomic<uint64_t> calls = 0;

 private:
  const std::shared_ptr<rdma::Channel> channel_;
};

// The other node, and a channel to it.
class Node {
 public:
  Node() {
    const char* tmp = std::getenv("TMPDIR");
    std::string dir = std::string(tmp != nullptr ? tmp : "/tmp") + "/perigee-drives-XXXXXX";
    PERIGEE_CHECK(mkdtemp(dir.data()) != nullptr);
    dir_ = dir;
    for (uint64_t id = 1; id <= kDrives; ++id) {
      const std::string where = dir_ + "/d" + std::to_string(id);
      PERIGEE_CHECK(
          objectd::Drive::Format(*disk_, where, {.cluster_id = 1, .drive_id = id, .k = 1}).ok());
      objectd::DriveDeps deps{.disk = disk_.get(), .pool = pool_.get(), .slabs = slabs_};
      drives_.push_back(Must(objectd::Drive::Open(where, 1, {}, deps)));
    }
    auto router = std::make_shared<rdma::Router>();
    objectd::RegisterDriveService(*router, {.find = [this](uint64_t id) { return Find(id); },
                                            .failed = [](const objectd::Drive&) {},
                                            .shard_pool = pool_.get(),
                                            .slow_pool = pool_.get(),
                                            .slabs = slabs_});
    rdma::TransportOptions options;
    options.cluster_secret = "a secret of thirty-two characters";
    options.role = rdma::Role::kNode;
    options.pool = slabs_;
    server_ = Must(rdma::CreateTlsTransport(options, place_.Tls()));
    options.pool = Must(rdma::SlabPool::Create({}));
    client_ = Must(rdma::CreateTlsTransport(options, place_.Tls()));
    listener_ = Must(server_->Listen("tls:127.0.0.1:0", router));
    channel = std::make_shared<CountingChannel>(Must(client_->Connect(listener_->address())));
  }
  ~Node() {
    channel->Close();
    listener_->Stop();
    pool_->Stop();
    for (auto& drive : drives_) drive->Stop();
    drives_.clear();
    std::filesystem::remove_all(dir_);
  }

  std::shared_ptr<CountingChannel> channel;

 private:
  std::shared_ptr<objectd::Drive> Find(uint64_t id) const {
    return id >= 1 && id <= kDrives ? drives_[id - 1] : nullptr;
  }

  const bench::Place place_;
  std::string dir_;
  const std::unique_ptr<Disk> disk_ = CreatePosixDisk();
  const std::unique_ptr<Scheduler> pool_ = CreateThreadPool({.name = "shard", .threads = 24});
  const std::shared_ptr<rdma::SlabPool> slabs_ = Must(rdma::SlabPool::Create({}));
  std::vector<std::shared_ptr<objectd::Drive>> drives_;
  std::unique_ptr<rdma::Transport> server_, client_;
  std::unique_ptr<rdma::Listener> listener_;
};

void WriteFiles(Node& node, ShardBatcher& batcher, uint64_t first,
                const std::vector<uint8_t>& bytes) {
  wire::ShardWriteRequest request;
  request.shard.k = 1;
  request.shard.blob_bytes = request.shard.chunk_bytes = kFileBytes;
  request.shard.chunk_crcs = {Crc32c(bytes)};
  std::atomic<uint64_t> next = first;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, request]() mutable {
      for (uint64_t seq = next++; seq < first + kFiles; seq = next++) {
        request.drive_id = seq % kDrives + 1;
        request.shard.blob = {.volume = 1, .seq = seq};
        Must(batcher.Run(node.channel, {&request, bytes}, {}));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void WriteSmallShards(benchmark::State& state) {
  Node node;
  ShardBatcher::Options options;
  if (state.range(0) == 0) options.small_calls_max = options.calls_max;  // each finds a call free
  auto batcher = ShardBatcher::Create(RealClock::Get(), nullptr, options);
  std::vector<uint8_t> bytes(kFileBytes);
  Random(1).Fill(bytes.data(), bytes.size());
  uint64_t files = 0;
  for (auto _ : state) {
    WriteFiles(node, *batcher, files + 1, bytes);
    files += kFiles;
  }
  state.SetItemsProcessed(static_cast<int64_t>(files));
  state.counters["calls_per_file"] =
      static_cast<double>(node.channel->calls) / static_cast<double>(files);
}

BENCHMARK(WriteSmallShards)
    ->ArgName("batches")
    ->Arg(0)
    ->Arg(1)
    ->MeasureProcessCPUTime()
    ->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
