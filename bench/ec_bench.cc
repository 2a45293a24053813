// Erasure coding: 4+2 over stripes of 1 MiB (chunks of 256 KiB), through ErasureCode and by bare
// ISA-L, and what two lost data chunks cost. Prints the ratio at the end; the interface should cost
// nothing.

#include <benchmark/benchmark.h>
#include <isa-l/erasure_code.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/random.h"
#include "client/ec/erasure_code.h"

namespace {

using namespace perigee;
using namespace perigee::client;

constexpr uint32_t kK = 4, kM = 2;
constexpr size_t kChunk = 256 << 10;
constexpr size_t kStripes = 16;  // one full blob, so that the working set is that of a writer

struct Blob {
  Blob() {
    Random random(1);
    for (uint32_t i = 0; i < kK + kM; ++i) {
      shards.emplace_back(kChunk * kStripes);
      random.Fill(shards.back().data(), shards.back().size());
    }
  }
  uint8_t* At(uint32_t shard, size_t stripe) { return shards[shard].data() + stripe * kChunk; }
  std::vector<AlignedBuffer> shards;
};

double g_bare = 0, g_ours = 0;  // bytes a second

double Rate(const benchmark::State& state, double seconds) {
  return static_cast<double>(state.iterations()) * kStripes * kK * kChunk / seconds;
}

double CpuNow() {
  timespec ts;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);  // the ratio must not depend on who else runs
  return static_cast<double>(ts.tv_sec) + static_cast<double>(ts.tv_nsec) / 1e9;
}

void BareIsal(benchmark::State& state) {
  Blob blob;
  std::vector<uint8_t> matrix((kK + kM) * kK), tables(32 * kK * kM);
  gf_gen_cauchy1_matrix(matrix.data(), kK + kM, kK);
  ec_init_tables(kK, kM, matrix.data() + kK * kK, tables.data());
  double begin = CpuNow();
  for (auto _ : state) {
    for (size_t s = 0; s < kStripes; ++s) {
      unsigned char* data[kK] = {blob.At(0, s), blob.At(1, s), blob.At(2, s), blob.At(3, s)};
      unsigned char* parity[kM] = {blob.At(4, s), blob.At(5, s)};
      ec_encode_data(kChunk, kK, kM, tables.data(), data, parity);
    }
    benchmark::ClobberMemory();
  }
  g_bare = Rate(state, CpuNow() - begin);
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kStripes * kK * kChunk));
}

void ThroughErasureCode(benchmark::State& state) {
  Blob blob;
  auto code = ErasureCode::Create(kK, kM);
  PERIGEE_CHECK(code.ok());
  double begin = CpuNow();
  for (auto _ : state) {
    for (size_t s = 0; s < kStripes; ++s) {
      const uint8_t* data[kK] = {blob.At(0, s), blob.At(1, s), blob.At(2, s), blob.At(3, s)};
      uint8_t* parity[kM] = {blob.At(4, s), blob.At(5, s)};
      (*code)->Encode(kChunk, data, parity);
    }
    benchmark::ClobberMemory();
  }
  g_ours = Rate(state, CpuNow() - begin);
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kStripes * kK * kChunk));
}

void TwoLostDataChunks(benchmark::State& state) {
  Blob blob;
  auto code = ErasureCode::Create(kK, kM);
  PERIGEE_CHECK(code.ok());
  for (auto _ : state) {
    for (size_t s = 0; s < kStripes; ++s) {
      const uint32_t present[kK] = {1, 3, 4, 5}, wanted[kM] = {0, 2};
      const uint8_t* chunks[kK] = {blob.At(1, s), blob.At(3, s), blob.At(4, s), blob.At(5, s)};
      uint8_t* out[kM] = {blob.At(0, s), blob.At(2, s)};
      PERIGEE_CHECK((*code)->Reconstruct(kChunk, present, chunks, wanted, out).ok());
    }
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kStripes * kK * kChunk));
}

void ChunkCrc(benchmark::State& state) {
  Blob blob;
  uint32_t sum = 0;
  for (auto _ : state) {
    for (size_t s = 0; s < kStripes; ++s) {
      for (uint32_t i = 0; i < kK; ++i) sum += Crc32c({blob.At(i, s), kChunk});
    }
    benchmark::DoNotOptimize(sum);
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kStripes * kK * kChunk));
}

BENCHMARK(BareIsal);
BENCHMARK(ThroughErasureCode);
BENCHMARK(TwoLostDataChunks);
BENCHMARK(ChunkCrc);

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  if (g_bare > 0 && g_ours > 0) {
    std::printf("encode 4+2: ErasureCode / bare ISA-L = %.3f (%.2f / %.2f GB/s)\n", g_ours / g_bare,
                g_ours / 1e9, g_bare / 1e9);
  }
  return 0;
}
