#pragma once
// Workload: what one run of s3_load does. Connections, each on a thread of its own, take operations
// by the weights of a mix and check every answer: its status, the bytes of an object, the order and
// the number of the keys of a walk. The first error ends the run. Thread rule: one call of Run.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/options.h"
#include "objectd/credentials.h"

namespace perigee::bench {

enum class Operation {
  kPut,     // the next object in turn
  kGet,     // one of the objects at random
  kDelete,  // the next thousand objects in turn, one request
  kPage,    // a page of a listing, behind one of the keys at random
  kWalk,    // a listing of all keys, page by page
  kCount
};
std::string_view NameOf(Operation operation);

struct WorkloadOptions {
  HostPort to;
  objectd::Credentials credentials;
  std::string bucket, prefix = "o/";
  std::array<uint64_t, static_cast<size_t>(Operation::kCount)> weights{};
  uint64_t object_bytes = 4096;
  uint64_t objects = 1000;  // numbered from `first`
  uint64_t first = 0;
  uint64_t connections = 1;
  // Whichever ends first; 0: no bound. Without both, each object is taken once.
  Nanos duration = 0;
  uint64_t operations = 0;
};

struct WorkloadResult {
  struct PerOperation {
    uint64_t count = 0;
    std::vector<float> micros;  // of each, sorted
  };
  std::array<PerOperation, static_cast<size_t>(Operation::kCount)> operations;
  uint64_t bytes = 0;  // of objects, sent and received
  uint64_t keys = 0;   // listed
  double seconds = 0, cpu_seconds = 0;
};

Result<std::array<uint64_t, static_cast<size_t>(Operation::kCount)>> ParseMix(
    const std::string& text);  // "get", "put:1,get:3"
Result<WorkloadResult> RunWorkload(const WorkloadOptions& options);

}  // namespace perigee::bench
