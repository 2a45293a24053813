// perigee bench net: how fast the way from one daemon to another is, by size of what is moved.

#include "cli/bench_net.h"

#include <nlohmann/json.hpp>

#include "cli/output.h"
#include "rdma/rpc.h"
#include "rdma/wire/probe.h"

namespace perigee::cli {
namespace {

constexpr Nanos kTimeout = 300 * kSecond;

std::string Rate(uint64_t bytes_per_s) { return FormatBytes(bytes_per_s) + "/s"; }

std::string Micros(uint64_t ns) {
  char text[32];
  std::snprintf(text, sizeof text, ns < 100'000 ? "%.1f us" : "%.0f us",
                static_cast<double>(ns) / 1e3);
  return text;
}

}  // namespace

Status BenchNet(const Verb& v, const std::string& from, const std::string& to, uint64_t bytes_max) {
  if (from != "bufferd" && from != "objectd")
    return Status(Code::kInvalidArgument, "--from " + from + ": bufferd or objectd");
  const std::string run = "local:" + v.state.config.data + "/run/";
  wire::NetProbeRequest q{.address = to, .bytes_max = bytes_max};
  if (to.empty() && from == "objectd") q.address = run + "bufferd.sock";
  if (to == "objectd" || to == "bufferd") q.address = run + to + ".sock";
  rdma::Channel& daemon = from == "bufferd" ? *v.connections->bufferd() : *v.connections->objectd();
  PERIGEE_ASSIGN(auto reply, (rdma::Call<wire::NetProbeReply>(daemon, wire::Method::kNetProbe, q,
                                                              {}, {.timeout = kTimeout})));
  if (v.json) {
    nlohmann::json rows = nlohmann::json::array();
    for (const auto& row : reply.rows) {
      rows.push_back({{"bytes", row.bytes},
                      {"transfers", row.transfers},
                      {"median_us", static_cast<double>(row.median_ns) / 1e3},
                      {"p99_us", static_cast<double>(row.p99_ns) / 1e3},
                      {"sent_bytes_per_s", row.sent_per_s},
                      {"read_bytes_per_s", row.read_per_s}});
    }
    PrintJson({{"from", from}, {"path", reply.path}, {"rows", rows}});
    return Status::Ok();
  }
  std::printf("from %s over %s\n", from.c_str(), reply.path.c_str());
  std::vector<std::vector<std::string>> table = {
      {"bytes", "there and back", "p99", "sending", "reading"}};
  for (const auto& row : reply.rows) {
    table.push_back({FormatBytes(row.bytes), Micros(row.median_ns), Micros(row.p99_ns),
                     Rate(row.sent_per_s), Rate(row.read_per_s)});
  }
  PrintTable(table);
  return Status::Ok();
}

}  // namespace perigee::cli
