#include "cli/commands.h"

#include "cli/output.h"

namespace perigee::cli {

const std::vector<Command>& Commands() {
  static const std::vector<Command> commands = {
      {"up", "start the daemons of one machine and mount the namespace", RunUp},
      {"down", "stop them and unmount", RunDown},
      {"status", "daemons, drives, burst buffer, bytes at risk", RunStatus},
      {"stat", "where an object is and how safe", RunStat},
      {"ls", "list buckets, directories and objects", RunLs},
      {"cp", "copy a file in or out, through the burst buffer", RunCp},
      {"flush", "copy to the object tier what is only in the burst buffer", RunFlush},
      {"evict", "drop local copies that the object tier has", RunEvict},
      {"warm", "bring objects into the burst buffer", RunWarm},
      {"pin", "keep objects in the burst buffer", RunPin},
      {"drive", "list drives, replace a lost one", RunDrive},
      {"node", "list storage nodes, drain, remove or repair one", RunNode},
      {"scrub", "read everything back, check it, mend what is bad", RunScrub},
      {"fsck", "hold namespace, drives and burst buffer against each other", RunFsck},
      {"bench", "measure mount, checkpoint and transport against this machine's limits", RunBench},
      {"ca", "make the cluster's authority, issue and renew certificates of nodes", RunCa},
  };
  return commands;
}

Verb::Verb(const std::string& verb, const std::string& summary)
    : name(verb), options("perigee " + verb, summary) {
  options.AddString("data", &data_flag, "directory of the stack (or PERIGEE_DATA)", "DIR");
  options.AddFlag("json", &json, "print one JSON value");
}

int Verb::Fail(const Status& status) const { return Complain(name, status); }

bool Verb::Start(int argc, char** argv) {
  auto parsed = options.Parse(argc, argv);
  if (!parsed.ok()) {
    exit_code = Fail(parsed.status());
    return false;
  }
  if (*parsed == Options::Outcome::kDone) return false;
  auto data = ResolveData(data_flag);
  if (!data.ok()) {
    exit_code = Fail(data.status());
    return false;
  }
  auto loaded = LoadState(*data);
  if (!loaded.ok()) {
    exit_code = Fail(loaded.status());
    return false;
  }
  state = std::move(*loaded);
  if (state.config.drives_only() && !for_storage_nodes) {
    exit_code = Fail(Status(Code::kUnavailable,
                            "this machine has drives only: run it where the "
                            "namespace is, " +
                                state.config.join));
    return false;
  }
  auto opened = Connections::Open(state.config);
  if (!opened.ok()) {
    exit_code = Fail(opened.status());
    return false;
  }
  connections = std::move(*opened);
  return true;
}

}  // namespace perigee::cli
