#pragma once
// AbsentWriters: takes a file from a writer that is gone, for another node that wants to write it.
//
// A file has one writer, and its node ends the write. A node that lost its power may have forgotten
// it, and one that is lost never ends it. So when another node is refused for the writer, that
// one's buffer is asked: what it knows nothing of is ended. One that cannot be reached keeps its
// files until it has not called for kSilence; should it come back with content, that becomes a file
// beside (bufferd/publish_takeover.cc). Thread-safe; Reclaim blocks.

#include <functional>
#include <map>
#include <mutex>

#include "base/clock.h"
#include "objectd/meta/namespace.h"

namespace perigee::objectd {

class AbsentWriters {
 public:
  static constexpr Nanos kSilence = 30 * kSecond;  // three of the calls that a node makes when idle

  // kBurstWrites at that node; an error: not reached.
  using Ask = std::function<Result<bool>(wire::NodeId, const wire::WriterOf&)>;
  AbsentWriters(Namespace& ns, Clock& clock, Ask ask)
      : ns_(ns), clock_(clock), ask_(std::move(ask)), started_(clock.Monotonic()) {}

  void Heard(wire::NodeId node);  // it calls
  // The record, without a writer. kBusy: it has one that may be there.
  Result<wire::RecordReply> Reclaim(wire::FileId id);

 private:
  Nanos SilentFor(wire::NodeId node) const;

  Namespace& ns_;
  Clock& clock_;
  const Ask ask_;
  const Nanos started_;
  mutable std::mutex mu_;
  std::map<wire::NodeId, Nanos> heard_;  // guarded by mu_
};

}  // namespace perigee::objectd
