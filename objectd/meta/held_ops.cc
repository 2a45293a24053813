// Directories that nodes hold, and what they made there.

#include <algorithm>

#include "base/failpoint.h"
#include "objectd/meta/names.h"
#include "objectd/meta/namespace_impl.h"
#include "rdma/wire/methods.h"

namespace perigee::objectd {

using wire::Method;

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

Status NamespaceImpl::Apply(const wire::ApplyRequest& q, std::string_view inline_bytes) {
  if (q.ops.empty() || q.ops.size() > wire::kApplyOpsMax)
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
  Status applied = CommitAs(q.node, [&](Tree& tree) -> Status {
    const int64_t now = tree.now();
    for (const Op& op : ops) {
      wire::RecordReply unread;
      tree.SetNow(op.at != 0 ? op.at : now);
      switch (op.method) {
        case Method::kMetaCreate: {
          auto writes = [&](wire::Record* record) {
            record->writer = op.make.writer;
            if (record->writer) record->writer->generation = 1;
          };
          PERIGEE_TRY(MakeIn(tree, op.make, op.make.id, wire::FileKind::kFile, writes, &unread));
          break;
        }
        case Method::kMetaPublish:
          PERIGEE_TRY(PublishIn(tree, op.publish, op.bytes, &unread));
          break;
        default:
          PERIGEE_TRY(SetAttrIn(tree, op.set, &unread));
      }
    }
    return Status::Ok();
  });
  PERIGEE_FAILPOINT_STATUS(meta_after_apply);
  return applied;
}

}  // namespace perigee::objectd
