#pragma once
// A model of the namespace's semantics in plain maps, written from ARCHITECTURE section 3 and
// POSIX, not from the code: one tree, directories' components end in '/', implicit directories go
// with their last entry. No ids, no transactions.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace perigee::objectd::test {

class Model {
 public:
  struct File {
    bool directory = false;
    bool implicit = false;
    bool bucket = false;
    bool symlink = false;
    bool published = false;
    std::string content;
    std::map<std::string, std::shared_ptr<File>> kids;  // by component
  };
  using Ref = std::shared_ptr<File>;

  explicit Model(const std::vector<std::string>& buckets);

  // Names from the root; null when something on the way is missing or no directory.
  Ref Walk(const std::vector<std::string>& names) const;

  Code Mkdir(const Ref& dir, const std::string& name);
  Code Create(const Ref& dir, const std::string& name, bool symlink);
  Code Write(const Ref& dir, const std::string& name, const std::string& content);
  Code Unlink(const Ref& dir, const std::string& name);
  Code Rmdir(const Ref& dir, const std::string& name);
  Code Link(const Ref& from, const std::string& name, const Ref& to, const std::string& new_name);
  Code Rename(const Ref& from, const std::string& name, const Ref& to, const std::string& new_name,
              bool no_replace, bool exchange);

  Code Put(const std::string& bucket, const std::string& key, const std::string& content,
           bool only_new);
  Code Get(const std::string& bucket, const std::string& key, std::string* content) const;
  Code Delete(const std::string& bucket, const std::string& key, bool* removed);
  Code Copy(const std::string& bucket, const std::string& from, const std::string& to);

  std::vector<std::string> ListObjects(const std::string& bucket) const;
  // "name" or "name/", as a walk over the mount sees them, with what is inside.
  std::vector<std::string> ListMount(const Ref& dir) const;

 private:
  static Ref Find(const Ref& dir, const std::string& name);
  static std::string ComponentOf(const Ref& file, const std::string& name) {
    return file->directory ? name + "/" : name;
  }
  bool Contains(const Ref& dir, const Ref& inner) const;  // or is it
  Ref BucketOf(const Ref& dir) const;
  // The directories of a key from the bucket on, and the last component; empty when one is missing
  // (and `make` is not set).
  std::vector<Ref> Path(const std::string& bucket, const std::string& key, bool make,
                        std::string* last) const;
  static Ref Visible(const std::vector<Ref>& path, const std::string& last);

  Ref root_ = std::make_shared<File>();
};

}  // namespace perigee::objectd::test
