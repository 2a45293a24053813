#pragma once
// What a MemDisk and its open files share: the tree of nodes, and the File over one of them. For
// mem_disk.cc and mem_file.cc only.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/disk.h"
#include "base/mem_pages.h"
#include "base/random.h"

namespace perigee::internal {

struct MemNode {
  bool is_directory = false;
  uint64_t inode = 0;
  // Directories:
  std::map<std::string, std::shared_ptr<MemNode>> names;
  std::map<std::string, std::shared_ptr<MemNode>> synced_names;
  // Files:
  MemPages pages;
  uint64_t links = 0;  // live names
  uint64_t opens = 0;
};
using MemNodePtr = std::shared_ptr<MemNode>;

// Shared, because files may outlive the disk.
struct MemTree {
  explicit MemTree(uint64_t seed) : random(seed) {
    root->is_directory = true;
    root->inode = next_inode++;
    nodes.push_back(root);
  }
  ~MemTree() {
    // Synced and live names together may form a circle.
    for (auto& weak : nodes) {
      if (MemNodePtr node = weak.lock()) {
        node->names.clear();
        node->synced_names.clear();
      }
    }
  }

  // Calls the fault knob without the lock, because a fault may wait.
  Status Ask(std::string_view op, const std::string& path) {
    std::function<Status(std::string_view, const std::string&)> ask;
    {
      std::lock_guard lock(mu);
      ask = fault;
    }
    return ask ? ask(op, path) : Status::Ok();
  }

  MemNodePtr MakeNode(bool is_directory) {
    auto node = std::make_shared<MemNode>();
    node->is_directory = is_directory;
    node->inode = next_inode++;
    if (nodes.size() >= prune_at) {
      std::erase_if(nodes, [](const auto& weak) { return weak.expired(); });
      prune_at = 2 * nodes.size() + 1024;
    }
    nodes.push_back(node);
    return node;
  }

  // Runs `change` on the pages of `file` and keeps the count of used bytes.
  template <class Change>
  void Account(MemNode& file, Change change) {
    uint64_t before = file.pages.allocated_bytes();
    change(file.pages);
    used += file.pages.allocated_bytes() - before;
  }

  bool Fits(const MemNode& file, uint64_t offset, uint64_t bytes) const {
    uint64_t more = file.pages.Missing(offset, bytes);
    return more == 0 || (used <= capacity && more <= capacity - used);
  }

  void DropLink(MemNode& node) {
    --node.links;
    FreeIfGone(node);
  }
  void FreeIfGone(MemNode& node) {
    if (node.links == 0 && node.opens == 0) used -= node.pages.allocated_bytes();
  }

  std::mutex mu;  // guards all
  Random random;
  uint64_t next_inode = 1;
  MemNodePtr root = std::make_shared<MemNode>();
  std::vector<std::weak_ptr<MemNode>> nodes;  // all, and some that are gone
  size_t prune_at = 1024;
  uint64_t generation = 0;  // counts crashes; files opened before are dead
  uint64_t capacity = uint64_t{1} << 40;
  uint64_t used = 0;
  std::function<Status(std::string_view, const std::string&)> fault;
};

// The Status of an errno, as the kernel would have it.
Status MemError(int err, std::string_view what, const std::string& path);

class MemFile final : public File {
 public:
  // tree->mu is held.
  MemFile(std::shared_ptr<MemTree> tree, MemNodePtr node, std::string path, bool writable,
          bool direct);
  ~MemFile() override;

  Result<size_t> ReadAt(uint64_t offset, MutableBytes data) override;
  Status WriteAt(uint64_t offset, ConstBytes data) override;
  Status SyncData() override;
  Status Truncate(uint64_t size) override;
  Status Allocate(uint64_t offset, uint64_t bytes) override;
  Status PunchHole(uint64_t offset, uint64_t bytes) override;
  Result<uint64_t> Size() override;
  Result<uint64_t> AllocatedBytes() override;
  int fd() const override { return -1; }

 private:
  template <class Fn>
  Status Change(std::string_view what, uint64_t offset, uint64_t bytes, const uint8_t* data,
                Fn change);
  Status CheckAlive(std::string_view what) const;
  Status CheckWritable(std::string_view what) const;
  Status CheckAligned(std::string_view what, uint64_t offset, size_t bytes, const void* data) const;

  const std::shared_ptr<MemTree> tree_;
  const MemNodePtr node_;
  const std::string path_;
  const uint64_t generation_;
  const bool writable_;
  const bool direct_;
};

}  // namespace perigee::internal
