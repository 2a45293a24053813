// perigee-objectd: drives, namespace and S3 endpoint; with --join the drives of a storage node.
// Parse, build, run.

#include <sys/stat.h>

#include <cstdio>

#include "base/daemon.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "objectd/node_server.h"
#include "objectd/options.h"
#include "objectd/server.h"
#include "rdma/network/ucx_environment.h"

namespace {

int Refuse(const perigee::Status& why) {
  std::fprintf(stderr, "perigee-objectd: %s\n", why.message().c_str());
  return why.Is(perigee::Code::kInvalidArgument) ? 2 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace perigee;
  rdma::StartWithoutUcxHooks(argv);
  PrepareDaemon();
  umask(0077);  // data of every user lies in the files and directories made here
  objectd::ObjectdOptions options;
  auto outcome = objectd::ParseOptions(argc, argv, &options);
  if (!outcome.ok()) {
    std::fprintf(stderr, "perigee-objectd: %s\n", outcome.status().message().c_str());
    return 2;
  }
  if (*outcome == Options::Outcome::kDone) return 0;
  log::Configure("objectd", log::Level::kInfo,
                 options.log_format == "json" ? log::Format::kJson : log::Format::kText);
  StopWithParent();
  Status armed = failpoint::ArmFromEnvironment();
  if (!armed.ok()) return Refuse(armed);
  if (!options.join.empty()) {
    auto node = objectd::NodeServer::Start(options);
    if (!node.ok()) return Refuse(node.status());
    log::Info("stopping", {{"signal", WaitForStop()}});
    (*node)->Stop();
    return 0;
  }
  auto server = objectd::Server::Start(options);
  if (!server.ok()) return Refuse(server.status());
  log::Info("stopping", {{"signal", WaitForStop()}});
  const bool healthy = (*server)->Health().ok();
  (*server)->Stop();
  return healthy ? 0 : 1;
}
