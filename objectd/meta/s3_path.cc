#include "objectd/meta/s3_path.h"

#include <algorithm>

#include "objectd/meta/names.h"

namespace perigee::objectd {
namespace {

constexpr std::string_view kEmptyMd5 = "d41d8cd98f00b204e9800998ecf8427e";

std::string_view Trim(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

// `list`: "*", or etags with or without quotes, separated by commas.
bool Matches(std::string_view list, const std::string& etag) {
  while (true) {
    const size_t comma = list.find(',');
    std::string_view one = Trim(list.substr(0, comma));
    if (one == "*") return true;
    if (one.size() >= 2 && one.front() == '"' && one.back() == '"')
      one = one.substr(1, one.size() - 2);
    if (one == etag) return true;
    if (comma == std::string_view::npos) return false;
    list.remove_prefix(comma + 1);
  }
}

// "a/b/c" -> directory components "a/", "b/" and the rest "c".
std::vector<std::string_view> DirectoryComponents(std::string_view key, std::string_view* rest) {
  std::vector<std::string_view> components;
  for (size_t slash; (slash = key.find('/')) != std::string_view::npos;
       key.remove_prefix(slash + 1)) {
    components.push_back(key.substr(0, slash + 1));
  }
  *rest = key;
  return components;
}

}  // namespace

Result<Node> FindBucket(Tree& tree, const std::string& bucket, kv::ReadMode mode) {
  std::optional<Node> node;
  if (CheckBucketName(bucket).ok()) {
    PERIGEE_ASSIGN(node, tree.Find(wire::kRootId, bucket + "/", mode));
  }
  if (!node) return Status(Code::kNotFound, "NoSuchBucket: no bucket '" + bucket + "'");
  return std::move(*node);
}

Status NoSuchKey(const std::string& key) {
  return Status(Code::kNotFound, "NoSuchKey: no object '" + key + "'");
}

size_t DirectoriesIn(const std::string& key) {
  return static_cast<size_t>(std::count(key.begin(), key.end(), '/'));
}

Result<std::optional<KeyPlace>> FindKey(Tree& tree, const Node& bucket, const std::string& key,
                                        kv::ReadMode mode) {
  std::string_view rest;
  Node dir = bucket;
  for (std::string_view component : DirectoryComponents(key, &rest)) {
    PERIGEE_ASSIGN(auto next, tree.Find(dir.record.id, component, mode));
    if (!next) return std::optional<KeyPlace>();
    dir = std::move(*next);
  }
  return std::optional<KeyPlace>(KeyPlace{std::move(dir), std::string(rest)});
}

Result<KeyPlace> MakeKeyPlace(Tree& tree, const Node& bucket, const std::string& key,
                              wire::FileId first_id) {
  const wire::BucketSettings settings = bucket.record.bucket.value_or(wire::BucketSettings{});
  std::string_view rest;
  Node dir = bucket;
  bool missing = false;
  for (std::string_view component : DirectoryComponents(key, &rest)) {
    std::optional<Node> next;
    if (!missing) {
      PERIGEE_ASSIGN(next, tree.Find(dir.record.id, component, kv::ReadMode::kConflict));
    }
    if (!next) {
      missing = true;
      next = Node{.place = {dir.record.id, std::string(component)}};
      wire::Record& r = next->record;
      r.id = first_id++;
      r.kind = wire::FileKind::kDirectory;
      r.mode = settings.mode | ((settings.mode & 0444) >> 2);
      r.uid = settings.uid;
      r.gid = settings.gid;
      r.nlink = 2;
      r.implicit = true;
      r.atime = r.mtime = r.ctime = r.btime = tree.now();
      PERIGEE_TRY(tree.Insert(next->place, r, bucket.record.id));
    }
    dir = std::move(*next);
  }
  return KeyPlace{std::move(dir), std::string(rest)};
}

bool IsVisible(const Node& node) {
  return node.record.kind == wire::FileKind::kFile && node.record.committed.has_value();
}

bool IsVisible(const RecordSummary& record) {
  return record.kind == wire::FileKind::kFile && record.committed.has_value();
}

wire::Record MarkerOf(wire::Record directory) {
  directory.committed = wire::Version{.generation = 1,
                                      .mtime = directory.mtime,
                                      .etag = std::string(kEmptyMd5),
                                      .durability = wire::Durability::kObject};
  return directory;
}

Result<std::optional<Node>> VisibleObject(Tree& tree, const KeyPlace& at, kv::ReadMode mode) {
  PERIGEE_ASSIGN(auto node, tree.Find(at.dir.record.id, at.component, mode));
  if (node && IsVisible(*node)) return node;
  if (!at.is_marker() || at.dir.record.implicit || at.dir.record.bucket)
    return std::optional<Node>();
  Node marker = at.dir;
  marker.record = MarkerOf(std::move(marker.record));
  return std::optional<Node>(std::move(marker));
}

Status CheckConditions(const std::optional<Node>& current, const Preconditions& conditions,
                       const std::string& key) {
  if (conditions.if_match) {
    if (!current) return NoSuchKey(key);
    if (!Matches(*conditions.if_match, current->record.committed->etag)) {
      return Status(Code::kPreconditionFailed, "If-Match: the object's ETag is another");
    }
  }
  if (conditions.if_none_match && current &&
      Matches(*conditions.if_none_match, current->record.committed->etag)) {
    return Status(Code::kPreconditionFailed, "If-None-Match: the object is there");
  }
  return Status::Ok();
}

}  // namespace perigee::objectd
