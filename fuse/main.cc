// perigee-fuse: the mount of one GPU node. Parse, connect to the node's bufferd, mount, serve.
// libfuse's loop runs on threads of its own; a stop signal unmounts lazily, which ends the loop.

#include <fuse_lowlevel.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/admin_server.h"
#include "base/daemon.h"
#include "base/event.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/options.h"
#include "base/process_metrics.h"
#include "client/buffer/burst_session.h"
#include "fuse/device.h"
#include "fuse/file_system.h"
#include "rdma/rpc.h"

namespace perigee::fuse {
namespace {

struct Settings {
  std::string mount, run_dir, bufferd, secret_file;
  std::string admin_listen = "127.0.0.1:9021";
  std::string log_format = "text";
  uint64_t threads = 8;
  uint64_t stack_depth = 1;
  uint64_t read_ahead = 8 << 20;
  Nanos entry_timeout = kSecond;
  Nanos attr_timeout = kSecond;
  Nanos wait_fill = 2 * kSecond;
  bool no_passthrough = false;
};

Result<Options::Outcome> Parse(int argc, char** argv, Settings* s) {
  Options o("perigee-fuse", "Mounts Perigee's namespace on this node.");
  o.AddString("mount", &s->mount, "directory to mount on", "DIR");
  o.AddString("run-dir", &s->run_dir, "directory of the node's sockets", "DIR");
  o.AddString("bufferd", &s->bufferd,
              "address of bufferd (default: its socket in the run directory)", "ADDRESS");
  o.AddString("secret-file", &s->secret_file, "the cluster secret", "FILE");
  o.AddCount("threads", &s->threads, 1, 64, "threads that serve the kernel");
  o.AddCount("stack-depth", &s->stack_depth, 1, 2, "2 when the burst store lies on overlayfs");
  o.AddBytes("read-ahead", &s->read_ahead,
             "kernel read-ahead for files that are not in the burst buffer");
  o.AddDuration("entry-timeout", &s->entry_timeout, "how long the kernel may keep names");
  o.AddDuration("attr-timeout", &s->attr_timeout, "how long the kernel may keep attributes");
  o.AddDuration("wait-fill", &s->wait_fill, "how long open(2) waits for a file to become resident");
  o.AddFlag("no-passthrough", &s->no_passthrough,
            "serve all reads and writes through this process");
  o.AddString("admin-listen", &s->admin_listen,
              "address of metrics and health; \"none\" for no such door", "ADDR");
  o.AddString("log-format", &s->log_format, "text or json", "FORMAT");
  o.SetExamples("  perigee-fuse --mount /mnt/perigee --run-dir /var/lib/perigee/run\n");
  PERIGEE_ASSIGN(auto outcome, o.Parse(argc, argv));
  if (outcome == Options::Outcome::kDone) return outcome;
  if (s->mount.empty()) return Status(Code::kInvalidArgument, "--mount: a directory is needed");
  if (s->run_dir.empty()) return Status(Code::kInvalidArgument, "--run-dir: a directory is needed");
  if (s->log_format != "text" && s->log_format != "json") {
    return Status(Code::kInvalidArgument, "--log-format " + s->log_format + ": text or json");
  }
  if (s->admin_listen == "none") s->admin_listen.clear();
  if (s->bufferd.empty()) s->bufferd = "local:" + s->run_dir + "/bufferd.sock";
  return outcome;
}

Status Serve(const Settings& s) {
  rdma::TransportOptions transport_options;
  if (!s.secret_file.empty()) {
    PERIGEE_ASSIGN(transport_options.cluster_secret, LoadSecret(s.secret_file, false));
  }
  auto registry = metrics::Registry::Create();
  metrics::ExposeProcess(registry.get());
  transport_options.metrics = registry.get();
  PERIGEE_ASSIGN(transport_options.pool, rdma::SlabPool::Create({.bytes_max = 64 << 20}));
  PERIGEE_ASSIGN(auto transport, rdma::CreateLocalTransport(transport_options));
  PERIGEE_ASSIGN(std::shared_ptr<rdma::Channel> channel, transport->Connect(s.bufferd));

  auto burst = client::BurstSession::Over(channel);
  FileSystemOptions fs_options;
  fs_options.entry_timeout_s = static_cast<double>(s.entry_timeout) / kSecond;
  fs_options.attr_timeout_s = static_cast<double>(s.attr_timeout) / kSecond;
  fs_options.wait_fill_ms = static_cast<uint32_t>(s.wait_fill / kMillisecond);
  fs_options.read_ahead_kib = static_cast<uint32_t>(s.read_ahead >> 10);
  FileSystem fs(burst.get(), fs_options);

  char name[] = "perigee-fuse";
  char* args_v[] = {name, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, args_v);
  fuse_session* session = fuse_session_new(
      &args, &FileSystem::Operations(), sizeof(fuse_lowlevel_ops), static_cast<SessionData*>(&fs));
  fuse_opt_free_args(&args);
  if (!session) return Status(Code::kInternal, "fuse_session_new failed");

  DeviceOptions device_options;
  device_options.mount_point = s.mount;
  device_options.allow_passthrough = !s.no_passthrough;
  device_options.stack_depth = static_cast<uint32_t>(s.stack_depth);
  PERIGEE_ASSIGN(auto device, Device::Mount(session, &fs, device_options));

  std::unique_ptr<AdminServer> admin;
  if (!s.admin_listen.empty()) {
    fs.ExposeMetrics(registry.get());
    // Well as long as it answers: a mount that ends takes this process along.
    PERIGEE_ASSIGN(admin, AdminServer::Start(s.admin_listen, registry.get(), nullptr));
  }
  auto router = std::make_shared<rdma::Router>();
  router->Add<wire::Empty>(wire::Method::kControlFuseStatus, rdma::Access::kNodesOnly, nullptr,
                           [&](rdma::Context&, wire::Empty) -> Result<wire::FuseStatusReply> {
                             auto reply = fs.Describe();
                             reply.mount = s.mount;
                             if (admin) reply.admin_address = admin->address();
                             return reply;
                           });
  PERIGEE_ASSIGN(auto listener, transport->Listen("local:" + s.run_dir + "/fuse.sock", router));

  Event loop_ended;
  std::thread loop([&] {
    fuse_loop_config* config = fuse_loop_cfg_create();
    fuse_loop_cfg_set_clone_fd(config, 1);
    fuse_loop_cfg_set_max_threads(config, static_cast<unsigned>(s.threads));
    fuse_loop_cfg_set_idle_threads(config, static_cast<unsigned>(s.threads));
    int err = fuse_session_loop_mt(session, config);
    fuse_loop_cfg_destroy(config);
    if (err < 0) log::Error("fuse_loop_failed", {{"errno", -err}});
    loop_ended.Set();
    kill(getpid(),
         SIGTERM);  // also when someone else unmounted: the process has nothing left to do
  });
  device->SetReadAhead(fs_options.read_ahead_kib);
  log::Info("mounted", {{"mount", s.mount}, {"mode", device->why()}});

  int signal = WaitForStop();
  log::Info("stopping", {{"signal", signal}});
  fuse_session_exit(session);
  device->Unmount();
  listener->Stop();
  if (admin) admin->Stop();
  if (!loop_ended.WaitFor(3 * kSecond)) {
    // Files are still open on the detached mount: closing the device, which exiting does, fails
    // them with ENOTCONN.
    log::Warn("files_still_open", {{"mount", s.mount}});
    std::_Exit(0);
  }
  loop.join();
  fs.Stop();
  channel->Close();
  fuse_session_destroy(session);
  return Status::Ok();
}

}  // namespace
}  // namespace perigee::fuse

int main(int argc, char** argv) {
  using namespace perigee;
  PrepareDaemon();
  fuse::Settings settings;
  auto outcome = fuse::Parse(argc, argv, &settings);
  if (!outcome.ok()) {
    std::fprintf(stderr, "perigee-fuse: %s\n", outcome.status().message().c_str());
    return 2;
  }
  if (*outcome == Options::Outcome::kDone) return 0;
  log::Configure("fuse", log::Level::kInfo,
                 settings.log_format == "json" ? log::Format::kJson : log::Format::kText);
  StopWithParent();
  Status armed = failpoint::ArmFromEnvironment();
  Status served = armed.ok() ? fuse::Serve(settings) : armed;
  if (!served.ok()) {
    std::fprintf(stderr, "perigee-fuse: %s\n", served.message().c_str());
    return 1;
  }
  return 0;
}
