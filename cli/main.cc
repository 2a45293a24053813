// perigee: the command. Finds the verb and runs it.

#include <signal.h>

#include <cstring>
#include <iostream>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/output.h"

static int Usage(std::ostream& out, int code) {
  out << "usage: perigee VERB [OPTIONS]\n\nverbs:\n";
  for (const auto& c : perigee::cli::Commands()) {
    out << "  " << c.name << std::string(8 - std::strlen(c.name), ' ') << c.summary << '\n';
  }
  out << "\nperigee VERB --help explains one. A stack is found by --data DIR or PERIGEE_DATA.\n";
  return code;
}

int main(int argc, char** argv) {
  using namespace perigee::cli;
  signal(SIGPIPE, SIG_IGN);
  perigee::log::Configure("cli", perigee::log::Level::kWarn, perigee::log::Format::kText);
  if (argc < 2) return Usage(std::cerr, kExitUsage);
  std::string verb = argv[1];
  if (verb == "--help" || verb == "-h" || verb == "help") return Usage(std::cout, kExitDone);
  if (verb == "--version") {
    std::cout << "perigee " << PERIGEE_VERSION << '\n';
    return kExitDone;
  }
  for (const auto& c : Commands()) {
    if (verb == c.name) return c.run(argc - 1, argv + 1);
  }
  std::cerr << "perigee: no verb '" << verb << "' (perigee --help lists them)\n";
  return kExitUsage;
}
