#pragma once
// What blob writers and readers count. Thread-safe.

#include "base/metrics.h"

namespace perigee::client {

class BlobMetrics {
 public:
  explicit BlobMetrics(metrics::Registry* registry);  // null: nothing is counted
  void BytesWritten(uint64_t n) const { Add(bytes_written_, n); }
  void BytesRead(uint64_t n) const { Add(bytes_read_, n); }
  void ChunksReconstructed(uint64_t n) const { Add(chunks_reconstructed_, n); }
  void BadChunks(uint64_t n) const { Add(bad_chunks_, n); }
  void LateReads(uint64_t n) const { Add(late_reads_, n); }

 private:
  static void Add(metrics::Counter* counter, uint64_t n) {
    if (counter && n > 0) counter->Add(static_cast<double>(n));
  }
  metrics::Counter* bytes_written_ = nullptr;
  metrics::Counter* bytes_read_ = nullptr;
  metrics::Counter* chunks_reconstructed_ = nullptr;
  metrics::Counter* bad_chunks_ = nullptr;
  metrics::Counter* late_reads_ = nullptr;
};

}  // namespace perigee::client
