#pragma once
// A fake cluster, a slab pool and a manual scheduler, for tests of blob writers and readers: code
// runs as a task in manual time, so that back-off and time-outs cost nothing and the order follows
// a seed.

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "client/blob/blob_io.h"
#include "fake_cluster.h"

namespace perigee::client {

inline std::vector<uint8_t> RandomBytes(size_t n, uint64_t seed = 1) {
  std::vector<uint8_t> bytes(n);
  Random(seed).Fill(bytes.data(), n);
  return bytes;
}

struct BlobFixture {
  explicit BlobFixture(uint64_t seed = 1, uint64_t pool_bytes = 256 << 20)
      : scheduler(ManualScheduler::Create(seed)), registry(metrics::Registry::Create()) {
    auto pool = rdma::SlabPool::Create({.bytes_max = pool_bytes});
    REQUIRE(pool.ok());
    slabs = std::move(pool).value();
    cluster = std::make_unique<FakeCluster>(slabs);
  }
  BlobIoDeps deps() {
    return {cluster.get(), scheduler.get(), slabs, registry.get(), &scheduler->clock(), 7};
  }
  // Runs `fn` as a task, to its end.
  void Run(std::function<void()> fn) {
    bool done = false;
    REQUIRE(scheduler
                ->Post([&] {
                  fn();
                  done = true;
                })
                .ok());
    scheduler->RunUntil([&] { return done; });
    REQUIRE(done);
  }
  // Writes in one Append, or, with `run` > 0, by Reserve and Commit of at most `run` bytes.
  Result<WrittenObject> Write(const std::vector<uint8_t>& data, BlobWriter::Options options = {},
                              size_t run = 0) {
    std::optional<Result<WrittenObject>> written;
    Run([&] {
      auto writer = BlobWriter::Create(deps(), options);
      Status st = run == 0 ? writer->Append(data) : Fill(*writer, data, run);
      if (!st.ok())
        written.emplace(std::move(st));
      else
        written.emplace(writer->Finish());
    });
    return std::move(*written);
  }
  static Status Fill(BlobWriter& writer, const std::vector<uint8_t>& data, size_t run) {
    for (size_t at = 0; at < data.size();) {
      PERIGEE_ASSIGN(MutableBytes free, writer.Reserve(std::min(run, data.size() - at)));
      std::memcpy(free.data(), data.data() + at, free.size());
      PERIGEE_TRY(writer.Commit(free.size()));
      at += free.size();
    }
    return Status::Ok();
  }
  static wire::Layout LayoutOf(const WrittenObject& object) {
    wire::Layout layout;
    layout.kind = object.bytes ? wire::LayoutKind::kBlobs : wire::LayoutKind::kNone;
    layout.extents = object.extents;
    layout.list_id = object.list_id;
    return layout;
  }
  Status Read(const WrittenObject& object, uint64_t offset, std::vector<uint8_t>* out) {
    auto reader = BlobReader::Create(deps());
    return ReadBy(*reader, object, offset, out);
  }
  Status ReadBy(BlobReader& reader, const WrittenObject& object, uint64_t offset,
                std::vector<uint8_t>* out) {
    Status st;
    Run([&] {
      if (!by_sink) {
        st = reader.Read(LayoutOf(object), object.bytes, offset, *out);
        return;
      }
      st = reader.ReadTo(LayoutOf(object), object.bytes, offset, out->size(),
                         [&](uint64_t at, ConstBytes bytes) {
                           std::copy(bytes.begin(), bytes.end(),
                                     out->begin() + static_cast<ptrdiff_t>(at - offset));
                           return Status::Ok();
                         });
    });
    return st;
  }
  // The code, or kOk with the right bytes, or kInternal with wrong ones.
  Code ReadAndCompare(const WrittenObject& object, const std::vector<uint8_t>& data,
                      uint64_t offset, size_t length) {
    std::vector<uint8_t> out(length, 0xee);
    Status st = Read(object, offset, &out);
    if (!st.ok()) return st.code();
    bool same = std::equal(out.begin(), out.end(), data.begin() + static_cast<ptrdiff_t>(offset));
    return same ? Code::kOk : Code::kInternal;
  }
  Code ReadAndCompare(const WrittenObject& object, const std::vector<uint8_t>& data) {
    return ReadAndCompare(object, data, 0, data.size());
  }
  double Counter(const std::string& name) { return registry->GetCounter(name, "")->Value(); }

  bool by_sink = false;  // how Read reads
  std::unique_ptr<ManualScheduler> scheduler;
  std::unique_ptr<metrics::Registry> registry;
  std::shared_ptr<rdma::SlabPool> slabs;
  std::unique_ptr<FakeCluster> cluster;
};

}  // namespace perigee::client
