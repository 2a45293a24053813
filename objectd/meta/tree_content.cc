#include <set>
#include <utility>

#include "base/bytes.h"
#include "objectd/meta/tree.h"
#include "objectd/volume/reference.h"

namespace perigee::objectd {
namespace {

using Bursts = std::set<std::pair<wire::NodeId, wire::BurstId>>;

void Collect(const std::optional<wire::Version>& version, Bursts* bursts) {
  if (version && version->layout.kind == wire::LayoutKind::kBurst) {
    bursts->emplace(version->layout.node, version->layout.burst);
  }
}

Bursts BurstsOf(const wire::Record& record) {
  Bursts bursts;
  Collect(record.committed, &bursts);
  Collect(record.previous, &bursts);
  if (record.writer) bursts.emplace(record.writer->node, record.writer->burst);
  return bursts;
}

}  // namespace

std::string MountEtag(wire::FileId id, uint64_t generation) {
  return HexEncode64(id) + HexEncode64(generation) + "-1";
}

Status Tree::ReleaseVersion(wire::FileId id, const wire::Version& version) {
  switch (version.layout.kind) {
    case wire::LayoutKind::kInline:
      txn_.Delete(keys::Inline(id, version.generation));
      return Status::Ok();
    case wire::LayoutKind::kBlobs:
      return ReleaseContent(txn_, {id, version.generation}, version.layout.extents,
                            version.layout.list_id, now_);
    case wire::LayoutKind::kNone:
    case wire::LayoutKind::kBurst:  // EmitReleased tells the node
    case wire::LayoutKind::kCold:
      return Status::Ok();
  }
  return Status(Code::kUnimplemented, "content of a kind written by a newer version of Perigee");
}

Status Tree::EmitReleased(const wire::Record& before, const wire::Record* after) {
  Bursts kept = after ? BurstsOf(*after) : Bursts();
  for (const auto& [node, burst] : BurstsOf(before)) {
    if (kept.contains({node, burst})) continue;
    wire::Change change{
        .kind = wire::ChangeKind::kReleasedBurst, .id = before.id, .node = node, .burst = burst};
    txn_.Emit(EncodeChange(change));
  }
  return Status::Ok();
}

Status Tree::ReleaseAll(const wire::Record& record) {
  if (record.committed) PERIGEE_TRY(ReleaseVersion(record.id, *record.committed));
  if (record.previous) PERIGEE_TRY(ReleaseVersion(record.id, *record.previous));
  return EmitReleased(record, nullptr);
}

}  // namespace perigee::objectd
