#include "objectd/meta/absent_writers.h"

#include "base/bytes.h"
#include "base/log.h"

namespace perigee::objectd {

void AbsentWriters::Heard(wire::NodeId node) {
  std::lock_guard lock(mu_);
  heard_[node] = clock_.Monotonic();
}

Nanos AbsentWriters::SilentFor(wire::NodeId node) const {
  std::lock_guard lock(mu_);
  auto it = heard_.find(node);
  return clock_.Monotonic() - (it == heard_.end() ? started_ : it->second);
}

Result<wire::RecordReply> AbsentWriters::Reclaim(wire::FileId id) {
  PERIGEE_ASSIGN(wire::RecordReply now, ns_.GetAttr({.id = id}));
  if (!now.record.writer) return now;
  const wire::WriterInfo writer = *now.record.writer;
  Result<bool> writes = ask_(writer.node, {.id = id, .burst = writer.burst});
  const bool gone = writes.ok() ? !*writes : SilentFor(writer.node) >= kSilence;
  if (!gone)
    return Status(Code::kBusy, "node " + HexEncode64(writer.node) + " is writing this file");
  log::Warn("writer_gone", {{"file", HexEncode64(id)},
                            {"node", HexEncode64(writer.node)},
                            {"why", writes.ok() ? "it knows nothing of it" : "it is not heard"}});
  return ns_.TakeFromWriter(id, writer);
}

}  // namespace perigee::objectd
