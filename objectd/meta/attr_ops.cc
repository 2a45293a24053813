// Attributes: mode, owner, times, extended attributes.

#include <algorithm>

#include "objectd/meta/access.h"
#include "objectd/meta/namespace_impl.h"

namespace perigee::objectd {
namespace {

constexpr uint32_t kXattrCreate = 1, kXattrReplace = 2;
constexpr size_t kXattrNameMax = 255;
constexpr size_t kXattrBytesMax =
    32 << 10;  // of all of a file: with the rest of a record they fit a value of the store

Status CheckSetAttr(const wire::SetAttrRequest& q, const wire::Record& record) {
  const bool root = !q.caller.enforce || q.caller.uid == 0;
  if (root) return Status::Ok();
  if (q.set_mode) PERIGEE_TRY(CheckOwner(q.caller, record));
  if (q.set_uid && q.uid != record.uid)
    return Status(Code::kPermissionDenied, "only root gives files away");
  if (q.set_gid && q.gid != record.gid) {
    PERIGEE_TRY(CheckOwner(q.caller, record));
    if (!IsInGroup(q.caller, q.gid))
      return Status(Code::kPermissionDenied, "not a member of that group");
  }
  if (q.set_atime || q.set_mtime) {
    const bool now = (!q.set_atime || q.atime == 0) && (!q.set_mtime || q.mtime == 0);
    if (!CheckOwner(q.caller, record).ok()) {
      if (!now) return Status(Code::kPermissionDenied, "only the owner sets times");
      return CheckAccess(q.caller, record, kMayWrite);
    }
  }
  return Status::Ok();
}

Status CheckXattr(const wire::XattrRequest& q, const wire::Record& record) {
  if (q.name.empty() || q.name.size() > kXattrNameMax) {
    return Status(Code::kInvalidArgument, "an attribute's name has 1 to 255 bytes");
  }
  if (q.name.starts_with("user.")) return CheckAccess(q.caller, record, kMayWrite);
  if (q.name.starts_with("trusted.") && q.caller.enforce && q.caller.uid != 0) {
    return Status(Code::kPermissionDenied, "trusted attributes are root's");
  }
  return CheckOwner(q.caller, record);
}

std::vector<wire::Attribute>::iterator FindAttribute(std::vector<wire::Attribute>* all,
                                                     const std::string& name) {
  return std::find_if(all->begin(), all->end(), [&](const auto& a) { return a.name == name; });
}

}  // namespace

Status NamespaceImpl::SetAttrIn(Tree& tree, const wire::SetAttrRequest& q,
                                wire::RecordReply* reply) {
  PERIGEE_ASSIGN(Node node, tree.ById(q.id, kv::ReadMode::kConflict));
  wire::Record& r = node.record;
  PERIGEE_TRY(CheckSetAttr(q, r));
  if (q.set_mode) r.mode = q.mode & kModeBits;
  if (q.set_uid) r.uid = q.uid;
  if (q.set_gid) r.gid = q.gid;
  const bool given_away = q.set_uid || q.set_gid;
  if (given_away && q.caller.enforce && q.caller.uid != 0 && !node.is_directory())
    r.mode &= ~(kSetUid | kSetGid);
  // The owner of a bucket is also the owner of what S3 writes there, and its mode the measure.
  if (r.bucket) {
    if (q.set_mode) r.bucket->mode = r.mode & 0666;
    if (q.set_uid) r.bucket->uid = r.uid;
    if (q.set_gid) r.bucket->gid = r.gid;
  }
  if (q.set_atime) r.atime = q.atime ? q.atime : tree.now();
  if (q.set_mtime) {
    r.mtime = q.mtime ? q.mtime : tree.now();
    if (r.committed) r.committed->mtime = r.mtime;
    if (node.is_directory()) {
      for (uint8_t shard = 0; shard < kTimeShards; ++shard)
        tree.txn().Delete(keys::DirectoryTime(r.id, shard));
    }
  }
  r.ctime = tree.now();
  PERIGEE_TRY(tree.Update(node));
  if (node.is_directory()) PERIGEE_TRY(tree.MergeTimes(&r));
  *reply = ReplyOf(std::move(node));
  return Status::Ok();
}

Result<wire::RecordReply> NamespaceImpl::SetAttr(const wire::SetAttrRequest& q) {
  wire::RecordReply reply;
  PERIGEE_TRY(Commit([&](Tree& tree) { return SetAttrIn(tree, q, &reply); }));
  return reply;
}

Result<wire::RecordReply> NamespaceImpl::ChangeXattrs(
    const wire::XattrRequest& q,
    const std::function<Status(std::vector<wire::Attribute>*)>& change) {
  wire::RecordReply reply;
  PERIGEE_TRY(Commit([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Node node, tree.ById(q.id, kv::ReadMode::kConflict));
    PERIGEE_TRY(CheckXattr(q, node.record));
    PERIGEE_TRY(change(&node.record.xattrs));
    node.record.ctime = tree.now();
    PERIGEE_TRY(tree.Update(node));
    if (node.is_directory()) PERIGEE_TRY(tree.MergeTimes(&node.record));
    reply = ReplyOf(std::move(node));
    return Status::Ok();
  }));
  return reply;
}

Result<wire::RecordReply> NamespaceImpl::SetXattr(const wire::XattrRequest& q) {
  if (q.value.size() > kXattrBytesMax)
    return Status(Code::kTooLarge, "an attribute's value is too large");
  return ChangeXattrs(q, [&](std::vector<wire::Attribute>* all) -> Status {
    auto at = FindAttribute(all, q.name);
    if (at != all->end()) {
      if (q.flags & kXattrCreate)
        return Status(Code::kAlreadyExists, "attribute '" + q.name + "' exists");
      at->value = q.value;
    } else {
      if (q.flags & kXattrReplace) return Status(Code::kNotFound, "no attribute '" + q.name + "'");
      all->push_back({.name = q.name, .value = q.value});
    }
    size_t bytes = 0;
    for (const auto& a : *all) bytes += a.name.size() + a.value.size() + 8;
    if (bytes > kXattrBytesMax)
      return Status(Code::kNoSpace, "the attributes of a file have 32 KiB together");
    return Status::Ok();
  });
}

Result<wire::RecordReply> NamespaceImpl::RemoveXattr(const wire::XattrRequest& q) {
  return ChangeXattrs(q, [&](std::vector<wire::Attribute>* all) -> Status {
    auto at = FindAttribute(all, q.name);
    if (at == all->end()) return Status(Code::kNotFound, "no attribute '" + q.name + "'");
    all->erase(at);
    return Status::Ok();
  });
}

}  // namespace perigee::objectd
