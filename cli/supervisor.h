#pragma once
// Supervisor: runs objectd, bufferd and the mount as children, in that order (on a storage node
// objectd alone), restarts one that dies, and stops them in the reverse order. Single-threaded;
// driven by Step.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "cli/stack.h"

namespace perigee::cli {

class Supervisor {
 public:
  // `binaries`: directory of the daemons' programs.
  Supervisor(StackConfig config, std::string binaries);
  ~Supervisor();

  // Starts the children and returns when every door answers, or the first failure with the child's
  // last words.
  Status StartAll(Nanos timeout);
  void NoteFirstBucket();  // the next start does not make it again
  // Reaps and restarts, until a stop signal. Returns the signal.
  int Run();
  void StopAll();
  const StackState& state() const { return state_; }
  std::string Summary() const;  // "objectd up, bufferd down: signal 9", for people

 private:
  struct Child;
  Status Spawn(Child& child);
  Status WaitReady(Child& child, Nanos deadline);
  Status Probe(Child& child);
  void Reap();
  std::vector<std::string> Arguments(const std::string& name) const;
  std::string LastWords(const Child& child) const;
  void Publish();

  StackState state_;
  std::string binaries_;
  std::vector<std::unique_ptr<Child>> children_;
  std::unique_ptr<Connections> connections_;
};

}  // namespace perigee::cli
