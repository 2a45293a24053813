// perigee-bufferd: the burst buffer of one GPU node. Parse, build, run.

#include <sys/stat.h>

#include <cstdio>

#include "base/daemon.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "bufferd/options.h"
#include "bufferd/server.h"
#include "rdma/network/ucx_environment.h"

int main(int argc, char** argv) {
  using namespace perigee;
  rdma::StartWithoutUcxHooks(argv);
  PrepareDaemon();
  umask(0077);  // data of every user lies in the files and directories made here
  bufferd::BufferdOptions options;
  auto outcome = bufferd::ParseOptions(argc, argv, &options);
  if (!outcome.ok()) {
    std::fprintf(stderr, "perigee-bufferd: %s\n", outcome.status().message().c_str());
    return 2;
  }
  if (*outcome == Options::Outcome::kDone) return 0;
  log::Configure("bufferd", log::Level::kInfo,
                 options.log_format == "json" ? log::Format::kJson : log::Format::kText);
  StopWithParent();
  if (Status armed = failpoint::ArmFromEnvironment(); !armed.ok()) {
    std::fprintf(stderr, "perigee-bufferd: %s\n", armed.message().c_str());
    return 1;
  }
  auto server = bufferd::Server::Start(options);
  if (!server.ok()) {
    std::fprintf(stderr, "perigee-bufferd: %s\n", server.status().message().c_str());
    return server.code() == Code::kInvalidArgument ? 2 : 1;
  }
  log::Info("stopping", {{"signal", WaitForStop()}});
  (*server)->Stop();
  return 0;
}
