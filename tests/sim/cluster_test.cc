// A cluster under users and faults, one seed after another.
//   PERIGEE_SIM_SEEDS=1000 cluster_sim            so many seeds
//   PERIGEE_SIM_SEED=17 cluster_sim               this one, with its trace
#include <doctest/doctest.h>

#include <cstdlib>
#include <iostream>

#include "tests/sim/workload.h"

namespace perigee::sim {
namespace {

constexpr uint64_t kSeeds = 20;
constexpr Faults kAll{.messages = true, .partitions = true, .kills = true, .power = true};

uint64_t Setting(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::strtoull(value, nullptr, 10) : otherwise;
}

struct Outcome {
  uint64_t trace = 0;
  uint64_t acknowledged = 0;
  uint64_t held = 0, asked = 0;     // directories, and how often their holders
  uint64_t kept = 0, recalled = 0;  // reads by a delegation, and how often they were recalled
  std::string deviations;
};

Outcome Run(uint64_t seed, Faults faults, bool tell = false) {
  Cluster cluster(seed);
  Workload workload(cluster, seed, faults);
  workload.SetUp();
  for (int round = 0; round < 2 && workload.deviations().empty(); round++) {
    workload.Round();
    workload.Look();
  }
  if (workload.deviations().empty()) workload.Settle();
  const auto& process = *cluster.ns.process();
  Outcome outcome{.trace = cluster.trace.hash(),
                  .acknowledged = workload.acknowledged(),
                  .held = process.Counter("perigee_meta_directories_held_total"),
                  .asked = process.Counter("perigee_meta_directory_holders_asked_total"),
                  .recalled = process.Counter("perigee_meta_delegations_recalled_total")};
  for (const auto& gpu : cluster.gpus) outcome.kept += gpu->kept_reads();
  for (const std::string& deviation : workload.deviations())
    outcome.deviations += "\n  " + deviation;
  if (tell)
    for (const std::string& line : cluster.trace.lines()) std::cout << line << "\n";
  return outcome;
}

TEST_CASE("without faults every door shows what was acknowledged") {
  uint64_t held = 0, asked = 0, kept = 0, recalled = 0;
  for (uint64_t seed = 1; seed <= 10; seed++) {
    const Outcome outcome = Run(seed, {});
    CHECK_MESSAGE(outcome.deviations == "", "seed " << seed << outcome.deviations);
    CHECK(outcome.acknowledged > 10);
    held += outcome.held;
    asked += outcome.asked;
    kept += outcome.kept;
    recalled += outcome.recalled;
  }
  MESSAGE(held << " directories were held, their holders asked " << asked << " times");
  MESSAGE(kept << " reads were answered by a delegation, " << recalled << " recalls");
  CHECK(held > 5);
  CHECK(asked > 20);
  CHECK(kept > 100);
  CHECK(recalled > 50);
}

TEST_CASE("a seed replays exactly") { CHECK(Run(2, kAll).trace == Run(2, kAll).trace); }

TEST_CASE("whatever befalls the cluster, what was acknowledged is there afterwards") {
  const uint64_t only = Setting("PERIGEE_SIM_SEED", 0);
  const uint64_t first = only != 0 ? only : Setting("PERIGEE_SIM_FIRST_SEED", 1);
  const uint64_t seeds = only != 0 ? 1 : Setting("PERIGEE_SIM_SEEDS", kSeeds);
  uint64_t acknowledged = 0;
  for (uint64_t seed = first; seed < first + seeds; seed++) {
    const Outcome outcome = Run(seed, kAll, only != 0);
    acknowledged += outcome.acknowledged;
    CHECK_MESSAGE(outcome.deviations == "", "PERIGEE_SIM_SEED=" << seed << outcome.deviations);
  }
  CHECK(acknowledged > seeds * 10);
}

}  // namespace
}  // namespace perigee::sim
