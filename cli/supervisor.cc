#include "cli/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "cli/output.h"
#include "cli/service_manager.h"
#include "rdma/network/ucx_environment.h"
#include "rdma/rails/address_list.h"
#include "rdma/rpc.h"
#include "rdma/wire/control.h"

extern char** environ;

namespace perigee::cli {

namespace {
constexpr Nanos kProbeEvery = 20 * kMillisecond;
constexpr Nanos kRestartLeast = 100 * kMillisecond;
constexpr Nanos kRestartMost = 5 * kSecond;
constexpr Nanos kStopGrace = 20 * kSecond;

void Pause(Nanos ns) { poll(nullptr, 0, static_cast<int>(ns / kMillisecond)); }

// Blocked since PrepareDaemon, so it waits to be seen.
bool StopPending() {
  sigset_t pending;
  sigpending(&pending);
  return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1;
}
}  // namespace

struct Supervisor::Child {
  std::string name;
  std::string log_path;
  pid_t pid = 0;
  uint64_t restarts = 0;
  Nanos started = 0;
  Nanos backoff = kRestartLeast;
  Nanos restart_at = 0;  // monotonic; 0: running
  off_t log_start = 0;   // where this run's output begins
  std::string state = "starting";
};

Supervisor::Supervisor(StackConfig config, std::string binaries) : binaries_(std::move(binaries)) {
  state_.config = std::move(config);
  state_.pid = getpid();
  std::vector<std::string> names;
  if (state_.config.has_objectd()) names.push_back("objectd");
  if (!state_.config.drives_only()) names.push_back("bufferd");
  if (!state_.config.mount.empty()) names.push_back("fuse");
  for (const auto& name : names) {
    auto child = std::make_unique<Child>();
    child->name = name;
    child->log_path = state_.config.log_dir() + "/" + name + ".log";
    children_.push_back(std::move(child));
  }
}

Supervisor::~Supervisor() = default;

// As flags, those that are not the default.
static void AddNetwork(const rdma::NetworkOptions& n, std::vector<std::string>* args) {
  auto add = [&](const char* flag, const std::string& value) {
    if (!value.empty()) args->insert(args->end(), {flag, value});
  };
  add("--transport", n.transport);
  add("--listen", n.listen);
  add("--advertise", n.advertise);
  add("--ca-file", n.ca_file);
  add("--cert-file", n.cert_file);
  add("--key-file", n.key_file);
  for (const auto& name : n.fabric_interfaces) add("--fabric-interface", name);
  if (n.fabric_trusted) args->push_back("--fabric-trusted");
  if (n.poll) args->push_back("--poll");
}

std::vector<std::string> Supervisor::Arguments(const std::string& name) const {
  const StackConfig& c = state_.config;
  std::vector<std::string> args = {binaries_ + "/perigee-" + name};
  auto add = [&](const std::string& flag, const std::string& value) {
    args.push_back("--" + flag);
    args.push_back(value);
  };
  add("run-dir", c.run_dir());
  add("secret-file", c.secret_path());
  if (name == "objectd") {
    for (const auto& drive : c.drives) add("drive", drive);
    add("state", c.data + "/objectd");
    add("admin-listen", c.admin_listen);
    if (!c.node_name.empty()) add("node-name", c.node_name);
    if (c.drives_only()) {
      add("join", c.join);
    } else {
      if (!c.profile.empty()) add("profile", c.profile);
      if (!c.repair_after.empty()) add("repair-after", c.repair_after);
      add("credentials-file", c.credentials_path());
      add("s3-listen", c.s3_listen);
    }
    AddNetwork(c.network, &args);
  } else if (name == "bufferd") {
    add("store", c.burst);
    add("objectd", c.has_objectd() ? "local:" + c.run_dir() + "/objectd.sock" : c.objectd);
    AddNetwork(c.bufferd_network(), &args);
    add("admin-listen", c.bufferd_admin_listen);
    if (c.burst_budget != 0) add("budget", std::to_string(c.burst_budget));
  } else {
    add("mount", c.mount);
    add("admin-listen", c.fuse_admin_listen);
  }
  for (const auto& extra : c.extra) {
    if (extra.starts_with(name + ":")) args.push_back(extra.substr(name.size() + 1));
  }
  return args;
}

Status Supervisor::Spawn(Child& child) {
  auto args = Arguments(child.name);
  std::vector<char*> argv;
  for (auto& a : args) argv.push_back(a.data());
  argv.push_back(nullptr);

  struct stat st;
  child.log_start = stat(child.log_path.c_str(), &st) == 0 ? st.st_size : 0;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, child.log_path.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0640);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  // A group of their own: an interrupt from the terminal reaches only the supervisor, which stops
  // them in order.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
  posix_spawnattr_setpgroup(&attributes, 0);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  // PERIGEE_CONFIG names this command's options, not the daemon's.
  std::vector<char*> environment;
  for (char** e = environ; *e != nullptr; ++e) {
    if (!std::string_view(*e).starts_with("PERIGEE_CONFIG=")) environment.push_back(*e);
  }
  std::vector<std::string> for_ucx;
  for (auto& [name, value] : rdma::kUcxEnvironment) {
    if (getenv(name) == nullptr) for_ucx.push_back(std::string(name) + "=" + value);
  }
  for (auto& setting : for_ucx) environment.push_back(setting.data());
  environment.push_back(nullptr);
  int err =
      posix_spawn(&child.pid, argv[0], &actions, &attributes, argv.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (err != 0) {
    child.pid = 0;
    return Status::FromErrno(err, args[0]);
  }
  child.started = RealClock::Get().Monotonic();
  child.restart_at = 0;
  child.state = "starting";
  return Status::Ok();
}

// A port that was chosen freely stays the same over restarts of the daemon.
static void KeepPort(const wire::NetworkInfo& network, std::string* listen) {
  if (network.listen.empty()) return;
  std::vector<std::string> bound = rdma::SplitAddresses(network.listen);
  for (std::string& address : bound) address.erase(0, address.find(':') + 1);
  *listen = rdma::JoinAddresses(bound);
}

Status Supervisor::Probe(Child& child) {
  rdma::CallOptions soon{.timeout = 2 * kSecond};
  if (child.name == "objectd") {
    PERIGEE_ASSIGN(auto reply, (rdma::Call<wire::ObjectdStatusReply>(
                                   *connections_->objectd(), wire::Method::kControlObjectdStatus,
                                   wire::Empty{}, {}, soon)));
    if (!state_.config.drives_only()) {
      state_.endpoint = "http://" + reply.s3_address;
      state_.config.s3_listen = reply.s3_address;
    }
    state_.config.admin_listen = reply.admin_address;
    KeepPort(reply.network, &state_.config.network.listen);
    state_.address = rdma::JoinAddresses(reply.network.addresses);
    if (state_.config.drives_only() && !reply.links.empty() && reply.links[0].refused)
      return Status(Code::kUnauthenticated,
                    state_.config.join + " refuses this node: " + reply.links[0].problem);
    return Status::Ok();
  }
  if (child.name == "bufferd") {
    PERIGEE_ASSIGN(auto reply, (rdma::Call<wire::BufferdStatusReply>(
                                   *connections_->bufferd(), wire::Method::kControlBufferdStatus,
                                   wire::Empty{}, {}, soon)));
    if (!reply.admin_address.empty()) state_.config.bufferd_admin_listen = reply.admin_address;
    KeepPort(reply.network, &state_.config.bufferd_listen);
    if (!state_.config.has_objectd() && !reply.links.empty() && reply.links[0].refused)
      return Status(Code::kUnauthenticated,
                    state_.config.objectd + " refuses this node: " + reply.links[0].problem);
    return Status::Ok();
  }
  PERIGEE_ASSIGN(auto reply, (rdma::Call<wire::FuseStatusReply>(*connections_->fuse(),
                                                                wire::Method::kControlFuseStatus,
                                                                wire::Empty{}, {}, soon)));
  if (!reply.admin_address.empty()) state_.config.fuse_admin_listen = reply.admin_address;
  struct stat st;
  if (stat(state_.config.mount.c_str(), &st) != 0) {
    // It is mounted, and answers once objectd, which is elsewhere, does.
    if (errno == EIO && !state_.config.has_objectd()) return Status::Ok();
    return Status::FromErrno(errno, state_.config.mount);
  }
  if (st.st_ino != wire::kRootId)
    return Status(Code::kUnavailable, state_.config.mount + ": not mounted yet");
  return Status::Ok();
}

Status Supervisor::WaitReady(Child& child, Nanos deadline) {
  Clock& clock = RealClock::Get();
  while (true) {
    for (const auto& c : children_) {
      int status = 0;
      if (c->pid == 0 || waitpid(c->pid, &status, WNOHANG) != c->pid) continue;
      c->pid = 0;
      // One that was up already counts as well: those after it wait for it.
      const bool usage = WIFEXITED(status) && WEXITSTATUS(status) == kExitUsage;
      return Status(usage ? Code::kInvalidArgument : Code::kUnavailable,
                    "perigee-" + c->name + " did not start: " + LastWords(*c));
    }
    ::perigee::Status ready = Probe(child);
    if (ready.ok()) break;
    if (ready.Is(Code::kUnauthenticated)) return ready;  // waiting does not mend it
    if (StopPending()) return Status(Code::kCancelled, "stopped before every door answered");
    if (clock.Monotonic() > deadline)
      return ready.With("perigee-" + child.name + " does not answer");
    Pause(kProbeEvery);
  }
  child.state = "up";
  Publish();
  return Status::Ok();
}

Status Supervisor::StartAll(Nanos timeout) {
  Nanos deadline = RealClock::Get().Monotonic() + timeout;
  PERIGEE_ASSIGN(connections_, Connections::Open(state_.config));
  for (auto& child : children_) {
    PERIGEE_TRY(Spawn(*child));
    PERIGEE_TRY(WaitReady(*child, deadline));
  }
  return Status::Ok();
}

void Supervisor::NoteFirstBucket() {
  state_.config.first_bucket_made = true;
  Publish();
}

std::string Supervisor::LastWords(const Child& child) const {
  std::ifstream in(child.log_path);
  in.seekg(child.log_start);
  std::string line, last;
  while (std::getline(in, line)) {
    if (!line.empty()) last = line;
  }
  return last.empty() ? "no output; see " + child.log_path : last;
}

void Supervisor::Publish() {
  state_.daemons.clear();
  for (const auto& c : children_)
    state_.daemons.push_back({c->name, c->pid, c->restarts, c->state});
  auto saved = SaveState(state_);
  if (!saved.ok()) log::Warn("state_not_saved", {{"error", saved}});
  TellServiceManager(ServiceEvent::kStatus, Summary());
}

std::string Supervisor::Summary() const {
  std::string text;
  for (const auto& c : children_) text += (text.empty() ? "" : ", ") + c->name + " " + c->state;
  return text;
}

void Supervisor::Reap() {
  Nanos now = RealClock::Get().Monotonic();
  for (auto& child : children_) {
    int status = 0;
    if (child->pid != 0 && waitpid(child->pid, &status, WNOHANG) == child->pid) {
      std::string how = WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                            : "exit " + std::to_string(WEXITSTATUS(status));
      if (now - child->started > kRestartMost) child->backoff = kRestartLeast;
      child->pid = 0;
      child->restart_at = now + child->backoff;
      child->backoff = std::min(child->backoff * 2, kRestartMost);
      child->state = "down: " + how;
      log::Error("daemon_died",
                 {{"daemon", child->name}, {"how", how}, {"last_words", LastWords(*child)}});
      Publish();
    }
    if (child->pid == 0 && child->restart_at != 0 && now >= child->restart_at) {
      ++child->restarts;
      auto spawned = Spawn(*child);
      if (!spawned.ok()) {
        child->restart_at = now + child->backoff;
        log::Error("daemon_not_started", {{"daemon", child->name}, {"error", spawned}});
      }
      Publish();
    }
    if (child->pid != 0 && child->state == "starting" && Probe(*child).ok()) {
      child->state = "up";
      log::Info("daemon_up", {{"daemon", child->name}, {"pid", child->pid}});
      Publish();
    }
  }
}

int Supervisor::Run() {
  // SIGTERM and SIGINT were blocked by PrepareDaemon; SIGCHLD too, so that a death is noticed at
  // once.
  sigset_t set;
  sigemptyset(&set);
  for (int s : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&set, s);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  PERIGEE_CHECK(fd >= 0);
  int stop = 0;
  while (stop == 0) {
    bool busy = false;
    for (const auto& c : children_) busy |= c->state != "up";
    pollfd p{fd, POLLIN, 0};
    poll(&p, 1, busy ? 50 : 10'000);
    signalfd_siginfo info;
    while (read(fd, &info, sizeof info) == sizeof info) {
      if (info.ssi_signo != SIGCHLD) stop = static_cast<int>(info.ssi_signo);
    }
    if (stop == 0) Reap();
  }
  close(fd);
  return stop;
}

void Supervisor::StopAll() {
  for (auto it = children_.rbegin(); it != children_.rend(); ++it) {
    Child& child = **it;
    if (child.pid == 0) continue;
    kill(child.pid, SIGTERM);
    Nanos deadline = RealClock::Get().Monotonic() + kStopGrace;
    int status = 0;
    while (waitpid(child.pid, &status, WNOHANG) == 0) {
      if (RealClock::Get().Monotonic() > deadline) {
        log::Warn("daemon_killed", {{"daemon", child.name}, {"why", "did not stop in time"}});
        kill(child.pid, SIGKILL);
        waitpid(child.pid, &status, 0);
        break;
      }
      Pause(kProbeEvery);
    }
    child.pid = 0;
    child.restart_at = 0;
    child.state = "stopped";
  }
  state_.pid = 0;
  Publish();
}

}  // namespace perigee::cli
