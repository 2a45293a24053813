// cutfs MOUNT [KEPT...]: a CutFs, driven by lines on stdin, for tests/cutfs.py. It ends with
// its stdin.
//   off                          the power goes off
//   on SEED                      and on again
//   arm COUNT before|after PART  off at that sync; "! WHY" is printed when it comes
//   syncs                        so many so far
//   space TOTAL FREE             what statfs says of it while it is empty, in bytes
//   fault PATH DELAY_MS READ WRITE SYNC   errors by number, 0: none
// Each is answered with a line: "ok", "ok VALUE" or "failed: WHY".

#include <cstdlib>
#include <iostream>
#include <mutex>
#include <set>
#include <sstream>
#include <string>

#include "tests/powercut/cutfs.h"

namespace perigee::powercut {
namespace {

std::string Answer(CutFs& fs, const std::string& line) {
  std::istringstream in(line);
  std::string verb;
  in >> verb;
  if (verb == "off") {
    fs.PowerOff();
    return "ok";
  }
  if (verb == "on") {
    uint64_t seed = 0;
    in >> seed;
    Status s = fs.PowerOn(seed);
    return s.ok() ? "ok" : "failed: " + s.ToString();
  }
  if (verb == "arm") {
    uint64_t count = 0;
    std::string when, part;
    in >> count >> when >> part;
    fs.Arm(count, when == "after" ? CutFs::When::kAfter : CutFs::When::kBefore, part);
    return "ok";
  }
  if (verb == "syncs") return "ok " + std::to_string(fs.syncs());
  if (verb == "space") {
    uint64_t total = 0, free = 0;
    in >> total >> free;
    fs.SetSpace(total, free);
    return "ok";
  }
  if (verb == "fault") {
    std::string path;
    Fault fault;
    in >> path >> fault.delay_ms >> fault.read_error >> fault.write_error >> fault.sync_error;
    fs.SetFault(path, fault);
    return "ok";
  }
  return "failed: no such command: " + line;
}

int Main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: cutfs MOUNT [KEPT...]\n";
    return 2;
  }
  std::mutex out;
  auto say = [&](const std::string& line) {
    std::lock_guard lock(out);
    std::cout << line << std::endl;
  };
  CutFs fs(argv[1], {argv + 2, argv + argc}, [&](const std::string& why) { say("! " + why); });
  for (std::string line; std::getline(std::cin, line);) say(Answer(fs, line));
  fs.Unmount();
  // libfuse 3.14 leaks what the kernel interrupted, which is what every killed process waits for.
  std::_Exit(0);
}

}  // namespace
}  // namespace perigee::powercut

int main(int argc, char** argv) { return perigee::powercut::Main(argc, argv); }
