#pragma once
// A namespace over MemStore on a manual clock, and short ways to say what most tests do. Its end
// checks the rows.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "objectd/kv/mem_store.h"
#include "objectd/meta/namespace.h"
#include "tests/objectd/meta/fsck_all.h"
#include "tests/objectd/meta/tree_check.h"

namespace perigee::objectd::test {

// A Result that must be ok.
template <class T>
T Must(Result<T> result) {
  INFO(result.status().ToString());
  REQUIRE(result.ok());
  return std::move(result).value();
}
inline void Must(const Status& status) {
  INFO(status.ToString());
  REQUIRE(status.ok());
}

struct Fixture {
  Fixture() : Fixture(NamespaceOptions{}) {}
  explicit Fixture(NamespaceOptions options)
      : store(kv::MemStore::Create()),
        registry(metrics::Registry::Create()),
        ns(Must(Namespace::Create(*store, clock, *registry, options))) {}
  // With directories that nodes may hold.
  explicit Fixture(DirectoryHolds::Tell tell)
      : store(kv::MemStore::Create()),
        registry(metrics::Registry::Create()),
        holds(Must(DirectoryHolds::Create(*store, clock, *registry, std::move(tell)))),
        ns(Must(Namespace::Create(*store, clock, *registry, {.holds = holds.get()}))) {}
  ~Fixture() {
    std::string wrong;
    for (const auto& line : CheckTree(*store)) wrong += line + "\n";
    for (const auto& f : FsckAll(*store, clock).findings) wrong += f.what + "\n";
    CHECK(wrong == "");
  }

  static wire::MakeRequest Make(wire::FileId parent, const std::string& name,
                                uint32_t mode = 0755) {
    return {.parent = parent, .name = name, .mode = mode};
  }
  wire::FileId Bucket(const std::string& name) { return Must(ns->CreateBucket({.name = name})).id; }
  wire::FileId Dir(wire::FileId parent, const std::string& name) {
    return Must(ns->Mkdir(Make(parent, name))).record.id;
  }
  // A published inline file.
  wire::FileId File(wire::FileId parent, const std::string& name, const std::string& bytes = "x") {
    wire::FileId id = Create(parent, name, 1, next_burst);
    Must(ns->Publish({.id = id,
                      .node = 1,
                      .burst = next_burst,
                      .generation = 1,
                      .size = bytes.size(),
                      .has_inline = true},
                     bytes));
    Must(ns->EndWrite({.id = id, .node = 1, .burst = next_burst++}));
    return id;
  }
  // A file that `node` is writing.
  wire::FileId Create(wire::FileId parent, const std::string& name, wire::NodeId node,
                      wire::BurstId burst) {
    wire::MakeRequest q = Make(parent, name, 0644);
    q.writer = wire::WriterInfo{.node = node, .burst = burst};
    return Must(ns->CreateFile(q)).record.id;
  }
  Result<wire::RecordReply> Lookup(wire::FileId parent, const std::string& name) {
    return ns->Lookup({.parent = parent, .name = name});
  }
  Result<wire::RecordReply> Path(const std::string& path) { return ns->Lookup({.path = path}); }
  Result<wire::RenameReply> Rename(wire::FileId from, const std::string& name, wire::FileId to,
                                   const std::string& new_name, uint32_t flags = 0) {
    return ns->Rename(
        {.parent = from, .name = name, .new_parent = to, .new_name = new_name, .flags = flags});
  }
  Code Unlink(wire::FileId parent, const std::string& name) {
    return ns->Unlink({.parent = parent, .name = name}).code();
  }
  Code Rmdir(wire::FileId parent, const std::string& name) {
    return ns->Rmdir({.parent = parent, .name = name}).code();
  }
  std::vector<std::string> Names(wire::FileId dir, uint32_t page = 1024) {
    std::vector<std::string> names;
    std::string after;
    while (true) {
      auto reply = Must(ns->ReadDir({.dir = dir, .after = after, .limit = page}));
      for (const auto& item : reply.items) names.push_back(item.name);
      if (reply.end) return names;
      if (!reply.items.empty()) after = reply.items.back().key;
    }
  }

  static NewContent Inline(const std::string& bytes, const std::string& etag = "e") {
    return {.size = bytes.size(), .etag = etag, .inline_bytes = bytes};
  }
  // `count` blobs of 1 MiB from `seq` on.
  static NewContent Blobs(uint64_t seq, uint32_t count = 1, const std::string& etag = "e") {
    const uint64_t mib = 1 << 20;
    return {.size = count * mib,
            .etag = etag,
            .extents = {{.length = count * mib,
                         .volume = 7,
                         .first_seq = seq,
                         .count = count,
                         .blob_bytes = mib}}};
  }
  Result<wire::Record> Put(const std::string& bucket, const std::string& key,
                           const std::string& bytes = "x") {
    return ns->PutObject(bucket, key, Inline(bytes), {}, {});
  }
  Result<std::string> Get(const std::string& bucket, const std::string& key) {
    PERIGEE_ASSIGN(wire::Record r, ns->GetObject(bucket, key));
    if (r.committed->layout.kind != wire::LayoutKind::kInline) return std::string();
    return ns->ReadInline(r.id, r.committed->generation);
  }
  std::vector<std::string> Keys(const std::string& bucket, ListQuery query = {}) {
    std::vector<std::string> keys;
    for (const auto& [key, record] : Must(ns->ListObjects(bucket, query)).objects)
      keys.push_back(key);
    return keys;
  }
  std::vector<wire::Change> Changes(uint64_t after = 0) {
    return Must(ns->Feed({.after = after, .limit = 4096})).changes;
  }
  std::vector<std::pair<wire::NodeId, wire::BurstId>> Released(uint64_t after = 0) {
    std::vector<std::pair<wire::NodeId, wire::BurstId>> bursts;
    for (const auto& c : Changes(after)) {
      if (c.kind == wire::ChangeKind::kReleasedBurst) bursts.emplace_back(c.node, c.burst);
    }
    return bursts;
  }
  uint64_t Now() { return Must(ns->Feed({.after = kv::Store::kFeedEnd})).next; }

  ManualClock clock;
  std::unique_ptr<kv::MemStore> store;
  std::unique_ptr<metrics::Registry> registry;
  std::unique_ptr<DirectoryHolds> holds;
  std::unique_ptr<Namespace> ns;
  wire::BurstId next_burst = 1000;
};

using Strings = std::vector<std::string>;

}  // namespace perigee::objectd::test
