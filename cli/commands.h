#pragma once
// The verbs. Each parses its own arguments (argv[0] is the verb), prints, and returns the exit
// code: 0 done, 1 failed, 2 wrong usage. --json prints one JSON value on stdout.

#include <string>
#include <vector>

#include "base/options.h"
#include "cli/stack.h"

namespace perigee::cli {

struct Command {
  const char* name;
  const char* summary;
  int (*run)(int argc, char** argv);
};
const std::vector<Command>& Commands();

int RunUp(int argc, char** argv);
int RunDown(int argc, char** argv);
int RunStatus(int argc, char** argv);
int RunStat(int argc, char** argv);
int RunLs(int argc, char** argv);
int RunCp(int argc, char** argv);
int RunFlush(int argc, char** argv);
int RunEvict(int argc, char** argv);
int RunWarm(int argc, char** argv);
int RunPin(int argc, char** argv);
int RunDrive(int argc, char** argv);
int RunNode(int argc, char** argv);
int RunFsck(int argc, char** argv);
int RunScrub(int argc, char** argv);
int RunBench(int argc, char** argv);
int RunCa(int argc, char** argv);

// What every verb that talks to a stack shares: --data and --json, then the open connections.
struct Verb {
  explicit Verb(const std::string& name, const std::string& summary);
  // False: stop with `exit_code` (help was printed, or a complaint).
  bool Start(int argc, char** argv);
  int Fail(const Status& status) const;

  std::string name;
  bool for_storage_nodes = false;  // it works on a machine that has drives only, too
  Options options;
  std::string data_flag;
  bool json = false;
  int exit_code = 0;
  StackState state;
  std::unique_ptr<Connections> connections;
};

}  // namespace perigee::cli
