// s3_load: a load client for S3 endpoints that costs little beside the server it measures: signed
// requests, connections kept alive, every answer checked, its own CPU time told apart.

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/disk.h"
#include "bench/s3_load/workload.h"

namespace {

using namespace perigee;
using namespace perigee::bench;

Result<Options::Outcome> ParseOptions(int argc, char** argv, WorkloadOptions* out) {
  std::string endpoint = "127.0.0.1:9000", credentials, mix = "put";
  Options o("s3_load", "Puts load on an S3 endpoint and prints one line of JSON.");
  o.AddString("endpoint", &endpoint, "address of the server", "HOST:PORT");
  o.AddString("credentials", &credentials,
              "file with aws_access_key_id and aws_secret_access_key; without it, any are sent",
              "FILE");
  o.AddString("bucket", &out->bucket, "bucket, which must exist");
  o.AddString("prefix", &out->prefix, "of all keys; ten digits follow");
  o.AddString("mix", &mix, "operations and their weights: put, get, delete, page, walk",
              "put:1,get:3");
  o.AddBytes("size", &out->object_bytes, "bytes of an object");
  o.AddCount("objects", &out->objects, 1, 1'000'000'000, "how many objects there are to work on");
  o.AddCount("first", &out->first, 0, 1'000'000'000, "number of the first one");
  o.AddCount("connections", &out->connections, 1, 4096, "each on a thread of its own");
  o.AddDuration("duration", &out->duration, "ends the run");
  o.AddCount("operations", &out->operations, 0, 1'000'000'000, "ends the run; 0: no bound");
  o.SetExamples(
      "  s3_load --credentials FILE --bucket data --mix put --objects 100000 --connections 32\n"
      "  s3_load --credentials FILE --bucket data --mix get --objects 100000 --duration 5s\n");
  PERIGEE_ASSIGN(Options::Outcome outcome, o.Parse(argc, argv));
  if (outcome == Options::Outcome::kDone) return outcome;
  if (out->bucket.empty()) return Status(Code::kInvalidArgument, "--bucket is missing");
  PERIGEE_ASSIGN(out->to, ParseHostPort(endpoint));
  PERIGEE_ASSIGN(out->weights, ParseMix(mix));
  auto disk = CreatePosixDisk();
  out->credentials = {"any", "any"};
  if (!credentials.empty()) {
    PERIGEE_ASSIGN(out->credentials, objectd::LoadCredentials(*disk, credentials));
  }
  return outcome;
}

double At(const std::vector<float>& sorted, double share) {
  return sorted[std::min(sorted.size() - 1,
                         static_cast<size_t>(share * static_cast<double>(sorted.size())))];
}

void Print(const WorkloadResult& result) {
  nlohmann::json out{{"seconds", result.seconds},
                     {"client_cpu_seconds", result.cpu_seconds},
                     {"bytes", result.bytes},
                     {"keys", result.keys}};
  for (size_t i = 0; i < result.operations.size(); ++i) {
    const auto& operation = result.operations[i];
    if (operation.count == 0) continue;
    out[std::string(NameOf(static_cast<Operation>(i)))] = {
        {"count", operation.count},
        {"per_second", static_cast<double>(operation.count) / result.seconds},
        {"p50_us", At(operation.micros, 0.5)},
        {"p99_us", At(operation.micros, 0.99)},
        {"max_us", operation.micros.back()}};
  }
  std::printf("%s\n", out.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  WorkloadOptions options;
  auto outcome = ParseOptions(argc, argv, &options);
  if (!outcome.ok()) {
    std::fprintf(stderr, "s3_load: %s\n", outcome.status().message().c_str());
    return 2;
  }
  if (*outcome == perigee::Options::Outcome::kDone) return 0;
  auto result = RunWorkload(options);
  if (!result.ok()) {
    std::fprintf(stderr, "s3_load: %s\n", result.status().message().c_str());
    return 1;
  }
  Print(*result);
  return 0;
}
