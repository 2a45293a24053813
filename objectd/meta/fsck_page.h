#pragma once
// FsckPage: one page of a check, in one transaction: the rows to look at, what others say of them,
// what was found, and its mending. Belongs to the thread that runs the closure.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "objectd/kv/key_space.h"
#include "objectd/meta/tree.h"
#include "objectd/volume/reference_keys.h"
#include "rdma/wire/fsck.h"

namespace perigee::objectd {

class FsckPage {
 public:
  // `reply` starts with the cursor to go on from.
  FsckPage(kv::Transaction& txn, bool repair, int64_t now, wire::FsckReply* reply)
      : txn_(txn), repair_(repair), now_(now), reply_(reply) {}

  int64_t now() const { return now_; }
  // The next rows of the key space, and the reply's cursor behind them.
  Result<std::vector<kv::KeyValue>> NextRows(kv::KeySpace space, size_t limit);
  // Under conflict while mending.
  Result<std::optional<std::string>> Get(const std::string& key);
  Result<bool> Has(const std::string& key);
  Result<std::vector<kv::KeyValue>> Scan(const kv::Range& range, size_t limit);

  // Notes the finding. True: it is to be mended now, by Put and Delete.
  bool Found(wire::FsckKind kind, std::string what, std::string remedy);
  void Unreadable(std::string_view key, const Status& why);
  void Put(const std::string& key, std::string_view value);
  void Delete(const std::string& key);
  // The row that was scanned must still be the same when what it says is mended.
  void DependOn(const std::string& key) {
    if (repair_) txn_.ConflictOn(key);
  }
  kv::Transaction& txn() { return txn_; }
  wire::FsckReply& reply() { return *reply_; }

  // The record behind an entry's value; linked: from the inode table. Absent: no such inode.
  Result<std::optional<Node>> Resolve(Place place, std::string_view value);
  // By the index of ids; absent when the index, or what it points to, does not have the id.
  Result<std::optional<Node>> ById(wire::FileId id);
  // "bucket/a/b", as far as rows tell.
  std::string Name(const Place& place);
  // The blobs, bytes or list of a version, and burst files, which are noted for the caller.
  Status CheckContent(const wire::Record& record, const std::string& name);
  // `owner` holds each blob of `extents`; what is missing is referred to again.
  Status CheckReferences(const ContentOwner& owner, const std::vector<wire::Extent>& extents,
                         const std::string& whose);

 private:
  Status CheckVersion(wire::FileId id, const wire::Version& version, const std::string& name);

  kv::Transaction& txn_;
  const bool repair_;
  const int64_t now_;
  wire::FsckReply* const reply_;
  size_t written_ = 0;
};

// The checks; each looks at one page.
Status FsckEntries(FsckPage& page);
Status FsckIndex(FsckPage& page);
Status FsckInodes(FsckPage& page);
Status FsckDirectories(FsckPage& page);
Status FsckReferences(FsckPage& page);
Status FsckLists(FsckPage& page);
Status FsckInline(FsckPage& page);
Status FsckCounters(FsckPage& page);

}  // namespace perigee::objectd
