// Directories that nodes hold, and what they made there.

#include <algorithm>

#include "base/failpoint.h"
#include "objectd/meta/names.h"
#include "objectd/meta/namespace_impl.h"
#include "rdma/wire/methods.h"

namespace perigee::objectd {

using wire::Method;

namespace {

// Of a node's journal, what it has told: with the changes, in their commit.
struct ToldRow {
  uint64_t journal = 0;
  uint64_t through = 0;
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.journal);
    v(2, s.through);
    v.Rest(s.unknown);
  }
};

// Up to where `q`'s journal was told before. Notes what it tells now.
Result<uint64_t> NoteTold(kv::Transaction& txn, const wire::ApplyRequest& q) {
  if (q.journal == 0) return uint64_t{0};
  const std::string key = keys::Told(q.node);
  PERIGEE_ASSIGN(auto stored, txn.Get(key, kv::ReadMode::kConflict));
  ToldRow row;
  if (stored) {
    PERIGEE_ASSIGN(row, DecodeRow<ToldRow>(*stored, "what a node has told"));
  }
  const uint64_t before = row.journal == q.journal ? row.through : 0;
  if (q.through <= before) return before;
  if (q.after != before)
    return Status(Code::kPreconditionFailed, "what came before this is not told any more");
  row.journal = q.journal;
  row.through = q.through;
  txn.Put(key, EncodeRow(row));
  return before;
}

}  // namespace

Result<wire::HoldDirectoryReply> NamespaceImpl::HoldDirectory(const wire::HoldDirectoryRequest& q) {
  if (!options_.holds || q.node == 0)
    return Status(Code::kUnimplemented, "no directory is given to nodes to hold here");
  wire::HoldDirectoryReply reply;
  if (q.dir == 0) {
    PERIGEE_TRY(options_.holds->Renew(q.node));
    return reply;
  }
  // In a bucket, and while there is room: what is made there must find its place.
  if (q.dir == wire::kRootId || (options_.room && !options_.room().ok())) return reply;
  PERIGEE_ASSIGN(bool begun, options_.holds->Begin(q.node, q.dir, q.at));
  if (!begun) return reply;
  Status granted = CommitDurable([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(wire::FileId bucket, tree.LiveDirectory(q.dir, kv::ReadMode::kConflict));
    PERIGEE_ASSIGN(Node node, tree.ById(q.dir, kv::ReadMode::kConflict));
    PERIGEE_TRY(tree.MergeTimes(&node.record));
    PERIGEE_ASSIGN(reply.path, tree.PathOf(q.dir));
    reply.record = std::move(node.record);
    tree.txn().Put(keys::Hold(q.dir), EncodeId(q.node));
    tree.txn().Put(keys::Directory(q.dir), EncodeId(bucket));
    return Status::Ok();
  });
  PERIGEE_FAILPOINT(meta_hold_after_commit);
  options_.holds->End(q.dir, granted.ok());
  PERIGEE_TRY(granted);
  while (reply.path.ends_with('/')) reply.path.pop_back();
  reply.granted = true;
  return reply;
}

Status NamespaceImpl::ReleaseDirectories(const wire::ReleaseDirectoriesRequest& q) {
  if (!options_.holds)
    return Status(Code::kUnimplemented, "no directory is given to nodes to hold here");
  return options_.holds->Release(q.node, q.dirs, q.all, q.at);
}

Result<wire::ApplyReply> NamespaceImpl::Apply(const wire::ApplyRequest& q,
                                              std::string_view inline_bytes) {
  if (q.ops.size() > wire::kApplyOpsMax || (q.ops.empty() && q.journal == 0))
    return Status(Code::kInvalidArgument,
                  "1 to " + std::to_string(wire::kApplyOpsMax) + " changes are made at once");
  if (inline_bytes.size() > wire::kApplyBytesMax)
    return Status(Code::kTooLarge, "too much inline content at once");
  struct Op {
    Method method;
    wire::MakeRequest make;
    wire::PublishRequest publish;
    wire::SetAttrRequest set;
    std::string_view bytes;
    int64_t at = 0;
  };
  std::vector<Op> ops(q.ops.size());
  for (size_t i = 0; i < ops.size(); ++i) {
    const wire::ApplyOp& given = q.ops[i];
    Op& op = ops[i];
    op.method = static_cast<Method>(given.method);
    op.at = given.at;
    if (given.inline_bytes > inline_bytes.size())
      return Status(Code::kInvalidArgument, "inline content is not of the size given");
    op.bytes = inline_bytes.substr(0, given.inline_bytes);
    inline_bytes.remove_prefix(given.inline_bytes);
    switch (op.method) {
      case Method::kMetaCreate: {
        PERIGEE_ASSIGN(op.make, wire::Decode<wire::MakeRequest>(given.request));
        PERIGEE_TRY(CheckName(op.make.name));
        if (op.make.id == 0) return Status(Code::kInvalidArgument, "a file without an id");
        break;
      }
      case Method::kMetaPublish: {
        PERIGEE_ASSIGN(op.publish, wire::Decode<wire::PublishRequest>(given.request));
        PERIGEE_TRY(CheckPublish(op.publish, op.bytes));
        break;
      }
      case Method::kMetaSetAttr: {
        PERIGEE_ASSIGN(op.set, wire::Decode<wire::SetAttrRequest>(given.request));
        break;
      }
      default:
        return Status(Code::kInvalidArgument, "a change that is not made in batches");
    }
  }
  if (!inline_bytes.empty())
    return Status(Code::kInvalidArgument, "inline content is not of the size given");
  PERIGEE_FAILPOINT_STATUS(meta_before_apply);
  wire::ApplyReply reply;
  Status applied = CommitAs(q.node, [&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(const uint64_t before, NoteTold(tree.txn(), q));
    reply.through = std::max(before, q.journal != 0 ? q.through : 0);
    if (q.through != 0 && q.through <= before) return Status::Ok();
    const int64_t now = tree.now();
    for (const Op& op : ops) {
      wire::RecordReply unread;
      tree.SetNow(op.at != 0 ? op.at : now);
      switch (op.method) {
        case Method::kMetaCreate:
          PERIGEE_TRY(MakeIn(tree, op.make, op.make.id, wire::FileKind::kFile, WrittenAs(op.make),
                             &unread));
          break;
        case Method::kMetaPublish:
          PERIGEE_TRY(PublishIn(tree, op.publish, op.bytes, &unread));
          break;
        default:
          PERIGEE_TRY(SetAttrIn(tree, op.set, &unread));
      }
    }
    return Status::Ok();
  });
  PERIGEE_TRY(applied);
  if (ops.empty()) PERIGEE_TRY(Sync());
  PERIGEE_FAILPOINT_STATUS(meta_after_apply);
  return reply;
}

}  // namespace perigee::objectd
