// Buckets: directories of the root with settings.

#include <algorithm>

#include "objectd/meta/names.h"
#include "objectd/meta/namespace_impl.h"
#include "objectd/meta/s3_path.h"

namespace perigee::objectd {

// `mode` is the directory's; what S3 writes into it gets the same rights, less executing.
Status NamespaceImpl::MakeBucket(Tree& tree, wire::FileId id, const std::string& name, uint32_t uid,
                                 uint32_t gid, uint32_t mode, wire::Record* made) {
  wire::Record record{.id = id,
                      .kind = wire::FileKind::kDirectory,
                      .mode = mode,
                      .uid = uid,
                      .gid = gid,
                      .nlink = 2};
  record.atime = record.mtime = record.ctime = record.btime = tree.now();
  record.bucket =
      wire::BucketSettings{.uid = uid, .gid = gid, .mode = mode & 0666, .created = tree.now()};
  PERIGEE_TRY(tree.Insert({wire::kRootId, name + "/"}, record, id));
  *made = std::move(record);
  return Status::Ok();
}

// The bucket is empty. Uploads into it, which nobody can complete any more, are left to CleanUp.
Status NamespaceImpl::RemoveBucket(Tree& tree, const Node& bucket) {
  const wire::FileId id = bucket.record.id;
  PERIGEE_ASSIGN(auto uploads, tree.txn().Scan(kv::PrefixRange(keys::UploadPrefix(id, "")), 1,
                                               kv::Direction::kForward, kv::ReadMode::kConflict));
  if (!uploads.empty()) {
    tree.txn().Put(keys::EncodeChore({.due = tree.now(), .kind = Chore::kBucketUploads, .id = id}),
                   std::string(1, kFormatBody));
  }
  return tree.Remove(bucket);
}

Result<wire::Record> NamespaceImpl::CreateBucket(const wire::CreateBucketRequest& q) {
  PERIGEE_TRY(CheckBucketName(q.name));
  PERIGEE_ASSIGN(wire::FileId id, NewIds(1));
  wire::Record made;
  PERIGEE_TRY(CommitDurable([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(auto existing, tree.Find(wire::kRootId, q.name + "/", kv::ReadMode::kConflict));
    if (existing) return Status(Code::kAlreadyExists, "bucket '" + q.name + "' exists");
    const uint32_t mode = q.mode & 0666;
    return MakeBucket(tree, id, q.name, q.uid, q.gid, mode | ((mode & 0444) >> 2), &made);
  }));
  return made;
}

Status NamespaceImpl::DeleteBucket(const std::string& bucket) {
  return CommitDurable([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Node node, FindBucket(tree, bucket, kv::ReadMode::kConflict));
    PERIGEE_ASSIGN(bool empty, tree.IsEmpty(node.record.id, ""));
    if (!empty) return Status(Code::kNotEmpty, "bucket '" + bucket + "' is not empty");
    return RemoveBucket(tree, node);
  });
}

Result<wire::Record> NamespaceImpl::HeadBucket(const std::string& bucket) {
  wire::Record record;
  PERIGEE_TRY(ReadDurable([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Node node, FindBucket(tree, bucket, kv::ReadMode::kSnapshot));
    PERIGEE_TRY(tree.MergeTimes(&node.record));
    record = std::move(node.record);
    return Status::Ok();
  }));
  return record;
}

Result<std::vector<std::pair<std::string, wire::Record>>> NamespaceImpl::ListBuckets() {
  constexpr size_t kPage = 1000;
  std::vector<std::pair<std::string, wire::Record>> buckets;
  PERIGEE_TRY(ReadDurable([&](Tree& tree) -> Status {
    buckets.clear();
    for (std::string from;;) {
      PERIGEE_ASSIGN(auto nodes, tree.List(wire::kRootId, from, "", kPage));
      for (auto& node : nodes)
        buckets.emplace_back(NameOf(node.place.component), std::move(node.record));
      if (nodes.size() < kPage) break;
      from = nodes.back().place.component + std::string(1, '\0');
    }
    return Status::Ok();
  }));
  // Components end in '/', names do not: "a-b/" sorts before "a/".
  std::sort(buckets.begin(), buckets.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  return buckets;
}

}  // namespace perigee::objectd
