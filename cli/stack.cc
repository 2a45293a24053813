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

rdma::NetworkOptions StackConfig::bufferd_network() const {
  rdma::NetworkOptions own = network;
  own.listen = bufferd_listen;
  return own;
}

static json ToJson(const rdma::NetworkOptions& n) {
  return {{"transport", n.transport},
          {"listen", n.listen},
          {"advertise", n.advertise},
          {"ca_file", n.ca_file},
          {"cert_file", n.cert_file},
          {"key_file", n.key_file},
          {"fabric_interfaces", n.fabric_interfaces},
          {"fabric_trusted", n.fabric_trusted},
          {"poll", n.poll}};
}

static rdma::NetworkOptions NetworkFrom(const json& j) {
  rdma::NetworkOptions n;
  n.transport = j.at("transport");
  n.listen = j.at("listen");
  n.advertise = j.at("advertise");
  n.ca_file = j.at("ca_file");
  n.cert_file = j.at("cert_file");
  n.key_file = j.at("key_file");
  n.fabric_interfaces = j.at("fabric_interfaces");
  n.fabric_trusted = j.at("fabric_trusted");
  n.poll = j.at("poll");
  return n;
}

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
          {"objectd_address", s.config.objectd},
          {"join", s.config.join},
          {"node_name", s.config.node_name},
          {"repair_after", s.config.repair_after},
          {"secret_file", s.config.secret_file},
          {"network", ToJson(s.config.network)},
          {"bufferd_listen", s.config.bufferd_listen},
          {"address", s.address},
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
  PERIGEE_TRY(check("--objectd", c.objectd));
  PERIGEE_TRY(check("--join", c.join));
  PERIGEE_TRY(check("--node-name", c.node_name));
  PERIGEE_TRY(check("--repair-after", c.repair_after));
  PERIGEE_TRY(check("--secret-file", c.secret_file));
  PERIGEE_TRY(check("--listen", c.network.listen));
  PERIGEE_TRY(check("--bufferd-listen", c.bufferd_listen));
  PERIGEE_TRY(check("--advertise", c.network.advertise));
  PERIGEE_TRY(check("--ca-file", c.network.ca_file));
  PERIGEE_TRY(check("--cert-file", c.network.cert_file));
  PERIGEE_TRY(check("--key-file", c.network.key_file));
  for (const auto& name : c.network.fabric_interfaces)
    PERIGEE_TRY(check("--fabric-interface", name));
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
    s.config.objectd = j.value("objectd_address", "");
    s.config.join = j.value("join", "");
    s.config.node_name = j.value("node_name", "");
    s.config.repair_after = j.value("repair_after", "");
    s.config.secret_file = j.value("secret_file", "");
    if (j.contains("network")) s.config.network = NetworkFrom(j.at("network"));
    s.config.bufferd_listen = j.value("bufferd_listen", "");
    s.address = j.value("address", "");
    Rebase(was, data, &s.config.mount);
    Rebase(was, data, &s.config.mount_withheld);
    Rebase(was, data, &s.config.burst);
    rdma::NetworkOptions& network = s.config.network;
    for (auto* file :
         {&s.config.secret_file, &network.ca_file, &network.cert_file, &network.key_file})
      Rebase(was, data, file);
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

Result<std::unique_ptr<Connections>> Connections::Open(const StackConfig& config) {
  auto c = std::make_unique<Connections>();
  c->registry_ = metrics::Registry::Create();
  rdma::TransportOptions options;
  options.metrics = c->registry_.get();
  PERIGEE_ASSIGN(options.pool, rdma::SlabPool::Create({.bytes_max = 64 << 20}));
  PERIGEE_ASSIGN(c->transport_, rdma::CreateLocalTransport(options));
  std::string run = "local:" + config.run_dir() + "/";
  PERIGEE_ASSIGN(c->bufferd_, c->transport_->Connect(run + "bufferd.sock"));
  if (config.has_objectd()) {
    PERIGEE_ASSIGN(c->objectd_, c->transport_->Connect(run + "objectd.sock"));
  } else {
    c->objectd_ = c->bufferd_;
  }
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
