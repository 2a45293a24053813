#include "cli/stack.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/disk.h"
#include "base/utf8.h"

namespace perigee::cli {

using nlohmann::json;

static json ToJson(const StackState& s) {
  json daemons = json::array();
  for (const auto& d : s.daemons) {
    daemons.push_back(
        {{"name", d.name}, {"pid", d.pid}, {"restarts", d.restarts}, {"state", d.state}});
  }
  return {{"data", s.config.data},
          {"pid", s.pid},
          {"endpoint", s.endpoint},
          {"credentials", s.config.credentials_path()},
          {"mount", s.config.mount},
          {"mount_withheld", s.config.mount_withheld},
          {"burst", s.config.burst},
          {"drives", s.config.drives},
          {"profile", s.config.profile},
          {"s3_listen", s.config.s3_listen},
          {"admin_listen", s.config.admin_listen},
          {"bufferd_admin_listen", s.config.bufferd_admin_listen},
          {"fuse_admin_listen", s.config.fuse_admin_listen},
          {"burst_budget", s.config.burst_budget},
          {"first_bucket_made", s.config.first_bucket_made},
          {"extra", s.config.extra},
          {"daemons", daemons}};
}

std::string StateJson(const StackState& state) {
  return ToJson(state).dump(2, ' ', false, json::error_handler_t::replace);
}

Status CheckConfig(const StackConfig& c) {
  auto check = [](const std::string& what, const std::string& text) {
    if (IsUtf8(text)) return Status::Ok();
    // One line, whatever the bytes are.
    return Status(Code::kInvalidArgument,
                  what + " " + json(text).dump(-1, ' ', true, json::error_handler_t::replace) +
                      ": not UTF-8, and stack.json could not hold it");
  };
  PERIGEE_TRY(check("--data", c.data));
  PERIGEE_TRY(check("--burst", c.burst));
  PERIGEE_TRY(check("--mount", c.mount));
  PERIGEE_TRY(check("--mount", c.mount_withheld));
  PERIGEE_TRY(check("--profile", c.profile));
  for (const auto& drive : c.drives) PERIGEE_TRY(check("--drive", drive));
  for (const auto& option : c.extra) PERIGEE_TRY(check("--daemon-option", option));
  return Status::Ok();
}

Status SaveState(const StackState& state) {
  PERIGEE_TRY(CheckConfig(state.config));
  auto disk = CreatePosixDisk();
  return WriteFileAtomically(*disk, state.config.state_path(), StateJson(state) + "\n");
}

// A data directory may be moved: what lies in it goes with it.
static void Rebase(const std::string& from, const std::string& to, std::string* path) {
  if (path->starts_with(from + "/")) *path = to + path->substr(from.size());
}

Result<StackState> LoadState(const std::string& data) {
  auto disk = CreatePosixDisk();
  auto text = ReadWholeFile(*disk, data + "/stack.json", 1 << 20);
  if (!text.ok()) {
    if (text.code() == Code::kNotFound)
      return Status(Code::kNotFound, data + ": no stack here (perigee up --data makes one)");
    return std::move(text).TakeStatus();
  }
  StackState s;
  try {
    json j = json::parse(*text);
    s.config.data = data;
    const std::string was = j.at("data");
    s.pid = j.at("pid");
    s.endpoint = j.at("endpoint");
    s.config.mount = j.at("mount");
    s.config.mount_withheld = j.value("mount_withheld", "");
    s.config.burst = j.at("burst");
    s.config.drives = j.at("drives");
    s.config.profile = j.at("profile");
    s.config.s3_listen = j.at("s3_listen");
    s.config.admin_listen = j.at("admin_listen");
    s.config.bufferd_admin_listen = j.at("bufferd_admin_listen");
    s.config.fuse_admin_listen = j.value("fuse_admin_listen", "");
    s.config.burst_budget = j.at("burst_budget");
    s.config.first_bucket_made = j.value("first_bucket_made", true);
    s.config.extra = j.at("extra");
    Rebase(was, data, &s.config.mount);
    Rebase(was, data, &s.config.mount_withheld);
    Rebase(was, data, &s.config.burst);
    for (std::string& drive : s.config.drives) Rebase(was, data, &drive);
    for (const auto& d : j.at("daemons")) {
      s.daemons.push_back({d.at("name"), d.at("pid"), d.at("restarts"), d.at("state")});
    }
  } catch (const json::exception& e) {
    return Status(Code::kCorrupt, data + "/stack.json: " + e.what());
  }
  return s;
}

Result<std::string> ResolveData(const std::string& flag) {
  std::string dir = flag;
  if (dir.empty()) {
    const char* env = std::getenv("PERIGEE_DATA");
    if (env) dir = env;
  }
  if (dir.empty())
    return Status(Code::kInvalidArgument, "which stack? give --data DIR or set PERIGEE_DATA");
  return std::filesystem::absolute(dir).lexically_normal().string();
}

std::optional<int> RunningSupervisor(const std::string& data) {
  int fd = open((data + "/lock").c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::optional<int> pid;
  if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    char text[32] = {};
    pid = pread(fd, text, sizeof text - 1, 0) > 0 ? std::atoi(text) : 0;
  }
  close(fd);
  return pid;
}

Result<std::unique_ptr<Connections>> Connections::Open(const std::string& data) {
  auto c = std::make_unique<Connections>();
  c->registry_ = metrics::Registry::Create();
  rdma::TransportOptions options;
  options.metrics = c->registry_.get();
  PERIGEE_ASSIGN(options.pool, rdma::SlabPool::Create({.bytes_max = 64 << 20}));
  PERIGEE_ASSIGN(c->transport_, rdma::CreateLocalTransport(options));
  std::string run = "local:" + data + "/run/";
  PERIGEE_ASSIGN(c->objectd_, c->transport_->Connect(run + "objectd.sock"));
  PERIGEE_ASSIGN(c->bufferd_, c->transport_->Connect(run + "bufferd.sock"));
  PERIGEE_ASSIGN(c->fuse_, c->transport_->Connect(run + "fuse.sock"));
  return c;
}

Connections::~Connections() {
  for (auto& channel : {objectd_, bufferd_, fuse_}) {
    if (channel) channel->Close();
  }
}

std::string ObjectPath(const StackState& state, const std::string& argument) {
  static const std::string kScheme = "perigee://";
  if (argument.starts_with(kScheme)) return argument.substr(kScheme.size());
  if (argument.starts_with("/")) {
    std::string path = std::filesystem::path(argument).lexically_normal().string();
    const std::string& mount = state.config.mount;
    if (!mount.empty() && path.starts_with(mount + "/")) return path.substr(mount.size() + 1);
    if (path == mount) return "";
    return path.substr(1);
  }
  return argument;
}

}  // namespace perigee::cli
