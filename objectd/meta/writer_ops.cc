// Writers and the moves of content between tiers. A move commits only if file, burst file and
// generation still match.

#include <algorithm>

#include "base/failpoint.h"
#include "objectd/meta/access.h"
#include "objectd/meta/names.h"
#include "objectd/meta/namespace_impl.h"
#include "objectd/volume/reference.h"

namespace perigee::objectd {
namespace {

using wire::Durability;
using wire::LayoutKind;

Status Replaced(wire::FileId id) {
  return Status(Code::kStale,
                "the content of file " + std::to_string(id) + " was replaced meanwhile");
}

Result<Node> OpenFile(Tree& tree, wire::FileId id) {
  PERIGEE_ASSIGN(Node node, tree.ById(id, kv::ReadMode::kConflict));
  if (node.is_directory())
    return Status(Code::kIsDirectory, "id " + std::to_string(id) + " is a directory");
  if (node.record.kind != wire::FileKind::kFile) {
    return Status(Code::kInvalidArgument, "id " + std::to_string(id) + " is not a regular file");
  }
  return node;
}

bool IsOnBurst(const wire::Version& v, wire::NodeId node, wire::BurstId burst) {
  return v.layout.kind == LayoutKind::kBurst && v.layout.node == node && v.layout.burst == burst;
}

bool IsWriter(const wire::Record& r, wire::NodeId node, wire::BurstId burst) {
  return r.writer && r.writer->node == node && r.writer->burst == burst;
}

// The previous version is committed again, in place of `lost`.
Status Restore(Tree& tree, wire::Record* r, uint64_t lost) {
  const wire::Record before = *r;
  wire::Version kept = *std::exchange(r->previous, std::nullopt);
  if (kept.generation & wire::kOfReplaced)
    PERIGEE_TRY(tree.MoveVersion(r->id, &kept, r->id, lost + 1));
  r->committed = std::move(kept);
  r->generation_floor = lost;
  r->mtime = r->committed->mtime;
  r->ctime = tree.now();
  return tree.EmitReleased(before, r);
}

Status EndWriter(Tree& tree, Node* node, wire::NodeId writer, wire::BurstId burst) {
  wire::Record& r = node->record;
  if (!IsWriter(r, writer, burst)) return Status::Ok();
  const uint64_t given = std::exchange(r.writer, std::nullopt)->generation;
  if (r.committed || !r.previous) return tree.Update(*node, Tree::Delegated::kKeep);
  PERIGEE_TRY(Restore(tree, &r, std::max(given, r.generation_floor)));
  return tree.Update(*node);
}

Status DropPrevious(Tree& tree, wire::Record* r) {
  if (!r->previous) return Status::Ok();
  PERIGEE_TRY(tree.ReleaseVersion(r->id, *r->previous));
  r->previous.reset();
  return Status::Ok();
}

// Makes `next` the committed version and decides what becomes of the one before.
Status Supersede(Tree& tree, wire::Record* r, wire::Version next) {
  if (!r->committed) {
    r->committed = std::move(next);
    return IsSafe(*r->committed) ? DropPrevious(tree, r) : Status::Ok();
  }
  wire::Version old = std::move(*r->committed);
  // Rewritten in place, the old bytes are nowhere any more.
  const bool in_place =
      next.layout.kind == LayoutKind::kBurst && IsOnBurst(old, next.layout.node, next.layout.burst);
  const bool safe = IsSafe(next);
  r->committed = std::move(next);
  if (safe) {
    PERIGEE_TRY(tree.ReleaseVersion(r->id, old));
    return DropPrevious(tree, r);
  }
  const bool keep_older = r->previous && (in_place || (IsSafe(*r->previous) && !IsSafe(old)));
  if (in_place || keep_older) return tree.ReleaseVersion(r->id, old);
  PERIGEE_TRY(DropPrevious(tree, r));
  r->previous = std::move(old);
  return Status::Ok();
}

}  // namespace

Result<wire::RecordReply> NamespaceImpl::OpenWrite(const wire::OpenWriteRequest& q) {
  wire::RecordReply reply;
  PERIGEE_TRY(Commit([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Node node, OpenFile(tree, q.id));
    wire::Record& r = node.record;
    PERIGEE_TRY(CheckAccess(q.caller, r, kMayWrite));
    const uint64_t committed = r.committed ? r.committed->generation : 0;
    if (committed != q.expect_generation) return Replaced(q.id);
    if (r.writer && r.writer->node != q.node) {
      return Status(Code::kBusy,
                    "node " + std::to_string(r.writer->node) + " is writing this file");
    }
    r.writer = wire::WriterInfo{.node = q.node,
                                .burst = q.burst,
                                .generation = std::max(committed, r.generation_floor) + 1};
    PERIGEE_TRY(tree.Update(node));
    reply = ReplyOf(std::move(node));
    return Status::Ok();
  }));
  return reply;
}

Status NamespaceImpl::CheckPublish(const wire::PublishRequest& q,
                                   std::string_view inline_bytes) const {
  if (q.has_inline && inline_bytes.size() != q.size) {
    return Status(Code::kInvalidArgument, "inline content is not of the size given");
  }
  if (q.has_inline && q.size > options_.inline_bytes_max)
    return Status(Code::kTooLarge, "too much for inline content");
  // Its bytes are new also where the file is not; as a burst layout they need no room here.
  if (q.has_inline && options_.room) PERIGEE_TRY(options_.room());
  if (!q.has_inline && q.durability > Durability::kPartner) {
    return Status(Code::kInvalidArgument, "a burst file is kPartner at most");
  }
  return Status::Ok();
}

Status NamespaceImpl::PublishIn(Tree& tree, const wire::PublishRequest& q,
                                std::string_view inline_bytes, wire::RecordReply* reply) {
  PERIGEE_ASSIGN(Node node, OpenFile(tree, q.id));
  wire::Record& r = node.record;
  // Inline content is as durable as the commit that says so: both are there after a crash, or
  // neither.
  const Durability reached = q.has_inline ? Durability::kObject : q.durability;
  const wire::Record before = r;
  if (r.committed && r.committed->generation == q.generation) {
    // A repeated call, its first reply lost; or the same content again, now for sure.
    const bool same = r.committed->layout.kind == LayoutKind::kBurst
                          ? IsOnBurst(*r.committed, q.node, q.burst)
                          : r.committed->size == q.size;
    if (!same) return Replaced(q.id);
    if (r.committed->layout.kind == LayoutKind::kBurst && reached > Durability::kPartner)
      return Replaced(q.id);
    if (reached > r.committed->durability) {
      r.committed->durability = reached;
      if (IsSafe(*r.committed)) PERIGEE_TRY(DropPrevious(tree, &r));
      PERIGEE_TRY(tree.EmitReleased(before, &r));
      PERIGEE_TRY(tree.Update(node, Tree::Delegated::kKeep));
    }
    *reply = ReplyOf(std::move(node));
    return Status::Ok();
  }
  if (!IsWriter(r, q.node, q.burst) || r.writer->generation != q.generation) return Replaced(q.id);
  wire::Version next{.generation = q.generation,
                     .size = q.size,
                     .mtime = q.mtime ? q.mtime : tree.now(),
                     .etag = MountEtag(q.id, q.generation),
                     .durability = reached};
  if (q.has_inline) {
    if (q.size > 0) {
      next.layout.kind = LayoutKind::kInline;
      tree.txn().Put(keys::Inline(q.id, q.generation), inline_bytes);
    }
  } else {
    next.layout = wire::Layout{.kind = LayoutKind::kBurst, .node = q.node, .burst = q.burst};
  }
  r.mtime = next.mtime;
  r.ctime = tree.now();
  r.writer->generation = q.generation + 1;
  PERIGEE_TRY(Supersede(tree, &r, std::move(next)));
  PERIGEE_TRY(tree.EmitReleased(before, &r));
  PERIGEE_TRY(tree.Update(node, Tree::Delegated::kKeep));
  *reply = ReplyOf(std::move(node));
  return Status::Ok();
}

Result<wire::RecordReply> NamespaceImpl::Publish(const wire::PublishRequest& q,
                                                 std::string_view inline_bytes) {
  PERIGEE_TRY(CheckPublish(q, inline_bytes));
  wire::RecordReply reply;
  PERIGEE_FAILPOINT_STATUS(meta_before_publish);
  PERIGEE_TRY(Commit([&](Tree& tree) { return PublishIn(tree, q, inline_bytes, &reply); }, q.sync));
  PERIGEE_FAILPOINT_STATUS(meta_after_publish);
  return reply;
}

Result<wire::RecordReply> NamespaceImpl::EndWrite(const wire::EndWriteRequest& q) {
  wire::RecordReply reply;
  PERIGEE_TRY(Commit([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Node node, OpenFile(tree, q.id));
    PERIGEE_TRY(EndWriter(tree, &node, q.node, q.burst));
    reply = ReplyOf(std::move(node));
    return Status::Ok();
  }));
  return reply;
}

Result<wire::RecordReply> NamespaceImpl::TakeFromWriter(wire::FileId id,
                                                        const wire::WriterInfo& writer) {
  wire::RecordReply reply;
  PERIGEE_TRY(Commit([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Node node, OpenFile(tree, id));
    if (IsWriter(node.record, writer.node, writer.burst)) {
      node.record.generation_floor =
          std::max(node.record.generation_floor, node.record.writer->generation);
      PERIGEE_TRY(EndWriter(tree, &node, writer.node, writer.burst));
    }
    reply = ReplyOf(std::move(node));
    return Status::Ok();
  }));
  return reply;
}

Result<wire::EndWritesReply> NamespaceImpl::EndWrites(const wire::EndWritesRequest& q) {
  if (q.writes.size() > wire::kEndWritesMax)
    return Status(Code::kInvalidArgument, "too many writes to end at once");
  wire::EndWritesReply reply;
  PERIGEE_TRY(Commit([&](Tree& tree) -> Status {
    reply.codes.clear();
    for (const wire::WriterOf& write : q.writes) {
      auto node = OpenFile(tree, write.id);
      if (node.ok()) PERIGEE_TRY(EndWriter(tree, &*node, q.node, write.burst));
      const bool its_own = node.code() == Code::kStale || node.code() == Code::kIsDirectory ||
                           node.code() == Code::kInvalidArgument;
      if (!node.ok() && !its_own) return std::move(node).TakeStatus();
      reply.codes.push_back(node.code());
    }
    return Status::Ok();
  }));
  return reply;
}

Result<wire::RecordReply> NamespaceImpl::CommitFlush(const wire::CommitFlushRequest& q) {
  uint64_t size = 0;
  // Checked before the list of a long object is built for nothing; what counts is the check at
  // commit.
  PERIGEE_TRY(Read([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Node node, OpenFile(tree, q.id));
    if (!node.record.committed || node.record.committed->generation != q.generation)
      return Replaced(q.id);
    size = node.record.committed->size;
    return Status::Ok();
  }));
  PERIGEE_ASSIGN(Content content, PrepareContent(q.extents, q.list_id, q.intents, size));
  wire::RecordReply reply;
  PERIGEE_FAILPOINT_STATUS(meta_before_flush);
  PERIGEE_TRY(CommitDurable([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Node node, OpenFile(tree, q.id));
    wire::Record& r = node.record;
    if (!r.committed || r.committed->generation != q.generation) return Replaced(q.id);
    if (!IsOnBurst(*r.committed, q.node, q.burst)) {
      // Done already, and the reply was lost? A list made for a repeated call is left to expire.
      const bool done =
          r.committed->layout.kind == content.layout.kind &&
          (content.layout.list_id != 0 ? q.list_id == 0 || r.committed->layout.list_id == q.list_id
                                       : r.committed->layout.extents == content.layout.extents);
      if (!done) return Replaced(q.id);
      reply = ReplyOf(std::move(node));
      return Status::Ok();
    }
    if (r.committed->size != size) return Replaced(q.id);
    const wire::Record before = r;
    PERIGEE_TRY(AcquireContent(tree.txn(), {r.id, q.generation}, content.layout.extents,
                               content.layout.list_id, content.intents));
    r.committed->layout = content.layout;
    r.committed->durability = Durability::kObject;
    PERIGEE_TRY(DropPrevious(tree, &r));
    // The node keeps its burst file as a clean copy: that one is not released.
    wire::Record after = r;
    after.previous = before.committed;
    PERIGEE_TRY(tree.EmitReleased(before, &after));
    PERIGEE_TRY(tree.Update(node, Tree::Delegated::kKeep));
    reply = ReplyOf(std::move(node));
    return Status::Ok();
  }));
  PERIGEE_FAILPOINT_STATUS(meta_after_flush);
  return reply;
}

Result<wire::RecordReply> NamespaceImpl::SetDurability(const wire::SetDurabilityRequest& q) {
  wire::RecordReply reply;
  PERIGEE_TRY(Commit(
      [&](Tree& tree) -> Status {
        PERIGEE_ASSIGN(Node node, OpenFile(tree, q.id));
        wire::Record& r = node.record;
        if (!r.committed || r.committed->generation != q.generation) return Replaced(q.id);
        const bool on_burst = r.committed->layout.kind == LayoutKind::kBurst;
        if (on_burst && !IsOnBurst(*r.committed, q.node, q.burst)) return Replaced(q.id);
        if (on_burst && q.durability > Durability::kPartner) {
          return Status(Code::kInvalidArgument, "a burst file is kPartner at most");
        }
        if (q.durability > r.committed->durability) {
          const wire::Record before = r;
          r.committed->durability = q.durability;
          if (IsSafe(*r.committed)) PERIGEE_TRY(DropPrevious(tree, &r));
          PERIGEE_TRY(tree.EmitReleased(before, &r));
          PERIGEE_TRY(tree.Update(node, Tree::Delegated::kKeep));
        }
        reply = ReplyOf(std::move(node));
        return Status::Ok();
      },
      q.sync));
  return reply;
}

Result<wire::RecordReply> NamespaceImpl::FallBack(const wire::FallBackRequest& q) {
  wire::RecordReply reply;
  bool removed = false;
  PERIGEE_TRY(Commit([&](Tree& tree) -> Status {
    removed = false;
    PERIGEE_ASSIGN(Node node, OpenFile(tree, q.id));
    wire::Record& r = node.record;
    const bool lost =
        r.committed
            ? r.committed->generation == q.generation && IsOnBurst(*r.committed, q.node, q.burst)
            : q.generation == 0 && !r.previous && IsWriter(r, q.node, q.burst);
    if (!lost) return Replaced(q.id);
    if (IsWriter(r, q.node, q.burst)) r.writer.reset();
    if (r.previous && !IsOnBurst(*r.previous, q.node, q.burst)) {
      // Its writer may have been given the next generation already.
      if (r.writer && r.previous->generation & wire::kOfReplaced)
        return Status(Code::kBusy, "the file is being written; what it is now is told by the end");
      PERIGEE_TRY(Restore(tree, &r, q.generation));
      PERIGEE_TRY(tree.Update(node));
      reply = ReplyOf(std::move(node));
      return Status::Ok();
    }
    removed = true;
    // Every name of it goes: there is nothing left that they could name.
    while (true) {
      const bool last = !node.linked || node.record.nlink <= 1;
      PERIGEE_TRY(tree.Remove(node));
      PERIGEE_TRY(tree.Settle(node.place.dir, node.place.component, Door::kMount));
      if (last) return Status::Ok();
      PERIGEE_ASSIGN(node, OpenFile(tree, q.id));
    }
  }));
  if (removed)
    return Status(Code::kNotFound,
                  "the only content of file " + std::to_string(q.id) + " was lost; it is removed");
  return reply;
}

}  // namespace perigee::objectd
