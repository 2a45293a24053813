// perigee bench: mount, checkpoint (the Python client's way), S3 and calls, each beside this
// machine's own limit; and the way between two daemons. Sides take turns; medians. For figures to
// publish use bench/run, which proves the path of each.

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "cli/bench_net.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/s3_probe.h"
#include "client/buffer/burst_session.h"
#include "rdma/rpc.h"

namespace perigee::cli {

namespace {

constexpr int kTurns = 5;
constexpr size_t kPiece = 1 << 20;
constexpr const char* kScratch = "data/.perigee-bench";

double Now() { return static_cast<double>(RealClock::Get().Monotonic()) / kSecond; }

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Row {
  std::string name, unit;
  double ours = 0, limit = 0;
  std::string limit_name;
  bool less_is_better = false;
};

// Both sides in turn; each gives its figure or fails.
Result<Row> Alternate(Row row, const std::function<Result<double>()>& ours,
                      const std::function<Result<double>()>& limit) {
  std::vector<double> a, b;
  for (int turn = 0; turn <= kTurns; ++turn) {
    PERIGEE_ASSIGN(double x, ours());
    PERIGEE_ASSIGN(double y, limit());
    if (turn == 0) continue;  // warms both
    a.push_back(x);
    b.push_back(y);
  }
  row.ours = Median(a);
  row.limit = Median(b);
  return row;
}

// MB/s of writing a new file by descriptor and making it durable.
Result<double> WriteOut(int fd, uint64_t size, const std::vector<uint8_t>& piece,
                        const std::function<Status()>& sync) {
  double begin = Now();
  for (uint64_t done = 0; done < size;) {
    ssize_t n = pwrite(fd, piece.data(), std::min<uint64_t>(piece.size(), size - done),
                       static_cast<off_t>(done));
    if (n < 0) return Status::FromErrno(errno, "write");
    done += static_cast<uint64_t>(n);
  }
  PERIGEE_TRY(sync());
  return static_cast<double>(size) / (Now() - begin) / 1e6;
}

Result<double> WriteFile(const std::string& path, uint64_t size,
                         const std::vector<uint8_t>& piece) {
  unlink(path.c_str());
  rdma::OwnedFd fd(open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
  if (fd.get() < 0) return Status::FromErrno(errno, path);
  return WriteOut(fd.get(), size, piece, [&] {
    return fsync(fd.get()) == 0 ? Status::Ok() : Status::FromErrno(errno, "fsync");
  });
}

Result<double> WriteBurst(client::BurstSession& session, uint64_t size,
                          const std::vector<uint8_t>& piece) {
  wire::BurstCreateRequest q;
  q.path = kScratch;
  q.replace = true;
  q.mode = 0600;
  q.want_writable_fd = true;
  PERIGEE_ASSIGN(client::OpenedBurst file, session.Create(q));
  auto mbps = WriteOut(file.fd.get(), size, piece, [&] {
    return session.Fsync(file.handle, wire::Durability::kLocal).status();
  });
  file.fd.Reset(-1);
  PERIGEE_TRY(session.Publish(file.handle).status());
  PERIGEE_TRY(session.Release(file.handle));
  return mbps;
}

// Microseconds of one small call, median of many.
Result<double> CallTime(rdma::Channel& channel, wire::Method method) {
  std::vector<double> times;
  for (int i = 0; i < 500; ++i) {
    double begin = Now();
    PERIGEE_TRY(channel.CallAndWait(method, "").status());
    times.push_back((Now() - begin) * 1e6);
  }
  return Median(times);
}

// Microseconds of a byte there and back between two processes over a Unix socket.
Result<double> SocketTime() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
    return Status::FromErrno(errno, "socketpair");
  pid_t child = fork();
  if (child < 0) return Status::FromErrno(errno, "fork");
  char c = 0;
  if (child == 0) {
    close(fds[0]);
    while (read(fds[1], &c, 1) == 1 && write(fds[1], &c, 1) == 1) {
    }
    _exit(0);
  }
  close(fds[1]);
  std::vector<double> times;
  for (int i = 0; i < 2000; ++i) {
    double begin = Now();
    if (write(fds[0], &c, 1) != 1 || read(fds[0], &c, 1) != 1)
      return Status::FromErrno(errno, "ping");
    times.push_back((Now() - begin) * 1e6);
  }
  close(fds[0]);
  return Median(times);
}

}  // namespace

int RunBench(int argc, char** argv) {
  Verb v("bench",
         "Measures mount, checkpoint, S3 and transport on this stack, each beside this machine's "
         "limit in the same run.");
  uint64_t size = 256 << 20;
  std::string from = "bufferd", to;
  std::vector<std::string> only;
  v.options.AddBytes("size", &size, "bytes a turn");
  v.options.AddString("from", &from, "net: the daemon that measures, bufferd or objectd", "DAEMON");
  v.options.AddString("to", &to, "net: the daemon or the address it measures the way to",
                      "ADDRESS");
  v.options.AddPositional(&only, "mount|checkpoint|s3|transport|net", 0, 4);
  v.options.SetExamples(
      "  perigee bench\n  perigee bench s3 --size 64M\n"
      "  perigee bench net                              from this bufferd to its objectd\n"
      "  perigee bench net --to tls:10.0.0.7:9012       to the bufferd of another node\n");
  if (!v.Start(argc, argv)) return v.exit_code;
  if (only == std::vector<std::string>{"net"}) {
    Status s = BenchNet(v, from, to, std::min<uint64_t>(size, 64 << 20));
    return s.ok() ? kExitDone : v.Fail(s);
  }
  for (const auto& o : only) {
    if (o != "mount" && o != "checkpoint" && o != "s3" && o != "transport") {
      return v.Fail(Status(Code::kInvalidArgument,
                           "'" + o + "': mount, checkpoint, s3 or transport, or net by itself"));
    }
  }
  if (size < kPiece)
    return v.Fail(
        Status(Code::kInvalidArgument, "--size " + std::to_string(size) + ": at least 1M"));
  auto wanted = [&](const char* name) {
    return only.empty() || std::find(only.begin(), only.end(), name) != only.end();
  };
  std::vector<uint8_t> piece(kPiece);
  Random(7).Fill(piece.data(), piece.size());
  std::string local = v.state.config.burst + "/bench-local";
  auto session = client::BurstSession::Over(v.connections->bufferd());
  std::vector<Result<Row>> rows;
  auto local_write = [&] { return WriteFile(local, size, piece); };

  if (wanted("mount") && !v.state.config.mount.empty()) {
    rows.push_back(Alternate(
        {.name = "mount: write + fsync", .unit = "MB/s", .limit_name = "local file system"},
        [&] { return WriteFile(v.state.config.mount + "/" + kScratch, size, piece); },
        local_write));
  }
  if (wanted("checkpoint")) {
    rows.push_back(Alternate(
        {.name = "checkpoint by descriptor: write + fsync",
         .unit = "MB/s",
         .limit_name = "local file system"},
        [&] { return WriteBurst(*session, size, piece); }, local_write));
  }
  if (!v.state.config.has_objectd() && std::find(only.begin(), only.end(), "s3") != only.end())
    return v.Fail(Status(Code::kUnavailable, "s3: this node has no S3 endpoint"));
  if (wanted("s3") && v.state.config.has_objectd()) {
    auto probe = S3Probe::Connect(v.state.endpoint, v.state.config.credentials_path());
    if (!probe.ok()) return v.Fail(probe.status());
    std::vector<uint8_t> body(std::min<uint64_t>(size, 64 << 20));
    Random(8).Fill(body.data(), body.size());
    std::string path = std::string("/") + kScratch + "-s3";
    auto timed = [&](const std::function<Status()>& call) -> Result<double> {
      double begin = Now();
      PERIGEE_TRY(call());
      return static_cast<double>(body.size()) / (Now() - begin) / 1e6;
    };
    rows.push_back(Alternate(
        {.name = "S3: PUT of " + FormatBytes(body.size()),
         .unit = "MB/s",
         .limit_name = "local file system"},
        [&] { return timed([&] { return probe->Put(path, body); }); }, local_write));
    rows.push_back(Alternate(
        {.name = "S3: GET of " + FormatBytes(body.size()),
         .unit = "MB/s",
         .limit_name = "local file system, writing"},
        [&] { return timed([&] { return probe->Get(path).status(); }); }, local_write));
    probe->Delete(path).Ignore();  // a scratch object left behind does no harm
  }
  if (wanted("transport")) {
    rows.push_back(Alternate(
        {.name = "call to bufferd (its status)",
         .unit = "us",
         .limit_name = "Unix socket ping",
         .less_is_better = true},
        [&] { return CallTime(*v.connections->bufferd(), wire::Method::kControlBufferdStatus); },
        SocketTime));
  }
  unlink(local.c_str());
  wire::LookupRequest bucket;
  bucket.path = "data";
  if (auto found = session->meta().Lookup(bucket); found.ok()) {
    wire::RemoveRequest scratch;
    scratch.parent = found->record.id;
    scratch.name = ".perigee-bench";
    session->meta().Unlink(scratch).status().Ignore();  // not there when nothing wrote it
  }

  nlohmann::json all = nlohmann::json::array();
  std::vector<std::vector<std::string>> table = {{"what", "ours", "limit", "unit", "ratio", "of"}};
  int code = kExitDone;
  for (auto& row : rows) {
    if (!row.ok()) {
      code = v.Fail(row.status());
      continue;
    }
    auto figure = [](double x) {
      char text[32];
      std::snprintf(text, sizeof text, x < 100 ? "%.2f" : "%.0f", x);
      return std::string(text);
    };
    double ratio = row->ours / row->limit;
    table.push_back({row->name, figure(row->ours), figure(row->limit), row->unit, figure(ratio),
                     row->limit_name});
    all.push_back({{"name", row->name},
                   {"ours", row->ours},
                   {"against", row->limit},
                   {"unit", row->unit},
                   {"ratio", ratio},
                   {"limit_is", row->limit_name},
                   {"less_is_better", row->less_is_better}});
  }
  if (v.json)
    PrintJson(all);
  else
    PrintTable(table);
  return code;
}

}  // namespace perigee::cli
