#include "objectd/options.h"

#include <unistd.h>

#include <charconv>

#include "client/ec/erasure_code.h"
#include "objectd/memory_plan.h"

namespace perigee::objectd {

namespace {

constexpr uint64_t kInlineMost = 48 << 10;  // a value of the store is at most 64 KiB

Status ParseProfile(const std::string& text, uint32_t* k, uint32_t* m) {
  size_t plus = text.find('+');
  auto number = [](std::string_view s, uint32_t* out) {
    auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), *out);
    return error == std::errc() && end == s.data() + s.size() && !s.empty();
  };
  std::string_view view = text;
  if (plus == std::string::npos || !number(view.substr(0, plus), k) ||
      !number(view.substr(plus + 1), m) || *k < 1 || *k > client::kDataShardsMax ||
      *m > client::kParityShardsMax) {
    return Status(Code::kInvalidArgument,
                  "--profile " + text + ": K+M with K from 1 to 16 and M from 0 to 4, as 4+2");
  }
  return Status::Ok();
}

Status CheckJoin(const ObjectdOptions& options, const std::string& profile) {
  auto wrong = [](const std::string& what) { return Status(Code::kInvalidArgument, what); };
  if (options.join.find(':') == std::string::npos)
    return wrong("--join " + options.join + ": an address, as tls:10.0.0.1:9002");
  if (!profile.empty())
    return wrong("--profile: the namespace node's, which this one joins (--join)");
  if (options.secret_file.empty())
    return wrong("--join: the cluster's secret is needed (--secret-file)");
  return Status::Ok();
}

std::string HostName() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0 || name[0] == 0) return "storage-node";
  return name;
}

}  // namespace

Result<Options::Outcome> ParseOptions(int argc, const char* const* argv, ObjectdOptions* s) {
  std::string profile;
  uint64_t grace_s = static_cast<uint64_t>(s->reader_grace / kSecond);
  Options o(
      "perigee-objectd",
      "Keeps erasure-coded objects on drives, the namespace over them, and the S3 endpoint. With "
      "--join: drives only, for the namespace of another one.");
  o.AddString("join", &s->join,
              "address of the namespace node, as tls:10.0.0.1:9002; several with commas",
              "ADDR[,...]");
  o.AddString("node-name", &s->node_name, "name of this node in status (default: the host's)",
              "NAME");
  o.AddStrings("drive", &s->drives, "a drive's directory; several times, or d{1...6}", "DIR");
  o.AddString("profile", &profile,
              "data + parity shards (default: 1 drive 1+0, 2 and 3 1+1, 4 2+2, 5 3+2, more 4+2)",
              "K+M");
  o.AddString("state", &s->state_dir,
              "directory for what is known of the cluster beside its drives", "DIR");
  o.AddString("run-dir", &s->run_dir, "directory of the sockets", "DIR");
  o.AddString("secret-file", &s->secret_file, "the cluster secret", "FILE");
  o.AddString("credentials-file", &s->credentials_file, "the S3 root key; made when absent",
              "FILE");
  o.AddString("s3-listen", &s->s3_listen, "address of the S3 endpoint", "ADDR");
  o.AddString("admin-listen", &s->admin_listen, "address of metrics and health", "ADDR");
  o.AddBytes("memory-limit", &s->memory_limit, "memory to stay within");
  o.AddBytes("drive-capacity", &s->drive_capacity,
             "bytes to use of each drive (0: its file system)");
  o.AddBytes("inline-limit", &s->inline_bytes_max,
             "objects up to this size are kept with the metadata");
  o.AddCount("reader-grace", &grace_s, 1, 86400,
             "seconds that deleted content stays readable for those reading it");
  o.AddDuration("lease", &s->lease,
                "how long a writer that died keeps the space of what it had not committed");
  o.AddBytes("scrub-rate", &s->scrub_rate, "bytes a second that a scrub reads");
  o.AddDuration("scrub-interval", &s->scrub_interval,
                "all drives are scrubbed so often (0s: only by `perigee scrub`)");
  o.AddDuration("repair-after", &s->repair_after,
                "what was on a storage node that is away so long is rebuilt on others");
  o.AddCount("s3-connections", &s->s3_connections, 16, 1'000'000,
             "open S3 connections (at most three quarters of the limit of open files)");
  o.AddDuration("s3-head-timeout", &s->s3_head_timeout,
                "an S3 client's time for the head of a request");
  o.AddDuration("s3-body-timeout", &s->s3_body_timeout,
                "an S3 client may be silent so long inside a body, or slower than --s3-body-rate");
  o.AddBytes("s3-body-rate", &s->s3_body_rate, "bytes a second that S3 clients must keep up");
  o.AddDuration("s3-idle-timeout", &s->s3_idle_timeout,
                "S3 connections stay open so long between requests");
  rdma::AddNetworkOptions(&o, &s->network);
  o.AddString("log-format", &s->log_format, "text or json", "FORMAT");
  o.SetExamples(
      "  perigee-objectd --drive '/srv/d{1...6}' --state /var/lib/perigee/objectd --run-dir "
      "/run/perigee \\\n"
      "    --credentials-file /etc/perigee/credentials\n"
      "  perigee-objectd --join tls:10.0.0.1:9002 --drive '/srv/d{1...6}' --state "
      "/var/lib/perigee/objectd \\\n"
      "    --run-dir /run/perigee --listen 10.0.0.2 --secret-file /etc/perigee/secret \\\n"
      "    --ca-file /etc/perigee/ca.pem --cert-file /etc/perigee/node.pem --key-file "
      "/etc/perigee/node.key\n");
  PERIGEE_ASSIGN(auto outcome, o.Parse(argc, argv));
  if (outcome == Options::Outcome::kDone) return outcome;
  auto needed = [](const char* flag, const std::string& value) {
    return value.empty() ? Status(Code::kInvalidArgument,
                                  std::string("--") + flag + ": a directory is needed")
                         : Status::Ok();
  };
  if (s->drives.empty())
    return Status(Code::kInvalidArgument, "--drive: at least one directory is needed");
  PERIGEE_TRY(needed("state", s->state_dir));
  PERIGEE_TRY(needed("run-dir", s->run_dir));
  if (s->node_name.empty()) s->node_name = HostName();
  if (!s->join.empty()) PERIGEE_TRY(CheckJoin(*s, profile));
  if (!profile.empty()) PERIGEE_TRY(ParseProfile(profile, &s->k, &s->m));
  if (s->k + s->m > s->drives.size()) {
    return Status(Code::kInvalidArgument, "--profile " + profile + ": " +
                                              std::to_string(s->k + s->m) + " drives are needed, " +
                                              std::to_string(s->drives.size()) + " are given");
  }
  if (s->memory_limit < kMemoryLeast) {
    return Status(Code::kInvalidArgument,
                  "--memory-limit " + std::to_string(s->memory_limit) + ": at least 128M");
  }
  if (s->inline_bytes_max > kInlineMost) {
    return Status(Code::kInvalidArgument,
                  "--inline-limit " + std::to_string(s->inline_bytes_max) + ": at most 48K");
  }
  if (s->scrub_rate == 0)
    return Status(Code::kInvalidArgument, "--scrub-rate 0: at least 1 byte a second");
  if (s->s3_body_rate == 0)
    return Status(Code::kInvalidArgument, "--s3-body-rate 0: at least 1 byte a second");
  for (Nanos timeout : {s->s3_head_timeout, s->s3_body_timeout, s->s3_idle_timeout}) {
    if (timeout < 100 * kMillisecond)
      return Status(Code::kInvalidArgument,
                    "--s3-head-timeout, --s3-body-timeout, --s3-idle-timeout: at least 100ms");
  }
  if (s->log_format != "text" && s->log_format != "json") {
    return Status(Code::kInvalidArgument, "--log-format " + s->log_format + ": text or json");
  }
  PERIGEE_TRY(ParseHostPort(s->s3_listen).status().With("--s3-listen " + s->s3_listen));
  PERIGEE_TRY(ParseHostPort(s->admin_listen).status().With("--admin-listen " + s->admin_listen));
  PERIGEE_TRY(rdma::CheckNetworkOptions(&s->network, rdma::kObjectdPort, !s->secret_file.empty()));
  // Writers take a new lease a minute before one ends.
  if (s->lease < 90 * kSecond)
    return Status(Code::kInvalidArgument, "--lease: at least 90 seconds");
  s->reader_grace = static_cast<Nanos>(grace_s) * kSecond;
  return outcome;
}

}  // namespace perigee::objectd
