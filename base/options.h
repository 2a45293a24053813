#pragma once
// Options of a daemon or command: flag > environment PERIGEE_* > configuration file, by
// Boost.Program_options.
//
//   Options o("perigee-bufferd", "Keeps burst files on this node's NVMe.");
//   o.AddBytes("budget", &budget, "bytes of burst files to keep", "SIZE");
//   PERIGEE_ASSIGN(auto outcome, o.Parse(argc, argv));
// The target's value at Add time is the default, shown by --help. `--memory-limit` is
// PERIGEE_MEMORY_LIMIT in the environment and `memory-limit = 512M` in /etc/perigee/<program>.conf
// (--config FILE names another). An error names the option, the value given and what is allowed
// (kInvalidArgument; the caller prints it as one line and exits 2). A program named "perigee ls" is
// a verb: it reads perigee.conf and passes over what other verbs' options are. Thread rule: used by
// main before threads start.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace perigee {

class Options {
 public:
  enum class Outcome { kRun, kDone };  // kDone: --help or --version was printed

  Options(std::string program, std::string summary);
  ~Options();

  void AddString(const std::string& name, std::string* target, const std::string& help,
                 const std::string& value_name = "TEXT");
  // May be given several times, in the environment separated by commas; "disk{1...3}" expands to
  // disk1 disk2 disk3.
  void AddStrings(const std::string& name, std::vector<std::string>* target,
                  const std::string& help, const std::string& value_name = "TEXT");
  void AddBytes(const std::string& name, uint64_t* target,
                const std::string& help);  // 4096, 64K, 512M, 10G, 1T (powers of 1024)
  void AddCount(const std::string& name, uint64_t* target, uint64_t least, uint64_t most,
                const std::string& help);
  void AddDuration(const std::string& name, Nanos* target,
                   const std::string& help);  // 500ms, 2s, 10m, 1h
  // true or false in the environment and the file. One that is true by default is turned off by
  // --no-NAME.
  void AddFlag(const std::string& name, bool* target, const std::string& help);
  // Positional arguments; without this they are an error. `most` 0: any number.
  void AddPositional(std::vector<std::string>* target, const std::string& value_name, size_t least,
                     size_t most);
  void SetExamples(std::string examples);  // shown at the end of --help

  Result<Outcome> Parse(int argc, const char* const* argv);
  std::string Help() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Result<uint64_t> ParseBytes(std::string_view text);
Result<Nanos> ParseDuration(std::string_view text);
Result<std::vector<std::string>> ExpandBraces(const std::string& pattern);  // "d{1...6}"
std::string FormatBytes(uint64_t bytes);                                    // "1.5 GiB"

struct HostPort {
  std::string host;
  uint16_t port = 0;
};
Result<HostPort> ParseHostPort(std::string_view text);  // "127.0.0.1:9000", "[::1]:0"

}  // namespace perigee
