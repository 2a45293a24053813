// Rename and exchange. The order of the checks is Linux's (fs/namei.c, do_renameat2), so that
// errors are the same.

#include "objectd/meta/access.h"
#include "objectd/meta/names.h"
#include "objectd/meta/namespace_impl.h"

namespace perigee::objectd {
namespace {

// A directory that gets another parent is written to (its "..").
Status CheckMove(const wire::Caller& caller, const wire::Record& from_parent, const Node& node,
                 wire::FileId to) {
  PERIGEE_TRY(CheckSticky(caller, from_parent, node.record));
  if (node.is_directory() && node.place.dir != to)
    return CheckAccess(caller, node.record, kMayWrite);
  return Status::Ok();
}

// What stands in the way of `source` and must go.
Status CheckReplace(Tree& tree, const Node& source, const Node& target) {
  if (!source.is_directory()) {
    if (target.is_directory()) return Status(Code::kIsDirectory, "the target is a directory");
    return Status::Ok();
  }
  if (!target.is_directory()) return Status(Code::kNotDirectory, "the target is not a directory");
  PERIGEE_ASSIGN(bool empty, tree.IsEmpty(target.record.id, ""));
  return empty ? Status::Ok() : Status(Code::kNotEmpty, "the target directory is not empty");
}

std::string ComponentFor(const Node& node, const std::string& name) {
  return node.is_directory() ? name + "/" : name;
}

Status Exchange(Tree& tree, Node* source, Node* target) {
  const std::string source_name(NameOf(source->place.component)),
      target_name(NameOf(target->place.component));
  const Place to{target->place.dir, ComponentFor(*source, target_name)};
  const Place back{source->place.dir, ComponentFor(*target, source_name)};
  // An S3 object that a directory hides would be overwritten by a file of its name.
  for (const auto& [place, node] : {std::pair(&to, target), std::pair(&back, source)}) {
    if (*place == node->place) continue;
    PERIGEE_ASSIGN(auto hidden, tree.Find(place->dir, place->component, kv::ReadMode::kConflict));
    if (hidden)
      return Status(Code::kAlreadyExists, "an object of that name is hidden by the directory");
  }
  PERIGEE_TRY(tree.TakeOff(*source));
  PERIGEE_TRY(tree.TakeOff(*target));
  PERIGEE_TRY(tree.PutAt(source, to));
  return tree.PutAt(target, back);
}

}  // namespace

Result<wire::RenameReply> NamespaceImpl::Rename(const wire::RenameRequest& q) {
  PERIGEE_TRY(CheckName(q.name));
  PERIGEE_TRY(CheckName(q.new_name));
  const bool exchange = q.flags & wire::kRenameExchange;
  const bool no_replace = q.flags & wire::kRenameNoReplace;
  constexpr uint32_t kKnown = wire::kRenameExchange | wire::kRenameNoReplace | wire::kRenameCareful;
  if (q.flags & ~kKnown || (exchange && no_replace)) {
    return Status(Code::kInvalidArgument, "rename flags that are unknown or exclude each other");
  }
  wire::RenameReply reply;
  PERIGEE_TRY(CommitFor(q.caller, [&](Tree& tree) -> Status {
    reply = {};
    constexpr uint32_t kChange = kMayWrite | kMaySearch;
    PERIGEE_ASSIGN(Parent from,
                   OpenParent(tree, q.parent, q.caller, kChange, kv::ReadMode::kConflict));
    PERIGEE_ASSIGN(Parent to,
                   OpenParent(tree, q.new_parent, q.caller, kChange, kv::ReadMode::kConflict));
    PERIGEE_ASSIGN(auto source, tree.FindName(q.parent, q.name, kv::ReadMode::kConflict));
    if (!source) return Status(Code::kNotFound, "no file '" + q.name + "'");
    PERIGEE_TRY(CheckId(*source, q.id));
    if (q.parent == wire::kRootId)
      return Status(Code::kPermissionDenied, "buckets cannot be renamed");
    if (from.bucket != to.bucket)
      return Status(Code::kCrossDevice, "files are renamed within their bucket");
    PERIGEE_ASSIGN(auto target, tree.FindName(q.new_parent, q.new_name, kv::ReadMode::kConflict));
    const bool another = target && q.id != 0 && target->record.id != q.replaced;
    if (target && (no_replace || another))
      return Status(Code::kAlreadyExists, "'" + q.new_name + "' exists");
    if (!target && exchange) return Status(Code::kNotFound, "no file '" + q.new_name + "'");
    if (source->is_directory() && q.parent != q.new_parent) {
      PERIGEE_TRY(tree.CheckNoCycle(q.new_parent, source->record.id));
    }
    PERIGEE_TRY(CheckMove(q.caller, from.record, *source, q.new_parent));
    // Two links of one file, or a name onto itself: nothing to do, says POSIX.
    if (target && target->record.id == source->record.id) {
      reply.moved = std::move(source->record);
      return Status::Ok();
    }
    const Place old_place = source->place;
    if (exchange) {
      if (target->is_directory() && q.parent != q.new_parent) {
        PERIGEE_TRY(tree.CheckNoCycle(q.parent, target->record.id));
      }
      PERIGEE_TRY(CheckMove(q.caller, to.record, *target, q.parent));
      PERIGEE_TRY(Exchange(tree, &*source, &*target));
      reply.replaced = std::move(target->record);
    } else {
      if (target) {
        PERIGEE_TRY(CheckReplace(tree, *source, *target));
        PERIGEE_TRY(CheckSticky(q.caller, to.record, target->record));
        reply.replaced = target->record;
        PERIGEE_TRY(tree.KeepReplaced(&*target, &source->record, q.flags & wire::kRenameCareful));
        PERIGEE_TRY(tree.Remove(*target));
      }
      PERIGEE_TRY(tree.TakeOff(*source));
      PERIGEE_TRY(tree.PutAt(&*source, {q.new_parent, ComponentFor(*source, q.new_name)}));
      PERIGEE_TRY(tree.Settle(q.parent, old_place.component, Door::kMount));
    }
    reply.moved = std::move(source->record);
    return Status::Ok();
  }));
  return reply;
}

}  // namespace perigee::objectd
