// perigee up, perigee down.

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/daemon.h"
#include "base/disk.h"
#include "base/log.h"
#include "base/mounts.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/service_manager.h"
#include "cli/supervisor.h"
#include "client/meta/meta_client.h"
#include "rdma/rails/address_list.h"
#include "rdma/rpc.h"
#include "rdma/wire/control.h"

namespace perigee::cli {

namespace fs = std::filesystem;

namespace {

constexpr Nanos kStartTimeout = 120 * kSecond;
constexpr const char* kFirstBucket = "data";

struct UpFlags {
  std::string data, profile, burst, mount, s3_listen, admin_listen, bufferd_admin_listen,
      fuse_admin_listen, objectd, join, node_name, repair_after, secret_file, bufferd_listen;
  rdma::NetworkOptions network;
  std::vector<std::string> drives, extra;
  uint64_t drive_count = 0;
  uint64_t burst_budget = 0;
  bool detach = false, json = false, no_mount = false;
};

std::string Absolute(const std::string& path) {
  return fs::absolute(path).lexically_normal().string();
}

// The mount's door where nobody said: its usual port beside bufferd's usual one, else a free one,
// so that a second stack on a machine needs no more flags.
Result<std::string> FuseAdminListen(const std::string& bufferd_admin_listen) {
  PERIGEE_TRY(ParseHostPort(bufferd_admin_listen).status());
  size_t colon = bufferd_admin_listen.rfind(':');
  bool usual = bufferd_admin_listen.substr(colon) == ":9011";
  return bufferd_admin_listen.substr(0, colon) + (usual ? ":9021" : ":0");
}

Status CheckStorageNode(const UpFlags& flags, const StackConfig& c, bool known) {
  const std::string join = "--join " + c.join + ": ";
  if (!flags.objectd.empty())
    return Status(Code::kInvalidArgument, join + "--objectd is for a machine without drives");
  if (known && c.burst != "")
    return Status(Code::kInvalidArgument, join + "this stack is no storage node's");
  const bool others = !flags.profile.empty() || !flags.burst.empty() || flags.burst_budget != 0 ||
                      !flags.mount.empty() || !flags.s3_listen.empty() ||
                      !flags.bufferd_listen.empty() || !flags.bufferd_admin_listen.empty() ||
                      !flags.fuse_admin_listen.empty() || !flags.repair_after.empty();
  if (others)
    return Status(Code::kInvalidArgument,
                  join +
                      "this machine has drives only: no --profile, --burst, --mount, "
                      "--s3-listen, --repair-after, nor addresses of bufferd and the mount");
  if (!known && flags.drives.empty() && flags.drive_count == 0)
    return Status(Code::kInvalidArgument, join + "--drive DIR, at least one");
  return Status::Ok();
}

// What a node is it stays, and it has nothing that is of others.
Status CheckRole(const UpFlags& flags, const StackConfig& c, bool known) {
  if (c.drives_only()) return CheckStorageNode(flags, c, known);
  if (c.has_objectd()) return Status::Ok();
  const bool drives = flags.drive_count != 0 || !flags.drives.empty() || !flags.profile.empty() ||
                      !flags.repair_after.empty() || !flags.node_name.empty();
  if (drives || !flags.s3_listen.empty() || !flags.admin_listen.empty())
    return Status(Code::kInvalidArgument, "--objectd " + c.objectd +
                                              ": drives, --profile, --node-name, --repair-after, "
                                              "--s3-listen and --admin-listen are of its machine");
  if (known && !c.drives.empty())
    return Status(Code::kInvalidArgument,
                  "--objectd " + c.objectd + ": this stack has an objectd of its own");
  return Status::Ok();
}

std::string HostsOf(const std::string& listen) {
  std::vector<std::string> hosts = rdma::SplitAddresses(listen);
  for (std::string& host : hosts)
    if (ParseHostPort(host).ok()) host.resize(host.rfind(':'));
  return rdma::JoinAddresses(hosts);
}

bool HasPort(const std::string& addresses) {
  const std::vector<std::string> hosts = rdma::SplitAddresses(addresses);
  return std::any_of(hosts.begin(), hosts.end(),
                     [](const std::string& host) { return ParseHostPort(host).ok(); });
}

// Network options given now replace all that were given before.
void MergeNetwork(const UpFlags& flags, StackConfig* c) {
  if (!flags.secret_file.empty()) c->secret_file = Absolute(flags.secret_file);
  if (flags.network == rdma::NetworkOptions() && flags.bufferd_listen.empty()) return;
  c->network = flags.network;
  c->bufferd_listen = flags.bufferd_listen;
  for (auto* file : {&c->network.ca_file, &c->network.cert_file, &c->network.key_file})
    if (!file->empty()) *file = Absolute(*file);
  if (c->network.listen == "none") c->network = rdma::NetworkOptions();
  if (c->bufferd_listen.empty() && !c->drives_only())
    c->bufferd_listen = c->has_objectd() ? HostsOf(c->network.listen) : c->network.listen;
  if (!c->has_objectd()) c->network.listen.clear();
}

Status CheckSecret(const StackConfig& c, const std::string& why) {
  if (access(c.secret_path().c_str(), F_OK) == 0) return Status::Ok();
  return Status(Code::kInvalidArgument, why + ": needs the cluster secret, --secret-file FILE (" +
                                            c.secret_path() + " is not there)");
}

Status CheckStorageNodeNetwork(StackConfig* c) {
  PERIGEE_TRY(rdma::CheckNetworkOptions(&c->network, rdma::kObjectdPort, true));
  const std::string join = "--join " + c->join;
  if (c->network.listen.empty() && !c->join.starts_with("local:"))
    return Status(Code::kInvalidArgument,
                  join + ": other nodes reach this one's drives, --listen HOST[:PORT]");
  return CheckSecret(*c, join);
}

Status CheckNetwork(StackConfig* c) {
  if (c->drives_only()) return CheckStorageNodeNetwork(c);
  rdma::NetworkOptions bufferd = c->bufferd_network();
  PERIGEE_TRY(rdma::CheckNetworkOptions(&bufferd, rdma::kBufferdPort, true));
  c->bufferd_listen = bufferd.listen;
  if (c->has_objectd()) {
    if (HasPort(c->network.advertise))
      return Status(Code::kInvalidArgument, "--advertise " + c->network.advertise +
                                                ": the host alone; each daemon has its own port");
    return rdma::CheckNetworkOptions(&c->network, rdma::kObjectdPort, true);
  }
  if (c->bufferd_listen.empty())
    return Status(Code::kInvalidArgument,
                  "--objectd " + c->objectd +
                      ": other nodes read this one's burst buffer, --listen HOST[:PORT]");
  return CheckSecret(*c, "--objectd " + c->objectd);
}

Status ConfigureDrives(const UpFlags& flags, bool known, StackConfig* c) {
  if (flags.drive_count != 0 && !flags.drives.empty()) {
    return Status(Code::kInvalidArgument, "--drives and --drive: give one of them");
  }
  if (!flags.drives.empty()) {
    c->drives.clear();
    for (const auto& d : flags.drives) c->drives.push_back(Absolute(d));
  } else if (flags.drive_count != 0 || c->drives.empty()) {
    uint64_t n = flags.drive_count == 0 ? 6 : flags.drive_count;
    if (known && n != c->drives.size()) {
      return Status(Code::kInvalidArgument, "--drives " + std::to_string(n) + ": this stack has " +
                                                std::to_string(c->drives.size()));
    }
    c->drives.clear();
    for (uint64_t i = 1; i <= n; ++i)
      c->drives.push_back(c->data + "/drives/d" + std::to_string(i));
  }
  return Status::Ok();
}

// Burst buffer, mount and S3: what a machine with drives only has not.
Status ConfigureDoors(const UpFlags& flags, bool known, StackConfig* c) {
  if (!flags.burst.empty()) c->burst = Absolute(flags.burst);
  if (c->burst.empty()) c->burst = c->data + "/burst";
  if (flags.burst_budget != 0) c->burst_budget = flags.burst_budget;
  if (c->mount.empty()) c->mount = std::exchange(c->mount_withheld, "");
  if (!flags.mount.empty()) c->mount = Absolute(flags.mount);
  if (c->mount.empty() && !known) c->mount = c->data + "/mnt";
  if (flags.no_mount) c->mount.clear();
  if (!c->mount.empty() && access("/dev/fuse", R_OK | W_OK) != 0) {
    std::cerr << "perigee up: no /dev/fuse here: no mount; use S3 or the Python client\n";
    c->mount_withheld = std::exchange(c->mount, "");
  }
  if (!flags.s3_listen.empty()) c->s3_listen = flags.s3_listen;
  if (!flags.bufferd_admin_listen.empty()) c->bufferd_admin_listen = flags.bufferd_admin_listen;
  if (!flags.fuse_admin_listen.empty()) c->fuse_admin_listen = flags.fuse_admin_listen;
  if (c->fuse_admin_listen.empty()) {
    PERIGEE_ASSIGN(c->fuse_admin_listen, FuseAdminListen(c->bufferd_admin_listen));
  }
  for (const auto& listen : {c->s3_listen, c->bufferd_admin_listen, c->fuse_admin_listen}) {
    PERIGEE_TRY(ParseHostPort(listen).status());
  }
  return Status::Ok();
}

// What the stack had before, changed by what the flags say.
Result<StackConfig> Configure(const UpFlags& flags, const std::string& data) {
  StackConfig c;
  auto before = LoadState(data);
  if (before.ok()) {
    c = before->config;
  } else if (before.code() != Code::kNotFound) {
    return std::move(before).TakeStatus();
  }
  bool known = before.ok();
  c.data = data;
  if (!flags.objectd.empty()) c.objectd = flags.objectd;
  if (!flags.join.empty()) c.join = flags.join;
  PERIGEE_TRY(CheckRole(flags, c, known));
  if (!flags.node_name.empty()) c.node_name = flags.node_name;
  if (!flags.repair_after.empty()) {
    PERIGEE_TRY(ParseDuration(flags.repair_after).status().With("--repair-after"));
    c.repair_after = flags.repair_after;
  }
  MergeNetwork(flags, &c);
  PERIGEE_TRY(CheckNetwork(&c));
  if (c.has_objectd()) PERIGEE_TRY(ConfigureDrives(flags, known, &c));
  if (!flags.profile.empty()) c.profile = flags.profile;
  if (!flags.admin_listen.empty()) c.admin_listen = flags.admin_listen;
  if (!flags.extra.empty()) c.extra = flags.extra;
  if (c.extra == std::vector<std::string>{"none"}) c.extra.clear();
  if (!c.drives_only()) PERIGEE_TRY(ConfigureDoors(flags, known, &c));
  PERIGEE_TRY(ParseHostPort(c.admin_listen).status());
  PERIGEE_TRY(CheckConfig(c));
  return c;
}

Status MakeDirs(const StackConfig& c) {
  auto disk = CreatePosixDisk();
  for (const auto& dir : {c.data, c.run_dir(), c.log_dir()}) {
    PERIGEE_TRY(disk->CreateDirs(dir));
  }
  if (!c.burst.empty()) PERIGEE_TRY(disk->CreateDirs(c.burst));
  if (c.has_objectd()) PERIGEE_TRY(disk->CreateDirs(c.data + "/objectd"));
  // Where a drive's directory is missing it is a lost drive, unless the stack is new: objectd tells
  // them apart by its own state, so making an empty directory here harms nothing.
  for (const auto& dir : c.drives) PERIGEE_TRY(disk->CreateDirs(dir));
  for (const auto& dir : {c.data, c.run_dir()}) {
    if (chmod(dir.c_str(), 0711) != 0) return Status::FromErrno(errno, dir);
  }
  for (const auto& dir : {c.log_dir(), c.data + "/objectd"}) {
    if (chmod(dir.c_str(), 0700) != 0 && (c.has_objectd() || errno != ENOENT))
      return Status::FromErrno(errno, dir);
  }
  if (!c.mount.empty()) {
    DetachDeadMounts(c.mount);
    PERIGEE_TRY(disk->CreateDirs(c.mount));
  }
  for (const char* name : {"objectd.sock", "bufferd.sock", "fuse.sock"}) {
    auto gone = disk->Unlink(c.run_dir() + "/" + name);
    if (!gone.ok() && !gone.Is(Code::kNotFound)) return gone;
  }
  const bool its_own = c.has_namespace() && c.secret_file.empty();
  return LoadSecret(c.secret_path(), its_own).status();
}

// A first bucket, so that `cp file MOUNT/data/` works right away.
Status MakeFirstBucket(const StackConfig& config) {
  PERIGEE_ASSIGN(auto connections, Connections::Open(config));
  client::MetaClient meta(connections->bufferd());
  wire::CreateBucketRequest q;
  q.name = kFirstBucket;
  auto made = meta.CreateBucket(q);
  if (!made.ok() && made.code() != Code::kAlreadyExists) return std::move(made).TakeStatus();
  return Status::Ok();
}

std::string BinariesDir() {
  std::error_code error;
  fs::path self = fs::read_symlink("/proc/self/exe", error);
  return self.parent_path().string();
}

// ", away: connection refused", of an objectd that is elsewhere.
std::string ObjectdProblem(const StackConfig& config) {
  auto connections = Connections::Open(config);
  if (!connections.ok()) return ", " + connections.status().message();
  auto bufferd = rdma::Call<wire::BufferdStatusReply>(
      *(*connections)->bufferd(), wire::Method::kControlBufferdStatus, wire::Empty{});
  if (!bufferd.ok()) return ", " + bufferd.status().message();
  if (bufferd->links.empty() || bufferd->links[0].connected) return "";
  return ", away: " + bufferd->links[0].problem;
}

void AnnounceDoors(const StackState& s) {
  const StackConfig& c = s.config;
  if (c.has_objectd()) {
    std::cout << "S3 endpoint   " << s.endpoint << "\n"
              << "credentials   " << c.credentials_path() << "   (AWS_SHARED_CREDENTIALS_FILE)\n";
    if (!s.address.empty())
      std::cout << "network       " << s.address << "   (--objectd of other machines)\n";
  } else {
    std::cout << "objectd       " << c.objectd << ObjectdProblem(c) << "\n";
  }
  std::cout << "mount         " << (c.mount.empty() ? "none" : c.mount) << "\n";
}

void Announce(const StackState& s, bool json) {
  if (json) {
    std::cout << StateJson(s) << std::endl;
    return;
  }
  const StackConfig& c = s.config;
  if (c.drives_only())
    std::cout << "storage node  " << s.address << ", of " << c.join << "\n";
  else
    AnnounceDoors(s);
  if (c.has_objectd())
    std::cout << "drives        " << c.drives.size()
              << (c.profile.empty() ? "" : ", profile " + c.profile) << "\n";
  std::cout << "status        perigee status --data " << s.config.data << std::endl;
}

// In the process that supervises. `ready`: told once how the start went; "" is well.
int Supervise(const StackConfig& config,
              const std::function<void(const Status&, const StackState&)>& ready) {
  auto lock = PidLock::Take(config.lock_path());
  if (!lock.ok()) {
    ready(lock.status(), {});
    return kExitFailed;
  }
  Status made = MakeDirs(config);
  Supervisor supervisor(config, BinariesDir());
  Status started = made.ok() ? supervisor.StartAll(kStartTimeout) : made;
  if (started.ok() && config.has_namespace() && !config.first_bucket_made) {
    started = MakeFirstBucket(config);
    if (started.ok()) supervisor.NoteFirstBucket();
  }
  if (!started.ok()) supervisor.StopAll();  // first, so that another `up` may follow at once
  ready(started, supervisor.state());
  if (!started.ok()) {
    TellServiceManager(ServiceEvent::kStatus, started.message());
    return started.Is(Code::kInvalidArgument) ? kExitUsage : kExitFailed;
  }
  TellServiceManager(ServiceEvent::kReady, supervisor.Summary());
  int signal = supervisor.Run();
  log::Info("stopping", {{"signal", signal}});
  TellServiceManager(ServiceEvent::kStopping, "stopping");
  supervisor.StopAll();
  return kExitDone;
}

// The supervisor in a process of its own; this one returns when every door answers.
int Detach(const StackConfig& config, bool json) {
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return Complain("up", Status::FromErrno(errno, "pipe"));
  pid_t pid = fork();
  if (pid < 0) return Complain("up", Status::FromErrno(errno, "fork"));
  if (pid == 0) {
    close(pipe_fds[0]);
    setsid();
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int out = open((config.log_dir() + "/perigee.log").c_str(),
                   O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    dup2(null, 0);
    if (out >= 0) dup2(out, 1), dup2(out, 2);
    PrepareDaemon();
    log::Configure("up", log::Level::kInfo, log::Format::kText);
    int code = Supervise(config, [&](const Status& status, const StackState&) {
      std::string word = status.ok() ? "ok" : status.message();
      if (write(pipe_fds[1], word.data(), word.size()) < 0) _exit(kExitFailed);
      close(pipe_fds[1]);
    });
    _exit(code);
  }
  close(pipe_fds[1]);
  std::string word;
  char buf[512];
  ssize_t n;
  while ((n = read(pipe_fds[0], buf, sizeof buf)) > 0) word.append(buf, static_cast<size_t>(n));
  close(pipe_fds[0]);
  if (word != "ok") {
    int status = 0;
    waitpid(pid, &status, 0);
    std::cerr << "perigee up: "
              << (word.empty() ? "the supervisor died; see " + config.log_dir() + "/perigee.log"
                               : word)
              << std::endl;
    return WIFEXITED(status) && WEXITSTATUS(status) == kExitUsage ? kExitUsage : kExitFailed;
  }
  auto state = LoadState(config.data);
  if (!state.ok()) return Complain("up", state.status());
  Announce(*state, json);
  return kExitDone;
}

}  // namespace

int RunUp(int argc, char** argv) {
  UpFlags f;
  Options o("perigee up",
            "Starts objectd, bufferd and the mount on this machine, and keeps them running. With "
            "--objectd, bufferd and the mount only: objectd runs on another machine. With --join, "
            "drives only: the namespace of another machine puts shards on them.");
  o.AddString("data", &f.data, "directory of the stack (or PERIGEE_DATA)", "DIR");
  o.AddCount("drives", &f.drive_count, 0, 64,
             "so many drive directories below the data directory (for trying out)");
  o.AddStrings("drive", &f.drives, "a drive's directory; several times, or d{1...6}", "DIR");
  o.AddString("profile", &f.profile, "erasure code, data + parity shards (default by drive count)",
              "K+M");
  o.AddString("burst", &f.burst, "directory of the burst buffer, on local NVMe", "DIR");
  o.AddBytes("burst-budget", &f.burst_budget, "bytes the burst buffer may keep");
  o.AddString("mount", &f.mount, "where to mount the namespace", "DIR");
  o.AddFlag("no-mount", &f.no_mount, "no mount");
  o.AddString("s3-listen", &f.s3_listen, "address of the S3 endpoint (port 0: a free one)", "ADDR");
  o.AddString("admin-listen", &f.admin_listen, "address of objectd's metrics", "ADDR");
  o.AddString("bufferd-admin-listen", &f.bufferd_admin_listen, "address of bufferd's metrics",
              "ADDR");
  o.AddString("fuse-admin-listen", &f.fuse_admin_listen,
              "address of the mount's metrics (default: port 9021 beside bufferd's 9011)", "ADDR");
  rdma::AddNetworkOptions(&o, &f.network);
  o.AddString("bufferd-listen", &f.bufferd_listen,
              "bufferd's address for other machines (default: --listen's hosts, port 9012)",
              "HOST[:PORT][,...]");
  o.AddString("objectd", &f.objectd,
              "on a node without drives: the objectd of another machine, tls:HOST:PORT, or several "
              "of its addresses with commas",
              "ADDRESS[,...]");
  o.AddString("join", &f.join,
              "on a machine with drives only: the objectd with the namespace, tls:HOST:PORT, or "
              "several of its addresses with commas",
              "ADDRESS[,...]");
  o.AddString("node-name", &f.node_name,
              "what `perigee node` calls this machine (default: the host's name)", "NAME");
  o.AddString("repair-after", &f.repair_after,
              "a storage node that is silent for so long is rebuilt on others (default 10m)",
              "DURATION");
  o.AddString("secret-file", &f.secret_file,
              "the cluster secret (default: in the data directory, made when absent)", "FILE");
  o.AddStrings("daemon-option", &f.extra,
               "an option for one daemon, as objectd:--memory-limit=1G; none: no more", "TEXT");
  o.AddFlag("detach", &f.detach, "return when every door answers");
  o.AddFlag("json", &f.json, "print the stack as JSON");
  o.SetExamples(
      "  perigee up --data /var/lib/perigee --drive '/srv/d{1...6}' --mount /mnt/perigee --detach\n"
      "  perigee up --data /tmp/try --s3-listen 127.0.0.1:0      six directories, to try it out\n"
      "  perigee up --data /var/lib/perigee --listen 10.0.0.1 --ca-file ca.crt --cert-file n1.crt "
      "--key-file n1.key\n"
      "  perigee up --data /var/lib/perigee --objectd tls:10.0.0.1:9002 --listen 10.0.0.7 \\\n"
      "    --secret-file secret --ca-file ca.crt --cert-file n7.crt --key-file n7.key\n"
      "  perigee up --data /var/lib/perigee --join tls:10.0.0.1:9002 --drive '/srv/d{1...6}' "
      "--listen 10.0.0.3 \\\n"
      "    --secret-file secret --ca-file ca.crt --cert-file n3.crt --key-file n3.key\n");
  auto parsed = o.Parse(argc, argv);
  if (!parsed.ok()) return Complain("up", parsed.status());
  if (*parsed == Options::Outcome::kDone) return kExitDone;
  auto data = ResolveData(f.data);
  if (!data.ok()) return Complain("up", data.status());
  if (auto pid = RunningSupervisor(*data)) {
    return Complain(
        "up", Status(Code::kAlreadyExists, *data + " is in use by pid " + std::to_string(*pid)));
  }
  auto config = Configure(f, *data);
  if (!config.ok()) return Complain("up", config.status());
  auto disk = CreatePosixDisk();
  Status dirs = disk->CreateDirs(config->log_dir());
  if (!dirs.ok()) return Complain("up", dirs);
  if (f.detach) return Detach(*config, f.json);
  PrepareDaemon();
  log::Configure("up", log::Level::kInfo, log::Format::kText);
  return Supervise(*config, [&](const Status& status, const StackState& state) {
    if (status.ok())
      Announce(state, f.json);
    else
      Complain("up", status);
  });
}

int RunDown(int argc, char** argv) {
  std::string flag;
  uint64_t timeout_s = 90;
  Options o("perigee down",
            "Stops the stack's daemons and unmounts. Nothing is lost: what is not flushed yet "
            "stays in the burst buffer.");
  o.AddString("data", &flag, "directory of the stack (or PERIGEE_DATA)", "DIR");
  o.AddCount("timeout", &timeout_s, 1, 3600, "seconds to wait");
  o.SetExamples("  perigee down --data /var/lib/perigee\n");
  auto parsed = o.Parse(argc, argv);
  if (!parsed.ok()) return Complain("down", parsed.status());
  if (*parsed == Options::Outcome::kDone) return kExitDone;
  auto data = ResolveData(flag);
  if (!data.ok()) return Complain("down", data.status());
  auto state = LoadState(*data);
  if (!state.ok()) return Complain("down", state.status());
  auto pid = RunningSupervisor(*data);
  if (!pid) {
    // Nothing runs; a dead mount may be left.
    if (!state->config.mount.empty()) umount2(state->config.mount.c_str(), MNT_DETACH);
    std::cout << "not running" << std::endl;
    return kExitDone;
  }
  if (*pid <= 0 || kill(*pid, SIGTERM) != 0) {
    return Complain("down", Status::FromErrno(errno, "signal pid " + std::to_string(*pid)));
  }
  for (uint64_t waited = 0; waited < timeout_s * 50; ++waited) {
    if (!RunningSupervisor(*data)) {
      std::cout << "stopped" << std::endl;
      return kExitDone;
    }
    usleep(20'000);
  }
  return Complain("down", Status(Code::kDeadlineExceeded,
                                 "pid " + std::to_string(*pid) + " is still stopping"));
}

}  // namespace perigee::cli
