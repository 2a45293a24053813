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

bool IsSafe(const wire::Version& version) {
  return version.layout.kind != wire::LayoutKind::kBurst ||
         version.durability >= wire::Durability::kLocal;
}

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

Status Tree::MoveVersion(wire::FileId from, wire::Version* version, wire::FileId to,
                         uint64_t generation) {
  const wire::Layout& layout = version->layout;
  if (layout.kind == wire::LayoutKind::kInline) {
    PERIGEE_ASSIGN(auto bytes,
                   txn_.Get(keys::Inline(from, version->generation), kv::ReadMode::kConflict));
    if (!bytes) return Status(Code::kCorrupt, "no inline content of file " + std::to_string(from));
    txn_.Put(keys::Inline(to, generation), *bytes);
  } else if (layout.kind == wire::LayoutKind::kBlobs) {
    PERIGEE_TRY(AcquireContent(txn_, {to, generation}, layout.extents, layout.list_id, {}));
  }
  PERIGEE_TRY(ReleaseVersion(from, *version));
  version->generation = generation;
  return Status::Ok();
}

Status Tree::KeepReplaced(Node* target, wire::Record* moved, bool careful) {
  wire::Record& r = target->record;
  const bool at_risk = moved->committed ? !IsSafe(*moved->committed) : moved->writer.has_value();
  if (r.kind != wire::FileKind::kFile || r.nlink > 1 || !at_risk ||
      (moved->previous && IsSafe(*moved->previous)))
    return Status::Ok();
  // Of saves that follow each other the last that is durable serves.
  std::optional<wire::Version>& durable =
      r.committed && IsSafe(*r.committed) ? r.committed : r.previous;
  if (!durable || !IsSafe(*durable)) return Status::Ok();
  // A burst file goes with its file.
  if (durable->layout.kind == wire::LayoutKind::kBurst) {
    return careful ? Status(Code::kPreconditionFailed,
                            "what it replaces is durable, and what is moved is not yet")
                   : Status::Ok();
  }
  const wire::Record before = *moved;
  if (moved->previous) PERIGEE_TRY(ReleaseVersion(moved->id, *moved->previous));
  PERIGEE_TRY(MoveVersion(r.id, &*durable, moved->id, wire::kOfReplaced | r.id));
  moved->previous = std::exchange(durable, std::nullopt);
  return EmitReleased(before, moved);
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
