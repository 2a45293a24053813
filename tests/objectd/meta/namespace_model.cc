#include "tests/objectd/meta/namespace_model.h"

namespace perigee::objectd::test {

Model::Model(const std::vector<std::string>& buckets) {
  root_->directory = true;
  for (const auto& name : buckets) {
    auto bucket = std::make_shared<File>();
    bucket->directory = bucket->bucket = true;
    root_->kids[name + "/"] = bucket;
  }
}

Model::Ref Model::Find(const Ref& dir, const std::string& name) {
  for (const auto& component : {name + "/", name}) {
    auto it = dir->kids.find(component);
    if (it != dir->kids.end()) return it->second;
  }
  return nullptr;
}

Model::Ref Model::Walk(const std::vector<std::string>& names) const {
  Ref at = root_;
  for (const auto& name : names) {
    at = Find(at, name);
    if (!at || !at->directory) return nullptr;
  }
  return at;
}

bool Model::Contains(const Ref& dir, const Ref& inner) const {
  if (dir == inner) return true;
  for (const auto& [component, kid] : dir->kids) {
    if (kid->directory && Contains(kid, inner)) return true;
  }
  return false;
}

Model::Ref Model::BucketOf(const Ref& dir) const {
  for (const auto& [component, bucket] : root_->kids) {
    if (Contains(bucket, dir)) return bucket;
  }
  return nullptr;
}

Code Model::Mkdir(const Ref& dir, const std::string& name) {
  if (Find(dir, name)) return Code::kAlreadyExists;
  auto made = std::make_shared<File>();
  made->directory = true;
  dir->kids[name + "/"] = made;
  return Code::kOk;
}

Code Model::Create(const Ref& dir, const std::string& name, bool symlink) {
  if (Find(dir, name)) return Code::kAlreadyExists;
  auto made = std::make_shared<File>();
  made->symlink = symlink;
  dir->kids[name] = made;
  return Code::kOk;
}

Code Model::Write(const Ref& dir, const std::string& name, const std::string& content) {
  Ref file = Find(dir, name);
  if (!file) return Code::kNotFound;
  if (file->directory) return Code::kIsDirectory;
  if (file->symlink) return Code::kInvalidArgument;
  file->published = true;
  file->content = content;
  return Code::kOk;
}

Code Model::Unlink(const Ref& dir, const std::string& name) {
  Ref file = Find(dir, name);
  if (!file) return Code::kNotFound;
  if (file->directory) return Code::kIsDirectory;
  dir->kids.erase(name);
  if (dir->kids.empty()) dir->implicit = false;
  return Code::kOk;
}

Code Model::Rmdir(const Ref& dir, const std::string& name) {
  Ref file = Find(dir, name);
  if (!file) return Code::kNotFound;
  if (!file->directory) return Code::kNotDirectory;
  if (!file->kids.empty()) return Code::kNotEmpty;
  dir->kids.erase(name + "/");
  if (dir->kids.empty()) dir->implicit = false;
  return Code::kOk;
}

Code Model::Link(const Ref& from, const std::string& name, const Ref& to,
                 const std::string& new_name) {
  Ref file = Find(from, name);
  if (!file) return Code::kNotFound;
  if (file->directory) return Code::kPermissionDenied;
  if (BucketOf(from) != BucketOf(to)) return Code::kCrossDevice;
  if (Find(to, new_name)) return Code::kAlreadyExists;
  to->kids[new_name] = file;
  return Code::kOk;
}

Code Model::Rename(const Ref& from, const std::string& name, const Ref& to,
                   const std::string& new_name, bool no_replace, bool exchange) {
  Ref source = Find(from, name);
  if (!source) return Code::kNotFound;
  if (BucketOf(from) != BucketOf(to)) return Code::kCrossDevice;
  Ref target = Find(to, new_name);
  if (target && no_replace) return Code::kAlreadyExists;
  if (!target && exchange) return Code::kNotFound;
  if (source->directory && from != to && Contains(source, to)) return Code::kInvalidArgument;
  if (target == source) return Code::kOk;
  const std::string source_at = ComponentOf(source, name),
                    source_to = ComponentOf(source, new_name);
  if (exchange) {
    if (target->directory && from != to && Contains(target, from)) return Code::kInvalidArgument;
    const std::string target_at = ComponentOf(target, new_name),
                      target_to = ComponentOf(target, name);
    if (source_to != target_at && to->kids.contains(source_to)) return Code::kAlreadyExists;
    if (target_to != source_at && from->kids.contains(target_to)) return Code::kAlreadyExists;
    from->kids.erase(source_at);
    to->kids.erase(target_at);
    to->kids[source_to] = source;
    from->kids[target_to] = target;
    return Code::kOk;
  }
  if (target) {
    if (!source->directory && target->directory) return Code::kIsDirectory;
    if (source->directory && !target->directory) return Code::kNotDirectory;
    if (target->directory && !target->kids.empty()) return Code::kNotEmpty;
  }
  from->kids.erase(source_at);
  to->kids[source_to] = source;
  if (from->kids.empty()) from->implicit = false;
  return Code::kOk;
}

std::vector<Model::Ref> Model::Path(const std::string& bucket, const std::string& key, bool make,
                                    std::string* last) const {
  std::vector<Ref> path{root_->kids.at(bucket + "/")};
  size_t begin = 0;
  for (size_t slash; (slash = key.find('/', begin)) != std::string::npos; begin = slash + 1) {
    Ref& next = path.back()->kids[key.substr(begin, slash + 1 - begin)];
    if (!next) {
      if (!make) {
        path.back()->kids.erase(key.substr(begin, slash + 1 - begin));
        return {};
      }
      next = std::make_shared<File>();
      next->directory = next->implicit = true;
    }
    Ref step = next;
    path.push_back(step);
  }
  *last = key.substr(begin);
  return path;
}

Model::Ref Model::Visible(const std::vector<Ref>& path, const std::string& last) {
  if (path.empty()) return nullptr;
  const Ref& dir = path.back();
  auto it = dir->kids.find(last);
  if (it != dir->kids.end() && it->second->published && !it->second->symlink) return it->second;
  return last.empty() && !dir->implicit && !dir->bucket ? dir : nullptr;
}

Code Model::Put(const std::string& bucket, const std::string& key, const std::string& content,
                bool only_new) {
  std::string last;
  if (only_new && Visible(Path(bucket, key, false, &last), last)) return Code::kPreconditionFailed;
  auto path = Path(bucket, key, true, &last);
  Ref dir = path.back();
  if (last.empty() && content.empty()) {
    dir->kids.erase("");
    dir->implicit = false;
    return Code::kOk;
  }
  if (last.empty()) dir->implicit = true;
  auto made = std::make_shared<File>();
  made->published = true;
  made->content = content;
  dir->kids[last] = made;
  return Code::kOk;
}

Code Model::Get(const std::string& bucket, const std::string& key, std::string* content) const {
  std::string last;
  Ref file = Visible(Path(bucket, key, false, &last), last);
  if (!file) return Code::kNotFound;
  *content = file->directory ? "" : file->content;
  return Code::kOk;
}

Code Model::Delete(const std::string& bucket, const std::string& key, bool* removed) {
  std::string last;
  auto path = Path(bucket, key, false, &last);
  Ref file = Visible(path, last);
  *removed = file != nullptr;
  if (!file) return Code::kOk;
  if (file->directory)
    file->implicit = true;
  else
    path.back()->kids.erase(last);
  for (size_t i = path.size() - 1; i > 0 && path[i]->implicit && path[i]->kids.empty(); --i) {
    for (auto it = path[i - 1]->kids.begin(); it != path[i - 1]->kids.end(); ++it) {
      if (it->second != path[i]) continue;
      path[i - 1]->kids.erase(it);
      break;
    }
  }
  return Code::kOk;
}

Code Model::Copy(const std::string& bucket, const std::string& from, const std::string& to) {
  std::string content;
  if (Code code = Get(bucket, from, &content); code != Code::kOk) return code;
  return Put(bucket, to, content, false);
}

namespace {

void ListKeys(const Model::Ref& dir, const std::string& path, std::vector<std::string>* keys) {
  for (const auto& [component, kid] : dir->kids) {
    std::string key = path + component;
    if (kid->directory) {
      if (!kid->implicit) keys->push_back(key);
      ListKeys(kid, key, keys);
    } else if (kid->published && !kid->symlink) {
      keys->push_back(key);
    }
  }
}

void ListNames(const Model::Ref& dir, const std::string& path, std::vector<std::string>* names) {
  for (const auto& [component, kid] : dir->kids) {
    if (component.empty() || component == "/" ||
        (!kid->directory && dir->kids.contains(component + "/")))
      continue;
    std::string name = path + component;
    if (kid->directory) {
      names->push_back(name);
      ListNames(kid, name, names);
    } else {
      names->push_back(name + (kid->symlink ? "@" : kid->published ? "=" + kid->content : "?"));
    }
  }
}

}  // namespace

std::vector<std::string> Model::ListObjects(const std::string& bucket) const {
  std::vector<std::string> keys;
  ListKeys(root_->kids.at(bucket + "/"), "", &keys);
  return keys;
}

std::vector<std::string> Model::ListMount(const Ref& dir) const {
  std::vector<std::string> names;
  ListNames(dir, "", &names);
  return names;
}

}  // namespace perigee::objectd::test
