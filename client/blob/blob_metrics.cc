#include "client/blob/blob_metrics.h"

namespace perigee::client {

BlobMetrics::BlobMetrics(metrics::Registry* registry) {
  if (!registry) return;
  bytes_written_ = registry->GetCounter("perigee_blob_bytes_written_total",
                                        "Object bytes written into blobs, without parity.");
  bytes_read_ =
      registry->GetCounter("perigee_blob_bytes_read_total", "Object bytes read from blobs.");
  chunks_reconstructed_ = registry->GetCounter("perigee_blob_chunks_reconstructed_total",
                                               "Chunks computed from others of their stripe.");
  bad_chunks_ =
      registry->GetCounter("perigee_blob_bad_chunks_total", "Chunks read that failed their check.");
  late_reads_ = registry->GetCounter(
      "perigee_blob_late_reads_total",
      "Reads of shards that took so long that others of the stripe were asked instead.");
}

}  // namespace perigee::client
