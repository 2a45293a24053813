// The blob path without drives: what BlobWriter and BlobReader cost on one machine, 4+2, when
// shards go to memory. Write is pread from the page cache into Reserve, crc, parity and one copy
// per shard; reads are crc, copy and, with two data drives gone, decoding. Goals on two cores: each
// at least 0.8 GB/s.

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <vector>

#include "base/random.h"
#include "client/blob/blob_io.h"
#include "tests/client/fake_cluster.h"

namespace {

using namespace perigee;
using namespace perigee::client;

constexpr uint64_t kObject = 256 << 20;

struct Stand {
  Stand() {
    auto pool = rdma::SlabPool::Create({.bytes_max = 256 << 20});
    PERIGEE_CHECK(pool.ok());
    slabs = std::move(pool).value();
    cluster = std::make_unique<FakeCluster>(slabs);
    cluster->AddVolume(4, 2);
    shard_pool = CreateThreadPool({.name = "shards", .threads = 8});
    file = memfd_create("blob_bench", MFD_CLOEXEC);
    PERIGEE_CHECK(file >= 0 && ftruncate(file, kObject) == 0);
    std::vector<uint8_t> part(1 << 20);
    Random random(1);
    for (uint64_t at = 0; at < kObject; at += part.size()) {
      random.Fill(part.data(), part.size());
      PERIGEE_CHECK(pwrite(file, part.data(), part.size(), static_cast<off_t>(at)) ==
                    static_cast<ssize_t>(part.size()));
    }
  }
  ~Stand() {
    shard_pool->Stop();
    close(file);
  }
  BlobIoDeps deps() {
    return {cluster.get(), shard_pool.get(), slabs, nullptr, &RealClock::Get(), 1};
  }
  WrittenObject Write() {
    auto writer = BlobWriter::Create(deps(), {.size_hint = kObject});
    for (uint64_t at = 0; at < kObject;) {
      auto run = writer->Reserve(kObject - at);
      PERIGEE_CHECK(run.ok());
      PERIGEE_CHECK(pread(file, run->data(), run->size(), static_cast<off_t>(at)) ==
                    static_cast<ssize_t>(run->size()));
      PERIGEE_CHECK(writer->Commit(run->size()).ok());
      at += run->size();
    }
    auto object = writer->Finish();
    PERIGEE_CHECK(object.ok());
    return *object;
  }
  std::shared_ptr<rdma::SlabPool> slabs;
  std::unique_ptr<FakeCluster> cluster;
  std::unique_ptr<Scheduler> shard_pool;
  int file = -1;
};

void WriteObject(benchmark::State& state) {
  Stand stand;
  stand.cluster->discard_writes = true;
  for (auto _ : state) benchmark::DoNotOptimize(stand.Write());
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kObject));
}

void ReadObject(benchmark::State& state) {
  Stand stand;
  WrittenObject object = stand.Write();
  for (int64_t i = 0; i < state.range(0); ++i) {
    stand.cluster->LoseDrive(stand.cluster->DriveOf(1, static_cast<uint32_t>(i)),
                             wire::DriveState::kLost, FakeCluster::Notice::kRecorded);
  }
  wire::Layout layout;
  layout.kind = wire::LayoutKind::kBlobs;
  layout.extents = object.extents;
  auto reader = BlobReader::Create(stand.deps());
  std::vector<uint8_t> out(64 << 20);
  for (auto _ : state) {
    for (uint64_t at = 0; at < kObject; at += out.size())
      PERIGEE_CHECK(reader->Read(layout, kObject, at, out).ok());
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kObject));
}

// CPU is that of all threads together: on a busy machine it tells more than the wall clock.
BENCHMARK(WriteObject)->MeasureProcessCPUTime()->UseRealTime();
BENCHMARK(ReadObject)->ArgName("lost")->Arg(0)->Arg(2)->MeasureProcessCPUTime()->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
