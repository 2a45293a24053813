// A journal of names and what is left of it name the same files in the end.

#include "bufferd/names_compact.h"

#include <doctest/doctest.h>

#include "base/random.h"
#include "rdma/wire/methods.h"

using namespace perigee;
using namespace perigee::bufferd;
using wire::FileId;
using wire::Method;

namespace {

using Name = std::pair<FileId, std::string>;

// The names of one bucket's directories, changed by ops as objectd would.
struct Place {
  std::map<Name, FileId> names;
  std::map<FileId, bool> directories{{1, true}};

  bool Empty(FileId dir) const {
    auto it = names.lower_bound({dir, ""});
    return it == names.end() || it->first.first != dir;
  }
  bool Apply(const NameOp& op) {
    switch (static_cast<Method>(op.method)) {
      case Method::kMetaCreate:
      case Method::kMetaMkdir: {
        auto q = *wire::Decode<wire::MakeRequest>(op.request);
        if (!directories.contains(q.parent) || names.contains({q.parent, q.name})) return false;
        names[{q.parent, q.name}] = op.id;
        if (static_cast<Method>(op.method) == Method::kMetaMkdir) directories[op.id] = true;
        return true;
      }
      case Method::kMetaRename: {
        auto q = *wire::Decode<wire::RenameRequest>(op.request);
        Name from{q.parent, q.name}, to{q.new_parent, q.new_name};
        auto there = names.find(to);
        if (!names.contains(from) || names[from] != op.id || !directories.contains(q.new_parent) ||
            (there != names.end() && there->second != op.replaced))
          return false;
        names.erase(from);
        names[to] = op.id;
        return true;
      }
      case Method::kMetaUnlink:
      case Method::kMetaRmdir: {
        auto q = *wire::Decode<wire::RemoveRequest>(op.request);
        auto there = names.find({q.parent, q.name});
        if (there == names.end() || there->second != op.id) return false;
        if (static_cast<Method>(op.method) == Method::kMetaRmdir) {
          if (!Empty(op.id)) return false;
          directories.erase(op.id);
        }
        names.erase(there);
        return true;
      }
      default:
        return true;
    }
  }
};

NameOp Make(Method method, FileId id, FileId parent, const std::string& name) {
  return {.method = static_cast<uint64_t>(method),
          .id = id,
          .request = wire::Encode(wire::MakeRequest{.parent = parent, .name = name, .id = id})};
}
NameOp Remove(Method method, FileId id, const Name& at) {
  return {.method = static_cast<uint64_t>(method),
          .id = id,
          .request = wire::Encode(wire::RemoveRequest{.parent = at.first, .name = at.second})};
}
NameOp Rename(FileId id, FileId replaced, const Name& from, const Name& to) {
  return {.method = static_cast<uint64_t>(Method::kMetaRename),
          .id = id,
          .replaced = replaced,
          .request = wire::Encode(wire::RenameRequest{.parent = from.first,
                                                      .name = from.second,
                                                      .new_parent = to.first,
                                                      .new_name = to.second})};
}

// A change that is possible now.
NameOp Any(Random& random, const Place& now, FileId* next_id) {
  static const std::vector<std::string> kNames{"a", "b", "c", "latest"};
  while (true) {
    auto dir =
        std::next(now.directories.begin(), static_cast<long>(random.Below(now.directories.size())));
    Name at{dir->first, kNames[random.Below(kNames.size())]};
    auto it = now.names.find(at);
    if (it == now.names.end()) {
      bool directory = random.Below(5) == 0;
      FileId id = (*next_id)++;
      return Make(directory ? Method::kMetaMkdir : Method::kMetaCreate, id, at.first, at.second);
    }
    bool directory = now.directories.contains(it->second);
    uint64_t kind = random.Below(3);
    if (kind == 0) return {.method = static_cast<uint64_t>(Method::kMetaSetAttr), .id = it->second};
    if (kind == 1) {
      if (directory && !now.Empty(it->second)) continue;
      return Remove(directory ? Method::kMetaRmdir : Method::kMetaUnlink, it->second, at);
    }
    auto other =
        std::next(now.directories.begin(), static_cast<long>(random.Below(now.directories.size())));
    Name to{other->first, kNames[random.Below(kNames.size())]};
    auto target = now.names.find(to);
    if (to == at || (directory && to.first != at.first)) continue;
    if (target == now.names.end()) return Rename(it->second, 0, at, to);
    if (directory || now.directories.contains(target->second)) continue;
    return Rename(it->second, target->second, at, to);
  }
}

std::deque<JournaledOp> Compacted(const std::deque<JournaledOp>& ops,
                                  const std::unordered_set<FileId>& there) {
  auto changed = CompactOps(ops, there);
  REQUIRE(changed.ok());
  std::deque<JournaledOp> left;
  for (const JournaledOp& journaled : ops) {
    auto it = changed->find(journaled.sequence);
    if (it == changed->end())
      left.push_back(journaled);
    else if (it->second)
      left.push_back({journaled.sequence, *it->second});
  }
  return left;
}

}  // namespace

TEST_CASE("a compacted journal leaves the same names, by changes that are all possible") {
  size_t all = 0, kept = 0;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    INFO("seed " << seed);
    Random random(seed);
    FileId next_id = 10;
    Place before;
    for (int i = 0; i < 6; ++i) before.Apply(Any(random, before, &next_id));
    Place whole = before;
    std::deque<JournaledOp> ops;
    for (uint64_t i = 1; i <= 5 + random.Below(60); ++i) {
      NameOp op = Any(random, whole, &next_id);
      REQUIRE(whole.Apply(op));
      ops.push_back({i, std::move(op)});
    }
    Place compacted = before;
    auto left = Compacted(ops, {});
    for (const JournaledOp& journaled : left) {
      INFO("op " << journaled.sequence);
      REQUIRE(compacted.Apply(journaled.op));
    }
    CHECK(compacted.names == whole.names);
    CHECK(Compacted(left, {}).size() == left.size());
    all += ops.size();
    kept += left.size();
  }
  CHECK(kept * 5 < all * 4);
}

TEST_CASE("one name replaced over and over is one rename over what it was at first") {
  std::deque<JournaledOp> ops;
  uint64_t sequence = 0;
  Name temp{1, "latest.tmp"}, latest{1, "latest"};
  FileId there = 5;
  for (FileId id = 10; id < 20; ++id) {
    ops.push_back({++sequence, Make(Method::kMetaCreate, id, temp.first, temp.second)});
    ops.push_back({++sequence, Rename(id, there, temp, latest)});
    there = id;
  }
  auto left = Compacted(ops, {});
  REQUIRE(left.size() == 2);
  CHECK(left[0].op.id == 19);
  CHECK(left[1].op.id == 19);
  CHECK(left[1].op.replaced == 5);
  // What objectd may have already is not left out.
  CHECK(Compacted(ops, {12}).size() == 4);
}

TEST_CASE("a journal that cannot be read is not compacted") {
  std::deque<JournaledOp> ops{{1, Make(Method::kMetaCreate, 10, 1, "a")}};
  ops[0].op.request = "\xff";
  CHECK(!CompactOps(ops, {}).ok());
}
