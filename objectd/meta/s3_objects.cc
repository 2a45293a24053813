// Objects by key: put, get, delete, copy.

#include <algorithm>

#include "base/failpoint.h"
#include "objectd/meta/names.h"
#include "objectd/meta/namespace_impl.h"
#include "objectd/meta/s3_path.h"
#include "objectd/volume/reference.h"

namespace perigee::objectd {
namespace {

// A zero-byte object whose key ends in '/' is the directory itself, made explicit.
Status PutMarker(Tree& tree, KeyPlace at, std::vector<wire::Attribute> headers,
                 wire::Record* made) {
  PERIGEE_ASSIGN(auto content, tree.Find(at.dir.record.id, "", kv::ReadMode::kConflict));
  if (content) PERIGEE_TRY(tree.Remove(*content));
  at.dir.record.implicit = false;
  at.dir.record.headers = std::move(headers);
  at.dir.record.mtime = at.dir.record.ctime = tree.now();
  PERIGEE_TRY(tree.Update(at.dir));
  *made = MarkerOf(at.dir.record);
  return Status::Ok();
}

// A key that ends in '/' gets content: the directory is then there for that entry's sake.
Status DropMarker(Tree& tree, KeyPlace* at) {
  if (at->dir.record.implicit) return Status::Ok();
  at->dir.record.implicit = true;
  at->dir.record.headers.clear();
  return tree.Update(at->dir);
}

Result<wire::Record> ObjectAt(Tree& tree, const std::string& bucket, const std::string& key) {
  PERIGEE_ASSIGN(Node in, FindBucket(tree, bucket, kv::ReadMode::kSnapshot));
  PERIGEE_ASSIGN(auto at, FindKey(tree, in, key, kv::ReadMode::kSnapshot));
  if (!at) return NoSuchKey(key);
  PERIGEE_ASSIGN(auto node, VisibleObject(tree, *at, kv::ReadMode::kSnapshot));
  if (!node) return NoSuchKey(key);
  return std::move(node->record);
}

struct ToDelete {
  Node dir;  // that it is in; of a key that ends in '/', the directory itself
  Node object;
};

// None: nothing is there. Changes nothing.
Result<std::optional<ToDelete>> FindToDelete(Tree& tree, const Node& bucket, const std::string& key,
                                             const Preconditions& conditions) {
  PERIGEE_ASSIGN(auto at, FindKey(tree, bucket, key, kv::ReadMode::kConflict));
  std::optional<Node> current;
  if (at) {
    PERIGEE_ASSIGN(current, VisibleObject(tree, *at, kv::ReadMode::kConflict));
  }
  PERIGEE_TRY(CheckConditions(current, conditions, key));
  if (!current) return std::optional<ToDelete>();
  return std::optional<ToDelete>({std::move(at->dir), std::move(*current)});
}

Status RemoveObject(Tree& tree, ToDelete found) {
  auto& [dir, object] = found;
  if (!object.is_directory()) {
    PERIGEE_TRY(tree.Remove(object));
    return tree.Settle(dir.record.id, object.place.component, Door::kS3);
  }
  // The explicit directory itself: without entries it goes, else it stays for their sake.
  dir.record.implicit = true;
  dir.record.headers.clear();
  PERIGEE_TRY(tree.Update(dir));
  return tree.Settle(dir.record.id, "", Door::kS3);
}

}  // namespace

Status PutNewObject(Tree& tree, const Node& bucket, KeyPlace at, wire::FileId id,
                    wire::Version version, std::vector<wire::Attribute> headers,
                    wire::Record* made) {
  if (at.is_marker() && version.size == 0)
    return PutMarker(tree, std::move(at), std::move(headers), made);
  if (at.is_marker()) PERIGEE_TRY(DropMarker(tree, &at));
  const wire::BucketSettings settings = bucket.record.bucket.value_or(wire::BucketSettings{});
  wire::Record r{.id = id,
                 .kind = wire::FileKind::kFile,
                 .mode = settings.mode,
                 .uid = settings.uid,
                 .gid = settings.gid};
  r.atime = r.mtime = r.ctime = r.btime = tree.now();
  r.headers = std::move(headers);
  version.generation = 1;
  version.mtime = tree.now();
  version.durability = wire::Durability::kObject;
  r.committed = std::move(version);
  // Also what S3 does not see (a file not published yet, a symbolic link) makes way.
  PERIGEE_ASSIGN(auto old, tree.Find(at.dir.record.id, at.component, kv::ReadMode::kConflict));
  if (old) PERIGEE_TRY(tree.Remove(*old));
  PERIGEE_TRY(tree.Insert({at.dir.record.id, at.component}, r, bucket.record.id));
  *made = std::move(r);
  return Status::Ok();
}

Result<wire::Record> NamespaceImpl::PutObject(const std::string& bucket, const std::string& key,
                                              NewContent content,
                                              std::vector<wire::Attribute> headers,
                                              const Preconditions& conditions) {
  PERIGEE_TRY(CheckKey(key));
  if (content.inline_bytes) {
    if (content.inline_bytes->size() != content.size) {
      return Status(Code::kInvalidArgument, "inline content is not of the size given");
    }
    if (content.size > options_.inline_bytes_max)
      return Status(Code::kTooLarge, "too much for inline content");
  }
  Content prepared;
  if (content.inline_bytes) {
    if (content.size > 0) prepared.layout.kind = wire::LayoutKind::kInline;
  } else {
    PERIGEE_ASSIGN(prepared, PrepareContent(std::move(content.extents), content.list_id,
                                            std::move(content.intents), content.size));
  }
  PERIGEE_ASSIGN(wire::FileId first_id, NewIds(1 + DirectoriesIn(key)));
  wire::Record made;
  PERIGEE_FAILPOINT_STATUS(meta_before_put);
  PERIGEE_TRY(CommitDurable([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Node in, FindBucket(tree, bucket, kv::ReadMode::kConflict));
    PERIGEE_ASSIGN(KeyPlace at, MakeKeyPlace(tree, in, key, first_id + 1));
    PERIGEE_ASSIGN(auto current, VisibleObject(tree, at, kv::ReadMode::kConflict));
    PERIGEE_TRY(CheckConditions(current, conditions, key));
    wire::Version version{.size = content.size,
                          .etag = content.etag,
                          .layout = prepared.layout,
                          .checksum = content.checksum};
    if (content.inline_bytes && content.size > 0)
      tree.txn().Put(keys::Inline(first_id, 1), *content.inline_bytes);
    PERIGEE_TRY(AcquireContent(tree.txn(), {first_id, 1}, prepared.layout.extents,
                               prepared.layout.list_id, prepared.intents));
    return PutNewObject(tree, in, std::move(at), first_id, std::move(version), headers, &made);
  }));
  PERIGEE_FAILPOINT_STATUS(meta_after_put);
  return made;
}

Result<wire::Record> NamespaceImpl::GetObject(const std::string& bucket, const std::string& key) {
  wire::Record record;
  PERIGEE_TRY(ReadDurable([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(record, ObjectAt(tree, bucket, key));
    return Status::Ok();
  }));
  return record;
}

Result<ObjectWithBytes> NamespaceImpl::ReadObject(const std::string& bucket,
                                                  const std::string& key) {
  ObjectWithBytes object;
  PERIGEE_TRY(ReadDurable([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(object.record, ObjectAt(tree, bucket, key));
    const auto& version = object.record.committed;
    if (!version || version->layout.kind != wire::LayoutKind::kInline) return Status::Ok();
    PERIGEE_ASSIGN(object.inline_bytes,
                   tree.txn().Get(keys::Inline(object.record.id, version->generation),
                                  kv::ReadMode::kSnapshot));
    return Status::Ok();
  }));
  return object;
}

Result<std::optional<wire::Record>> NamespaceImpl::DeleteObject(const std::string& bucket,
                                                                const std::string& key,
                                                                const Preconditions& conditions) {
  std::optional<wire::Record> removed;
  PERIGEE_FAILPOINT_STATUS(meta_before_delete);
  PERIGEE_TRY(CommitDurable([&](Tree& tree) -> Status {
    removed.reset();
    PERIGEE_ASSIGN(Node in, FindBucket(tree, bucket, kv::ReadMode::kConflict));
    PERIGEE_ASSIGN(auto found, FindToDelete(tree, in, key, conditions));
    if (!found) return Status::Ok();
    removed = found->object.record;
    return RemoveObject(tree, std::move(*found));
  }));
  PERIGEE_FAILPOINT_STATUS(meta_after_delete);
  return removed;
}

void NamespaceImpl::DeleteObjects(const std::string& bucket, std::span<Deletion> deletions) {
  auto delete_all = [&]() -> Status {
    PERIGEE_FAILPOINT_STATUS(meta_before_delete);
    PERIGEE_TRY(CommitDurable([&](Tree& tree) -> Status {
      PERIGEE_ASSIGN(Node in, FindBucket(tree, bucket, kv::ReadMode::kConflict));
      for (Deletion& d : deletions) {
        d.outcome.Ignore();  // of a run that did not count
        auto found = FindToDelete(tree, in, d.key, d.conditions);
        d.outcome = found.status();
        if (found.ok() && *found) PERIGEE_TRY(RemoveObject(tree, std::move(**found)));
      }
      return Status::Ok();
    }));
    PERIGEE_FAILPOINT_STATUS(meta_after_delete);
    return Status::Ok();
  };
  Status done = delete_all();
  if (done.ok()) return;
  // Too much for one commit, too many races, or one of them cannot be removed.
  if (deletions.size() > 1 && !done.Is(Code::kUnavailable)) {
    done.Ignore();
    DeleteObjects(bucket, deletions.first(deletions.size() / 2));
    return DeleteObjects(bucket, deletions.subspan(deletions.size() / 2));
  }
  for (Deletion& d : deletions) {
    d.outcome.Ignore();
    d.outcome = done;
  }
}

Result<wire::Record> NamespaceImpl::CopyObject(const std::string& from_bucket,
                                               const std::string& from_key,
                                               const std::string& bucket, const std::string& key,
                                               std::optional<std::vector<wire::Attribute>> headers,
                                               const Preconditions& source_conditions,
                                               const Preconditions& conditions) {
  PERIGEE_TRY(CheckKey(key));
  PERIGEE_ASSIGN(wire::FileId first_id, NewIds(1 + DirectoriesIn(key)));
  wire::Record made;
  PERIGEE_FAILPOINT_STATUS(meta_before_copy);
  PERIGEE_TRY(CommitDurable([&](Tree& tree) -> Status {
    // The source is conflict-read: its blobs must still be held when this commit begins to hold
    // them too.
    PERIGEE_ASSIGN(Node from, FindBucket(tree, from_bucket, kv::ReadMode::kSnapshot));
    PERIGEE_ASSIGN(auto source_place, FindKey(tree, from, from_key, kv::ReadMode::kConflict));
    if (!source_place) return NoSuchKey(from_key);
    PERIGEE_ASSIGN(auto source, VisibleObject(tree, *source_place, kv::ReadMode::kConflict));
    if (!source) return NoSuchKey(from_key);
    PERIGEE_TRY(CheckConditions(source, source_conditions, from_key));
    wire::Version version = *source->record.committed;
    auto new_headers = headers ? *headers : source->record.headers;

    PERIGEE_ASSIGN(Node in, FindBucket(tree, bucket, kv::ReadMode::kConflict));
    PERIGEE_ASSIGN(KeyPlace at, MakeKeyPlace(tree, in, key, first_id + 1));
    PERIGEE_ASSIGN(auto current, VisibleObject(tree, at, kv::ReadMode::kConflict));
    PERIGEE_TRY(CheckConditions(current, conditions, key));
    if (version.layout.kind == wire::LayoutKind::kInline) {
      PERIGEE_ASSIGN(auto bytes, tree.txn().Get(keys::Inline(source->record.id, version.generation),
                                                kv::ReadMode::kSnapshot));
      if (!bytes)
        return Status(Code::kCorrupt, "the inline content of '" + from_key + "' is missing");
      tree.txn().Put(keys::Inline(first_id, 1), *bytes);
    } else if (version.layout.kind == wire::LayoutKind::kBlobs) {
      PERIGEE_TRY(AcquireContent(tree.txn(), {first_id, 1}, version.layout.extents,
                                 version.layout.list_id, {}));
    } else if (version.layout.kind != wire::LayoutKind::kNone) {
      return Status(Code::kUnimplemented, "this content is not in the object tier: copy its bytes");
    }
    return PutNewObject(tree, in, std::move(at), first_id, std::move(version),
                        std::move(new_headers), &made);
  }));
  PERIGEE_FAILPOINT_STATUS(meta_after_copy);
  return made;
}

}  // namespace perigee::objectd
