#pragma once
// Model: what users were told, so that what the doors show can be held to it.
//
// A key's state is a set of contents: one while every call on it was answered, more while one was
// not. Between two looks only one door changes a key.

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace perigee::sim {

using Content = std::optional<std::string>;  // none: no such key

std::string Words(const Content& content);

class Key {
 public:
  explicit Key(std::string path) : path_(std::move(path)) {}
  const std::string& path() const { return path_; }
  bool doubtful() const { return states_.size() > 1; }
  const Content& content() const { return states_.front(); }
  size_t changes() const { return history_.size(); }  // calls that began, and what became of them

  // A call starts that ends in one of these, or did not happen.
  void Begin(const std::string& what, const std::vector<Content>& outcomes);
  // It was answered. What came before its last durable state is gone for good.
  void Acknowledged(const Content& content);
  enum class At { kNode, kObjectTier };
  void Durable(At at);
  // `moved` is about to take its place: it may fall back to what that was before, whole. It is not
  // emptied by that where the object tier has what was replaced.
  void ReplacedBy(const Key& moved);
  // The call did not happen.
  void Refused(const Content& before);
  // Power was lost somewhere: what was not durable may be undone.
  void PowerCut();
  // All doors were asked and showed this.
  void Settled(const Content& seen);

  bool Allows(const Content& seen) const;   // once everything has settled
  bool MayShow(const Content& seen) const;  // at any time since the last look
  std::string Expected() const;

 private:
  static void Add(std::vector<Content>* to, const Content& content);

  const std::string path_;
  std::vector<Content> states_{std::nullopt};
  bool in_object_tier_ = false;
  std::vector<Content> since_durable_{std::nullopt};
  std::vector<Content> since_look_{std::nullopt};
  std::vector<std::string> history_;
};

}  // namespace perigee::sim
