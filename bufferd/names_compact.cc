#include "bufferd/names_compact.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "rdma/wire/methods.h"

namespace perigee::bufferd {

using wire::FileId;
using wire::Method;

namespace {

Method MethodOf(const NameOp& op) { return static_cast<Method>(op.method); }

class Compaction {
 public:
  Compaction(const std::deque<JournaledOp>& ops, const std::unordered_set<FileId>& there)
      : ops_(ops), there_(there) {}

  Status Run() {
    for (size_t at = 0; at < ops_.size(); ++at) PERIGEE_TRY(Look(at));
    return Status::Ok();
  }
  std::map<uint64_t, std::optional<NameOp>> Take() { return std::move(changed_); }

 private:
  const NameOp& Now(size_t at) const {
    auto it = changed_.find(ops_[at].sequence);
    return it == changed_.end() ? ops_[at].op : *it->second;
  }
  void Change(size_t at, NameOp op) { changed_[ops_[at].sequence] = std::move(op); }

  // Counted, so that a directory is known to be named by nothing that is left.
  Status Uses(const NameOp& op, int by) {
    return ForEachName(op, [&](FileId dir, const std::string&) { uses_[dir] += by; });
  }
  Status Drop(size_t at) {
    PERIGEE_TRY(Uses(Now(at), -1));
    changed_[ops_[at].sequence] = std::nullopt;
    return Status::Ok();
  }

  Status Look(size_t at) {
    const NameOp& op = ops_[at].op;
    PERIGEE_TRY(Uses(op, 1));
    switch (MethodOf(op)) {
      case Method::kMetaCreate:
      case Method::kMetaMkdir:
        if (!there_.contains(op.id)) made_[op.id].push_back(at);
        return Status::Ok();
      case Method::kMetaSetAttr:
        if (auto it = made_.find(op.id); it != made_.end()) it->second.push_back(at);
        return Status::Ok();
      case Method::kMetaRename:
        if (made_.contains(op.replaced)) PERIGEE_TRY(Replaced(at));
        if (auto it = made_.find(op.id); it != made_.end()) it->second.push_back(at);
        return Status::Ok();
      case Method::kMetaUnlink:
        return made_.contains(op.id) ? Removed(at) : Status::Ok();
      case Method::kMetaRmdir:
        return made_.contains(op.id) ? RemovedDirectory(at) : Status::Ok();
      default:
        return Status::Ok();
    }
  }

  // The rename at `at` replaces a file that was made in the journal.
  Status Replaced(size_t at) {
    NameOp replacing = ops_[at].op;
    PERIGEE_ASSIGN(auto to, wire::Decode<wire::RenameRequest>(replacing.request));
    std::vector<size_t> of_it = TakeMade(replacing.replaced);
    replacing.replaced = 0;
    auto last = std::find_if(of_it.rbegin(), of_it.rend(),
                             [&](size_t i) { return MethodOf(ops_[i].op) == Method::kMetaRename; });
    if (last != of_it.rend() && Now(*last).replaced != 0) {
      PERIGEE_ASSIGN(auto from, wire::Decode<wire::RenameRequest>(Now(*last).request));
      if (from.new_parent == to.new_parent && from.new_name == to.new_name) {
        replacing.replaced = Now(*last).replaced;
        PERIGEE_TRY(Drop(*last));
        of_it.erase(std::next(last).base());
      }
    }
    Change(at, std::move(replacing));
    return LeaveOut(of_it);
  }

  Status Removed(size_t at) {
    std::vector<size_t> of_it = TakeMade(ops_[at].op.id);
    PERIGEE_TRY(Drop(at));
    return LeaveOut(of_it);
  }

  Status RemovedDirectory(size_t at) {
    FileId id = ops_[at].op.id;
    if (uses_[id] != 0) return Status::Ok();
    std::vector<size_t> of_it = TakeMade(id);
    PERIGEE_TRY(Drop(at));
    return LeaveOut(of_it);
  }

  std::vector<size_t> TakeMade(FileId id) {
    auto node = made_.extract(id);
    return std::move(node.mapped());
  }

  Status LeaveOut(const std::vector<size_t>& of_it) {
    for (size_t at : of_it) {
      const NameOp& op = Now(at);
      if (op.replaced == 0) {
        PERIGEE_TRY(Drop(at));
        continue;
      }
      PERIGEE_ASSIGN(auto q, wire::Decode<wire::RenameRequest>(op.request));
      NameOp removal{.method = static_cast<uint64_t>(Method::kMetaUnlink),
                     .id = op.replaced,
                     .request = wire::Encode(wire::RemoveRequest{
                         .caller = q.caller, .parent = q.new_parent, .name = q.new_name}),
                     .place = op.place};
      PERIGEE_TRY(Drop(at));
      PERIGEE_TRY(Uses(removal, 1));
      Change(at, std::move(removal));
    }
    return Status::Ok();
  }

  const std::deque<JournaledOp>& ops_;
  const std::unordered_set<FileId>& there_;
  std::map<uint64_t, std::optional<NameOp>> changed_;
  std::unordered_map<FileId, std::vector<size_t>> made_;  // its ops so far, the making first
  std::unordered_map<FileId, int> uses_;
};

}  // namespace

Result<std::map<uint64_t, std::optional<NameOp>>> CompactOps(
    const std::deque<JournaledOp>& ops, const std::unordered_set<FileId>& there) {
  Compaction compaction(ops, there);
  PERIGEE_TRY(compaction.Run());
  return compaction.Take();
}

}  // namespace perigee::bufferd
