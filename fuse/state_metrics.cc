// The mount's counts and mode as metrics: which way each byte took.

#include "base/metrics.h"
#include "fuse/file_system.h"

namespace perigee::fuse {

void FileSystem::ExposeMetrics(metrics::Registry* r) const {
  auto opens = [&](const char* mode) {
    return r->GetCounter("perigee_fuse_opens_total", "Files opened, by how their bytes go",
                         {{"mode", mode}});
  };
  auto requests = [&](const char* op) {
    return r->GetCounter("perigee_fuse_requests_total",
                         "Reads and writes that the daemon served, not the kernel", {{"op", op}});
  };
  auto bytes = [&](const char* op) {
    return r->GetCounter("perigee_fuse_request_bytes_total",
                         "Bytes of the reads and writes that the daemon served", {{"op", op}});
  };
  auto* mode =
      r->GetGauge("perigee_fuse_passthrough", "1: the kernel reads and writes burst files");
  auto* nodes = r->GetGauge("perigee_fuse_nodes", "Inodes that the kernel knows");
  auto* refused = r->GetCounter("perigee_fuse_passthrough_refused_total",
                                "Burst files that the kernel would not take for passthrough");
  auto* publishes = r->GetCounter("perigee_fuse_publishes_total", "Files published by close(2)");
  auto* stale = r->GetCounter("perigee_fuse_stale_opens_total",
                              "Opens answered ESTALE, after which the kernel looks up again");
  auto* kept = r->GetCounter("perigee_fuse_opens_kept_total",
                             "Opens answered without a call: the file was still open here");
  auto* held = r->GetGauge("perigee_fuse_kept_open", "Files that are kept open for the next open");
  r->OnCollect([this, mode, nodes, refused, publishes, stale, kept, held,
                passed = opens("passthrough"), direct = opens("direct"), cached = opens("cached"),
                reads = requests("read"), writes = requests("write"), read_bytes = bytes("read"),
                write_bytes = bytes("write")] {
    mode->Set(device != nullptr && device->passthrough());
    nodes->Set(static_cast<double>(nodes_.size()));
    auto follow = [](metrics::Counter* counter, const std::atomic<uint64_t>& count) {
      Follow(counter, static_cast<double>(count));
    };
    held->Set(static_cast<double>(kept_.size()));
    follow(kept, opens_kept_);
    follow(refused, passthrough_refused_);
    follow(publishes, publishes_);
    follow(stale, stale_opens_);
    follow(passed, opens_passthrough_);
    follow(direct, opens_direct_);
    follow(cached, opens_cached_);
    follow(reads, reads_);
    follow(writes, writes_);
    follow(read_bytes, read_bytes_);
    follow(write_bytes, write_bytes_);
  });
}

}  // namespace perigee::fuse
