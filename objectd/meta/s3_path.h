#pragma once
// Keys of S3 in the tree: "a/b/c" is component "c" in directory "b/" in "a/" of the bucket. A key
// that ends in '/' names the directory itself (a zero-byte object: an explicit directory), or, when
// it has content, the empty component in it.

#include <optional>
#include <string>
#include <vector>

#include "objectd/meta/namespace.h"
#include "objectd/meta/tree.h"

namespace perigee::objectd {

// Where a key is, or would be.
struct KeyPlace {
  Node dir;               // the directory that holds the entry; the bucket itself at the top
  std::string component;  // "" for a key that ends in '/'
  bool is_marker() const { return component.empty(); }
};

// kNotFound, "NoSuchBucket".
Result<Node> FindBucket(Tree& tree, const std::string& bucket, kv::ReadMode mode);
Status NoSuchKey(const std::string& key);
// Nothing when a directory on the way is missing.
Result<std::optional<KeyPlace>> FindKey(Tree& tree, const Node& bucket, const std::string& key,
                                        kv::ReadMode mode);
// Makes missing directories, implicit ones, with ids from `first_id` on; DirectoriesIn(key)
// suffice.
Result<KeyPlace> MakeKeyPlace(Tree& tree, const Node& bucket, const std::string& key,
                              wire::FileId first_id);
size_t DirectoriesIn(const std::string& key);

// Whether S3 sees an entry: regular files with a committed version.
bool IsVisible(const Node& node);
bool IsVisible(const RecordSummary& record);
// An explicit directory as the zero-byte object it also is.
wire::Record MarkerOf(wire::Record directory);
// The object at a place as S3 sees it.
Result<std::optional<Node>> VisibleObject(Tree& tree, const KeyPlace& at, kv::ReadMode mode);

// kPreconditionFailed; kNotFound when If-Match asks for an object that is not there.
Status CheckConditions(const std::optional<Node>& current, const Preconditions& conditions,
                       const std::string& key);

// Puts a new object (its content already acquired, or none) at `at`, in place of what is there.
// Zero bytes at a key that ends in '/' make the directory explicit instead. s3_objects.cc.
Status PutNewObject(Tree& tree, const Node& bucket, KeyPlace at, wire::FileId id,
                    wire::Version version, std::vector<wire::Attribute> headers,
                    wire::Record* made);

}  // namespace perigee::objectd
