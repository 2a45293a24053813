#pragma once
// What the RocksStore counts. Every pointer may be null: no registry, no counting.

#include "base/metrics.h"

namespace perigee::objectd::kv {

struct KvMetrics {
  metrics::Counter* commits = nullptr;
  metrics::Counter* conflicts = nullptr;
  metrics::Counter* syncs = nullptr;
  metrics::Counter* ejected = nullptr;
  metrics::Gauge* in_sync = nullptr;

  static KvMetrics Of(metrics::Registry* registry) {
    if (registry == nullptr) return {};
    return {registry->GetCounter("perigee_kv_commits_total", "Metadata transactions committed"),
            registry->GetCounter("perigee_kv_conflicts_total",
                                 "Metadata transactions run again after a conflict"),
            registry->GetCounter("perigee_kv_syncs_total", "Syncs of a metadata mirror's log"),
            registry->GetCounter("perigee_kv_mirrors_ejected_total", "Metadata mirrors ejected"),
            registry->GetGauge("perigee_kv_mirrors_in_sync", "Metadata mirrors in sync")};
  }
  static void Count(metrics::Counter* counter) {
    if (counter != nullptr) counter->Add();
  }
  static void Show(metrics::Gauge* gauge, double value) {
    if (gauge != nullptr) gauge->Set(value);
  }
};

}  // namespace perigee::objectd::kv
