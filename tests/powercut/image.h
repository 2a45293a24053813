#pragma once
// Image: a file system in memory that knows what of it is on the disk.
//
// Everything is changed in the live state; the durable state follows at Sync: of a file its data
// and size, of a directory its entries (a file's own sync does not keep its entry: stricter than
// ext4). A rename is one change of both directories, and is synced with either. Attributes that
// are not data are durable at once. Cut makes of it what a disk may hold after power loss: what was
// synced, and of the rest what a page cache may have written back by then:
//   - changes of directories: none, all, or some, never one without those before it in a directory;
//   - pages (4 KiB) of files: for each the content after some of the unsynced writes to it; the
//     last page of a file may be torn, 512-byte sectors of it old and others new.
// What is below a kept name (logs, say) is durable at once. Calls return 0 or an errno.
// Not thread-safe.

#include <array>
#include <cstdint>
#include <ctime>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/random.h"

namespace perigee::powercut {

using Ino = uint64_t;

struct Owner {
  uint32_t uid = 0, gid = 0;
};

struct Attributes {
  uint32_t mode = 0;  // with the type
  Owner owner;
  uint64_t size = 0, bytes = 0, device = 0;
  uint32_t links = 1;
  timespec atime{}, mtime{}, ctime{};
};

struct Entry {
  std::string name;
  Ino ino = 0;
};

class Image {
 public:
  static constexpr Ino kRoot = 1;
  static constexpr uint64_t kPage = 4096;
  static constexpr uint64_t kSector = 512;

  // `kept`: names whose files, and whose directories' content, are never lost.
  explicit Image(std::set<std::string> kept = {});

  // The namespace. Names are single components; the caller has checked that `parent` is a directory
  // and that rights suffice.
  Ino Find(Ino parent, const std::string& name) const;  // 0: absent
  int Make(Ino parent, const std::string& name, uint32_t mode, Owner owner, Ino* made,
           uint64_t device = 0, std::string target = "");
  int Link(Ino ino, Ino parent, const std::string& name);
  int Unlink(Ino parent, const std::string& name);
  int RemoveDir(Ino parent, const std::string& name);
  int Rename(Ino parent, const std::string& name, Ino to_parent, const std::string& to_name,
             bool replace);
  std::vector<Entry> List(Ino dir) const;

  // Files.
  size_t Read(Ino ino, uint64_t offset, std::span<char> to) const;
  void Write(Ino ino, uint64_t offset, std::span<const char> data);
  void Truncate(Ino ino, uint64_t size);  // or extends
  void Punch(Ino ino, uint64_t offset, uint64_t bytes);
  // The first offset from `offset` on that is data (or a hole); the size ends the last hole.
  std::optional<uint64_t> Seek(Ino ino, uint64_t offset, bool data) const;

  const Attributes& Stat(Ino ino) const;
  Attributes& Change(Ino ino);  // all but size, bytes and links
  const std::string& Target(Ino ino) const;
  bool IsDir(Ino ino) const;
  std::string Path(Ino ino) const;  // by its last name; for people and faults

  // The kernel knows the inode: it stays, though it has no name.
  void Remember(Ino ino);
  void Forget(Ino ino, uint64_t times);

  void Sync(Ino ino);
  // The kernel's references are gone with it. The same seed on the same history cuts the same.
  void Cut(uint64_t seed);

  uint64_t bytes() const { return pages_ * kPage; }  // live

 private:
  using Page = std::array<char, kPage>;
  using PageRef = std::shared_ptr<const Page>;
  struct Content {
    std::map<uint64_t, PageRef> pages;
    uint64_t size = 0;
  };
  struct FileChange {
    bool resize = false;
    uint64_t index = 0;  // of the page
    PageRef page;        // null: a hole
    uint64_t size = 0;   // resize: the new size; else at least this
  };
  using Names = std::map<std::string, Ino>;
  struct Node {
    Attributes attributes;
    Content live, durable;
    timespec durable_mtime{}, durable_ctime{};
    std::deque<FileChange> unsynced;
    Names names, durable_names;
    std::string target;
    uint64_t remembered = 0;
    bool kept = false;
    Ino parent = 0;
    std::string name;
  };
  struct NameChange {
    Ino dir = 0;
    std::string name;
    Ino ino = 0;  // 0: removed
  };
  using DirChange = std::vector<NameChange>;  // one that happens whole

  Node& At(Ino ino);
  const Node& At(Ino ino) const;
  void Apply(DirChange change);
  void MakeDurable(const DirChange& change);
  void SyncDir(Ino dir);
  void Put(Node& node, FileChange change);
  static void ApplyTo(Content* content, const FileChange& change);
  void CutDirs(Random& random);
  void CutFile(Random& random, Node& node);
  static PageRef Torn(Random& random, const PageRef& before, const PageRef& after);
  void Collect();
  void Touch(Node& node);

  const std::set<std::string> kept_;
  std::map<Ino, Node> nodes_;
  std::deque<DirChange> unsynced_dirs_;
  Ino next_ = kRoot + 1;
  uint64_t pages_ = 0;
  uint64_t removed_ = 0;  // names since the last Collect
};

}  // namespace perigee::powercut
