// Lookup, listing, making and removing of names: the mount's door.

#include <algorithm>
#include <set>

#include "objectd/meta/access.h"
#include "objectd/meta/names.h"
#include "objectd/meta/namespace_impl.h"

namespace perigee::objectd {
namespace {

constexpr size_t kReplyBytesMax = 512
                                  << 10;  // of records in a listing; a reply's header holds 1 MiB
constexpr size_t kSymlinkBytesMax = 4095;

Status NoSuchFile(const std::string& name) {
  return Status(Code::kNotFound, "no file '" + name + "'");
}

// Splits "a//b/./c" into a, b, c.
Result<std::vector<std::string>> SplitPath(std::string_view path) {
  std::vector<std::string> names;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    std::string_view name = path.substr(0, slash);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    if (name.empty() || name == ".") continue;
    PERIGEE_TRY(CheckName(name));
    names.emplace_back(name);
  }
  return names;
}

}  // namespace

Result<NamespaceImpl::Parent> NamespaceImpl::OpenParent(Tree& tree, wire::FileId dir,
                                                        const wire::Caller& caller, uint32_t wanted,
                                                        kv::ReadMode mode) {
  Parent parent;
  PERIGEE_ASSIGN(parent.bucket, tree.LiveDirectory(dir, mode));
  // A directory's record is not conflict-read: changing its mode must not disturb what goes on
  // inside.
  PERIGEE_ASSIGN(Node node, tree.ById(dir, kv::ReadMode::kSnapshot));
  PERIGEE_TRY(CheckAccess(caller, node.record, wanted));
  parent.record = std::move(node.record);
  return parent;
}

wire::Record NamespaceImpl::NewRecord(const Tree& tree, const Parent& parent,
                                      const wire::MakeRequest& q, wire::FileId id,
                                      wire::FileKind kind) {
  wire::Record record{
      .id = id, .kind = kind, .mode = q.mode & kModeBits, .uid = q.uid, .gid = q.gid};
  if (q.caller.enforce && q.caller.uid != 0) {
    record.uid = q.caller.uid;
    record.gid = IsInGroup(q.caller, q.gid) ? q.gid : q.caller.gid;
  }
  record.nlink = kind == wire::FileKind::kDirectory ? 2 : 1;
  if (parent.record.mode & kSetGid) {
    record.gid = parent.record.gid;
    if (kind == wire::FileKind::kDirectory) record.mode |= kSetGid;
  }
  record.atime = record.mtime = record.ctime = record.btime = tree.now();
  return record;
}

Result<wire::RecordReply> NamespaceImpl::Lookup(const wire::LookupRequest& q) {
  std::vector<std::string> names;
  if (q.path.empty()) {
    if (q.name.size() > kNameBytesMax)
      return Status(Code::kTooLarge, "a name is longer than 255 bytes");
    if (!IsNameable(q.name)) return NoSuchFile(q.name);
    names.push_back(q.name);
  } else {
    PERIGEE_ASSIGN(names, SplitPath(q.path));
  }
  wire::RecordReply reply;
  PERIGEE_TRY(ReadFor(q.caller, [&](Tree& tree) -> Status {
    wire::FileId dir = q.parent ? q.parent : wire::kRootId;
    std::optional<Node> node;
    if (names.empty() || q.caller.enforce) {
      PERIGEE_ASSIGN(node, tree.ById(dir, kv::ReadMode::kSnapshot));
    }
    for (const auto& name : names) {
      if (node) {
        if (!node->is_directory())
          return Status(Code::kNotDirectory, "'" + node->place.component + "' is not a directory");
        PERIGEE_TRY(CheckAccess(q.caller, node->record, kMaySearch));
        dir = node->record.id;
      }
      PERIGEE_ASSIGN(node, tree.FindName(dir, name, kv::ReadMode::kSnapshot));
      if (!node) {
        PERIGEE_TRY(tree.LiveDirectory(dir, kv::ReadMode::kSnapshot).status());
        return NoSuchFile(name);
      }
    }
    if (node->is_directory()) PERIGEE_TRY(tree.MergeTimes(&node->record));
    reply = ReplyOf(std::move(*node));
    return Status::Ok();
  }));
  return reply;
}

Result<wire::RecordReply> NamespaceImpl::GetAttr(const wire::GetAttrRequest& q) {
  wire::RecordReply reply;
  const bool granted = q.delegate_to != 0 && options_.delegations &&
                       options_.delegations->Grant(q.delegate_to, q.id);
  PERIGEE_TRY(Read([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Node node, tree.ById(q.id, kv::ReadMode::kSnapshot));
    if (node.is_directory()) PERIGEE_TRY(tree.MergeTimes(&node.record));
    bool delegated = granted && node.record.kind == wire::FileKind::kFile &&
                     node.record.nlink == 1 && node.record.committed && !node.record.writer;
    if (delegated) {  // not under a name that a directory hides
      PERIGEE_ASSIGN(auto directory, tree.Find(node.place.dir, node.place.component + "/",
                                               kv::ReadMode::kSnapshot));
      delegated = !directory;
    }
    reply = ReplyOf(std::move(node));
    reply.delegated = delegated;
    return Status::Ok();
  }));
  return reply;
}

Result<wire::ReadDirReply> NamespaceImpl::ReadDir(const wire::ReadDirRequest& q) {
  const size_t limit = std::clamp<uint32_t>(q.limit, 1, 4096);
  wire::ReadDirReply reply;
  PERIGEE_TRY(ReadFor(q.caller, [&](Tree& tree) -> Status {
    reply = {};
    PERIGEE_TRY(OpenParent(tree, q.dir, q.caller, kMayRead, kv::ReadMode::kSnapshot).status());
    std::string from = q.after.empty() ? std::string() : q.after + std::string(1, '\0');
    size_t bytes = 0;
    // A file hidden by a directory of its name is followed by it closely, most often within the
    // same page.
    std::vector<wire::Record*> directories;
    while (reply.items.size() < limit && bytes < kReplyBytesMax && !reply.end) {
      const size_t want = limit - reply.items.size();
      PERIGEE_ASSIGN(auto nodes, tree.List(q.dir, from, "", want));
      reply.end = nodes.size() < want;
      std::set<std::string_view> in_page;
      for (const auto& node : nodes) {
        if (node.is_directory()) in_page.insert(node.place.component);
      }
      for (const auto& node : nodes) {
        if (bytes >= kReplyBytesMax) {
          reply.end = false;
          break;
        }
        const std::string& component = node.place.component;
        from = component + std::string(1, '\0');
        if (!IsNameable(NameOf(component))) continue;
        if (!node.is_directory()) {
          const std::string hiding = component + "/";
          if (in_page.contains(hiding)) continue;
          if (!reply.end && hiding > nodes.back().place.component) {
            PERIGEE_ASSIGN(auto directory, tree.Find(q.dir, hiding, kv::ReadMode::kSnapshot));
            if (directory) continue;
          }
        }
        bytes += wire::Encode(node.record).size() + 2 * component.size() + 16;
        reply.items.push_back(
            {.key = component, .name = std::string(NameOf(component)), .record = node.record});
      }
    }
    for (auto& item : reply.items) {
      if (item.record.kind == wire::FileKind::kDirectory) directories.push_back(&item.record);
    }
    return directories.empty() ? Status::Ok() : tree.MergeTimes(directories);
  }));
  return reply;
}

Status NamespaceImpl::MakeIn(Tree& tree, const wire::MakeRequest& q, wire::FileId id,
                             wire::FileKind kind, const Fill& fill, wire::RecordReply* reply) {
  const bool directory = kind == wire::FileKind::kDirectory;
  if (q.id != 0) {
    auto node = tree.ById(id, kv::ReadMode::kConflict);
    if (node.ok()) {
      *reply = ReplyOf(std::move(*node));
      return Status::Ok();
    }
    if (node.code() != Code::kStale && node.code() != Code::kNotFound)
      return std::move(node).TakeStatus();
  }
  PERIGEE_ASSIGN(Parent parent, OpenParent(tree, q.parent, q.caller, kMayWrite | kMaySearch,
                                           kv::ReadMode::kConflict));
  PERIGEE_ASSIGN(auto existing, tree.FindName(q.parent, q.name, kv::ReadMode::kConflict));
  if (existing) return Status(Code::kAlreadyExists, "'" + q.name + "' exists");
  *reply = {.record = NewRecord(tree, parent, q, id, kind), .parent = q.parent, .name = q.name};
  wire::Record& record = reply->record;
  if (q.parent == wire::kRootId) {
    if (!directory)
      return Status(Code::kPermissionDenied, "only buckets (directories) can be made at the top");
    return MakeBucket(tree, id, q.name, record.uid, record.gid, record.mode, &record);
  }
  fill(&record);
  return tree.Insert({q.parent, directory ? q.name + "/" : q.name}, record, parent.bucket);
}

Result<wire::RecordReply> NamespaceImpl::Make(const wire::MakeRequest& q, wire::FileKind kind,
                                              const Fill& fill) {
  PERIGEE_TRY(CheckName(q.name));
  const bool directory = kind == wire::FileKind::kDirectory;
  if (directory && q.parent == wire::kRootId) PERIGEE_TRY(CheckBucketName(q.name));
  wire::FileId id = q.id;
  if (id == 0) {
    PERIGEE_ASSIGN(id, NewIds(1));
  }
  wire::RecordReply reply;
  PERIGEE_TRY(
      CommitFor(q.caller, [&](Tree& tree) { return MakeIn(tree, q, id, kind, fill, &reply); }));
  return reply;
}

Result<wire::RecordReply> NamespaceImpl::Mkdir(const wire::MakeRequest& q) {
  if (q.parents) return MakePath(q);
  return Make(q, wire::FileKind::kDirectory, [](wire::Record*) {});
}

Result<wire::RecordReply> NamespaceImpl::MakePath(const wire::MakeRequest& q) {
  PERIGEE_ASSIGN(auto names, SplitPath(q.name));
  const wire::FileId start = q.parent ? q.parent : wire::kRootId;
  if (names.empty()) return GetAttr({.id = start});
  PERIGEE_ASSIGN(wire::FileId first_id, NewIds(names.size()));
  wire::RecordReply reply;
  PERIGEE_TRY(CommitFor(q.caller, [&](Tree& tree) -> Status {
    reply = {};
    wire::FileId dir = start;
    for (size_t i = 0; i < names.size(); ++i) {
      const std::string& name = names[i];
      PERIGEE_ASSIGN(auto node, tree.FindName(dir, name, kv::ReadMode::kConflict));
      if (node && !node->is_directory()) {
        const bool last = i + 1 == names.size();
        return Status(last ? Code::kAlreadyExists : Code::kNotDirectory,
                      "'" + name + "' is not a directory");
      }
      if (!node) {
        PERIGEE_ASSIGN(Parent parent, OpenParent(tree, dir, q.caller, kMayWrite | kMaySearch,
                                                 kv::ReadMode::kConflict));
        node = Node{.place = {dir, name + "/"}};
        node->record = NewRecord(tree, parent, q, first_id + i, wire::FileKind::kDirectory);
        const wire::Record& r = node->record;
        if (dir == wire::kRootId) {
          PERIGEE_TRY(CheckBucketName(name));
          PERIGEE_TRY(MakeBucket(tree, r.id, name, r.uid, r.gid, r.mode, &node->record));
        } else {
          PERIGEE_TRY(tree.Insert(node->place, r, parent.bucket));
        }
      } else {
        PERIGEE_TRY(CheckAccess(q.caller, node->record, kMaySearch));
      }
      dir = node->record.id;
      reply = ReplyOf(std::move(*node));
    }
    return tree.MergeTimes(&reply.record);
  }));
  return reply;
}

Result<wire::RecordReply> NamespaceImpl::Symlink(const wire::MakeRequest& q) {
  if (q.symlink.empty()) return Status(Code::kNotFound, "a symbolic link to nothing");
  if (q.symlink.size() > kSymlinkBytesMax)
    return Status(Code::kTooLarge, "a symbolic link's target is too long");
  return Make(q, wire::FileKind::kSymlink, [&](wire::Record* record) {
    record->mode = 0777;
    record->symlink = q.symlink;
  });
}

Result<wire::RecordReply> NamespaceImpl::Mknod(const wire::MakeRequest& q) {
  if (q.kind == wire::FileKind::kDirectory || q.kind == wire::FileKind::kSymlink ||
      q.kind > wire::FileKind::kBlockDevice) {
    return Status(Code::kInvalidArgument, "mknod makes files, pipes, sockets and devices");
  }
  const bool device =
      q.kind == wire::FileKind::kCharDevice || q.kind == wire::FileKind::kBlockDevice;
  if (device && q.caller.enforce && q.caller.uid != 0) {
    return Status(Code::kPermissionDenied, "only root makes devices");
  }
  return Make(q, q.kind, [&](wire::Record* record) {
    record->rdev = q.rdev;
    if (q.kind != wire::FileKind::kFile) return;
    // Nobody writes it: it is an empty file at once.
    record->committed = wire::Version{.generation = 1,
                                      .mtime = record->mtime,
                                      .etag = MountEtag(record->id, 1),
                                      .durability = wire::Durability::kObject};
  });
}

NamespaceImpl::Fill NamespaceImpl::WrittenAs(const wire::MakeRequest& q) {
  return [&q](wire::Record* record) {
    record->writer = q.writer;
    if (record->writer) record->writer->generation = 1;
  };
}

Result<wire::RecordReply> NamespaceImpl::CreateFile(const wire::MakeRequest& q) {
  return Make(q, wire::FileKind::kFile, WrittenAs(q));
}

Result<wire::RecordReply> NamespaceImpl::Rmdir(const wire::RemoveRequest& q) {
  PERIGEE_TRY(CheckName(q.name));
  wire::RecordReply reply;
  PERIGEE_TRY(CommitFor(q.caller, [&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Parent parent, OpenParent(tree, q.parent, q.caller, kMayWrite | kMaySearch,
                                             kv::ReadMode::kSnapshot));
    PERIGEE_ASSIGN(auto node, tree.FindName(q.parent, q.name, kv::ReadMode::kConflict));
    if (!node) return NoSuchFile(q.name);
    PERIGEE_TRY(CheckId(*node, q.id));
    if (!node->is_directory())
      return Status(Code::kNotDirectory, "'" + q.name + "' is not a directory");
    PERIGEE_TRY(CheckSticky(q.caller, parent.record, node->record));
    PERIGEE_ASSIGN(bool empty, tree.IsEmpty(node->record.id, ""));
    if (!empty) return Status(Code::kNotEmpty, "'" + q.name + "' is not empty");
    if (q.parent == wire::kRootId) {
      PERIGEE_TRY(RemoveBucket(tree, *node));
    } else {
      PERIGEE_TRY(tree.Remove(*node));
      PERIGEE_TRY(tree.Settle(q.parent, node->place.component, Door::kMount));
    }
    reply = ReplyOf(std::move(*node));
    return Status::Ok();
  }));
  return reply;
}

Result<wire::RecordReply> NamespaceImpl::Unlink(const wire::RemoveRequest& q) {
  PERIGEE_TRY(CheckName(q.name));
  wire::RecordReply reply;
  PERIGEE_TRY(CommitFor(q.caller, [&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Parent parent, OpenParent(tree, q.parent, q.caller, kMayWrite | kMaySearch,
                                             kv::ReadMode::kSnapshot));
    PERIGEE_ASSIGN(auto node, tree.FindName(q.parent, q.name, kv::ReadMode::kConflict));
    if (!node) return NoSuchFile(q.name);
    PERIGEE_TRY(CheckId(*node, q.id));
    if (node->is_directory()) return Status(Code::kIsDirectory, "'" + q.name + "' is a directory");
    PERIGEE_TRY(CheckSticky(q.caller, parent.record, node->record));
    PERIGEE_TRY(tree.Remove(*node));
    PERIGEE_TRY(tree.Settle(q.parent, node->place.component, Door::kMount));
    reply = ReplyOf(std::move(*node));
    return Status::Ok();
  }));
  return reply;
}

Result<wire::RecordReply> NamespaceImpl::Link(const wire::LinkRequest& q) {
  PERIGEE_TRY(CheckName(q.new_name));
  wire::RecordReply reply;
  PERIGEE_TRY(CommitFor(q.caller, [&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Node node, tree.ById(q.id, kv::ReadMode::kConflict));
    if (node.is_directory()) return Status(Code::kPermissionDenied, "directories have one name");
    if (q.new_parent == wire::kRootId)
      return Status(Code::kCrossDevice, "links stay within a bucket");
    PERIGEE_ASSIGN(Parent parent, OpenParent(tree, q.new_parent, q.caller, kMayWrite | kMaySearch,
                                             kv::ReadMode::kConflict));
    PERIGEE_ASSIGN(wire::FileId bucket,
                   tree.LiveDirectory(node.place.dir, kv::ReadMode::kSnapshot));
    if (bucket != parent.bucket) return Status(Code::kCrossDevice, "links stay within a bucket");
    PERIGEE_ASSIGN(auto existing, tree.FindName(q.new_parent, q.new_name, kv::ReadMode::kConflict));
    if (existing) return Status(Code::kAlreadyExists, "'" + q.new_name + "' exists");
    PERIGEE_TRY(tree.AddLink(&node, {q.new_parent, q.new_name}));
    reply = {.record = std::move(node.record), .parent = q.new_parent, .name = q.new_name};
    return Status::Ok();
  }));
  return reply;
}

}  // namespace perigee::objectd
