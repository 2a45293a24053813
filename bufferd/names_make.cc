// One change of the journal, made at objectd. It may have been made before (its answer was lost, or
// it is made once more after a crash): what it wants to be true is looked at where it fails.

#include "base/bytes.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "bufferd/core.h"
#include "bufferd/names.h"

namespace perigee::bufferd {

using wire::FileKind;
using wire::Method;

namespace {

constexpr int kLooksMax = 4;
constexpr uint32_t kModeOfOlderOps = 0600;  // which do not tell

// A full object tier takes it later, too.
bool Later(const Status& s) { return IsAway(s) || s.Is(Code::kNoSpace); }

bool DirectoryGone(const Status& s) { return IsGone(s) || s.Is(Code::kNotDirectory); }

}  // namespace

std::string ConflictName(const std::string& name, uint64_t id) {
  std::string suffix = ".conflict-" + HexEncode64(id);
  return name.substr(0, 255 - suffix.size()) + suffix;
}

// Or what it was called for lack of that name.
static bool IsCalled(const wire::RecordReply& now, const std::string& name) {
  return now.name == name || now.name == ConflictName(name, now.record.id);
}

void Names::Lost(const std::string& what, const Status& why) {
  log::Warn("name_not_made", {{"what", what}, {"why", why}});
  hooks_.report(what + ": not possible any more when objectd was back: " + why.message());
}

Status Names::Make(const JournaledOp& journaled) {
  const NameOp& op = journaled.op;
  PERIGEE_FAILPOINT(names_replay_before_op);
  Status s;
  switch (static_cast<Method>(op.method)) {
    case Method::kMetaCreate:
    case Method::kMetaMkdir:
      s = MakeFile(journaled);
      break;
    case Method::kMetaRename:
      s = MakeRename(op);
      break;
    case Method::kMetaUnlink:
    case Method::kMetaRmdir:
      s = MakeRemove(op);
      break;
    case Method::kMetaSetAttr: {
      auto q = wire::Decode<wire::SetAttrRequest>(op.request);
      s = q.ok() ? direct_.SetAttr(*q).status() : q.status();
      break;
    }
    default:
      s = Status(Code::kUnimplemented, "a change of names of an unknown kind");
  }
  PERIGEE_FAILPOINT(names_replay_after_op);
  if (IsGone(s))
    log::Warn("name_not_made", {{"what", "of file " + HexEncode64(op.id)}, {"why", s}});
  if (s.ok() || IsGone(s)) return Status::Ok();
  if (Later(s)) return s.With("a change of names");
  Lost("file " + HexEncode64(op.id), s);
  return Status::Ok();
}

// This node's own create, sent without an id and never answered; here it was made with another id.
bool Names::IsUnanswered(const wire::Record& there, const wire::MakeRequest& q) {
  return there.writer && q.writer && there.writer->node == q.writer->node &&
         there.writer->burst == q.writer->burst && !there.committed;
}

Result<wire::RecordReply> Names::Send(Method method, const wire::MakeRequest& q) {
  return method == Method::kMetaMkdir ? direct_.Mkdir(q) : direct_.Create(q);
}

// The directory of that name, made when there is none; beside it, where a file has the name.
Result<wire::FileId> Names::DirectoryIn(wire::FileId parent, const std::string& name,
                                        wire::FileId was) {
  for (const std::string& candidate : {name, ConflictName(name, was)}) {
    auto made = direct_.Mkdir({.parent = parent, .name = candidate, .mode = 0755});
    if (made.ok()) return made->record.id;
    if (!made.status().Is(Code::kAlreadyExists)) return std::move(made).TakeStatus();
    PERIGEE_ASSIGN(auto there, direct_.Lookup({.parent = parent, .name = candidate}));
    if (there.record.kind == FileKind::kDirectory) return there.record.id;
  }
  return Status(Code::kAlreadyExists, "both names of the directory are taken by files");
}

// A directory that was removed meanwhile, or has another id there; so may those above it.
Result<wire::FileId> Names::DirectoryAt(const std::string& place, wire::FileId was) {
  wire::FileId at = wire::kRootId;
  for (size_t from = 0; from < place.size();) {
    size_t slash = std::min(place.find('/', from), place.size());
    PERIGEE_ASSIGN(at, DirectoryIn(at, place.substr(from, slash - from), was));
    from = slash + 1;
  }
  if (at == wire::kRootId) return Status(Code::kStale, "where it was is not known");
  return at;
}

Status Names::MakeFile(const JournaledOp& journaled) {
  const NameOp& op = journaled.op;
  PERIGEE_ASSIGN(auto q, wire::Decode<wire::MakeRequest>(op.request));
  auto method = static_cast<Method>(op.method);
  // Made by an earlier attempt, and removed by others since: nothing is left to be its content.
  if (Again(journaled) && method == Method::kMetaCreate && !hooks_.owned(op.id))
    return Status::Ok();
  std::string wanted = q.name;
  Result<wire::RecordReply> made = Send(method, q);
  if (!made.ok() && DirectoryGone(made.status())) {
    auto parent = DirectoryAt(op.place, q.parent);
    if (!parent.ok()) {
      if (Later(parent.status())) return std::move(parent).TakeStatus();
      Lost(op.place + "/" + wanted, parent.status());
      return Status::Ok();
    }
    q.parent = *parent;
    made = Send(method, q);
  }
  if (made.code() == Code::kAlreadyExists) {
    auto there = direct_.Lookup({.parent = q.parent, .name = q.name});
    if (!there.ok() && Later(there.status())) return std::move(there).TakeStatus();
    // Another made the same directory: what goes into this one goes there.
    if (method == Method::kMetaMkdir && there.ok() && there->record.kind == FileKind::kDirectory)
      return Status::Ok();
    q.name = ConflictName(wanted, op.id);
    made = Send(method, q);
    if (made.ok() && there.ok() && IsUnanswered(there->record, q)) {
      return direct_
          .Rename({.parent = q.parent,
                   .name = q.name,
                   .new_parent = q.parent,
                   .new_name = wanted,
                   .id = op.id,
                   .replaced = there->record.id})
          .status();
    }
    if (made.ok()) {
      log::Warn("name_conflict", {{"name", op.place + "/" + wanted}, {"made", q.name}});
      hooks_.report(op.place + "/" + wanted + ": the name was taken while objectd was away; made " +
                    q.name);
    }
  }
  return made.ok() ? Status::Ok() : std::move(made).TakeStatus();
}

Status Names::MakeRename(const NameOp& op) {
  PERIGEE_ASSIGN(auto q, wire::Decode<wire::RenameRequest>(op.request));
  // What it replaces goes only when this has its content.
  if (Status s = hooks_.commit(op.id); Later(s)) return s;
  q.id = op.id;
  q.replaced = op.replaced;
  auto renamed = direct_.Rename(q);
  if (renamed.ok()) {
    if (renamed->replaced) hooks_.released(*renamed->replaced);
    return Status::Ok();
  }
  if (Later(renamed.status())) return std::move(renamed).TakeStatus();
  return op.made ? MakeRenameAgain(op, std::move(q)) : MoveById(op, std::move(q));
}

// It was at its new name once: what others have removed or moved since stays so.
Status Names::MakeRenameAgain(const NameOp& op, wire::RenameRequest q) {
  auto now = direct_.GetAttr({.id = op.id});
  if (!now.ok()) {
    return IsGone(now.status()) ? RemoveReplaced(op, q) : std::move(now).TakeStatus();
  }
  if (!IsCalled(*now, q.name)) return Status::Ok();
  return MoveById(op, std::move(q));
}

// Not as it was here: from wherever it is now, to a name that may be taken, in a directory that may
// be gone.
Status Names::MoveById(const NameOp& op, wire::RenameRequest q) {
  for (int look = 0; look < kLooksMax; ++look) {
    auto now = direct_.GetAttr({.id = op.id});
    if (!now.ok() && IsGone(now.status())) {
      if (!Keeps(op.id)) return RemoveReplaced(op, q);
      now = ComeBack(op, &q);
    }
    if (!now.ok()) return std::move(now).TakeStatus();
    if (now->parent == q.new_parent && now->name == q.new_name) return Status::Ok();
    auto there = direct_.Lookup({.parent = q.new_parent, .name = q.new_name});
    if (!there.ok() && !there.status().Is(Code::kNotFound)) {
      if (!DirectoryGone(there.status())) return std::move(there).TakeStatus();
      PERIGEE_ASSIGN(q.new_parent, DirectoryAt(op.place, q.new_parent));
      continue;
    }
    if (there.ok() && there->record.id == op.id) return Status::Ok();
    q.replaced = there.ok() && there->record.id == op.replaced ? op.replaced : 0;
    if (there.ok() && q.replaced == 0) {
      std::string made = ConflictName(q.new_name, op.id);
      hooks_.report(op.place + "/" + q.new_name + ": the name was taken while objectd was away; " +
                    "renamed to " + made);
      if (now->parent == q.new_parent && now->name == made) return Status::Ok();
      q.new_name = made;
    }
    q.parent = now->parent;
    q.name = now->name;
    auto renamed = direct_.Rename(q);
    if (renamed.ok()) {
      if (renamed->replaced) hooks_.released(*renamed->replaced);
      return Status::Ok();
    }
    if (!renamed.status().Is(Code::kAlreadyExists) && !DirectoryGone(renamed.status()))
      return std::move(renamed).TakeStatus();
  }
  return Status(Code::kBusy, "the names keep changing");
}

// What was moved is gone, and need not come back: it was removed or replaced here later. What it
// replaced goes all the same.
Status Names::RemoveReplaced(const NameOp& op, const wire::RenameRequest& q) {
  if (op.replaced == 0) return Status::Ok();
  return MakeRemove({.method = static_cast<uint64_t>(Method::kMetaUnlink),
                     .id = op.replaced,
                     .request = wire::Encode(wire::RemoveRequest{
                         .caller = q.caller, .parent = q.new_parent, .name = q.new_name})});
}

// Others replaced or removed what still had its old name there. It was moved away from it before,
// so it is made again, beside its new name: it goes there when it has its content.
Result<wire::RecordReply> Names::ComeBack(const NameOp& op, wire::RenameRequest* q) {
  auto writer = hooks_.again(op.id);
  if (writer.code() == Code::kNotFound) Lost(op.place + "/" + q->new_name, writer.status());
  if (!writer.ok()) return std::move(writer).TakeStatus();
  wire::MakeRequest make{.parent = q->new_parent,
                         .name = ConflictName(q->new_name, op.id),
                         .mode = op.mode != 0 ? op.mode : kModeOfOlderOps,
                         .uid = op.uid,
                         .gid = op.gid,
                         .writer = *writer,
                         .id = op.id};
  auto made = direct_.Create(make);
  if (!made.ok() && DirectoryGone(made.status())) {
    PERIGEE_ASSIGN(q->new_parent, DirectoryAt(op.place, q->new_parent));
    make.parent = q->new_parent;
    made = direct_.Create(make);
  }
  if (!made.ok()) return made;
  log::Warn("name_made_again", {{"file", HexEncode64(op.id)}, {"name", q->new_name}});
  PERIGEE_TRY(hooks_.commit(op.id));
  return made;
}

Status Names::MakeRemove(const NameOp& op) {
  PERIGEE_ASSIGN(auto q, wire::Decode<wire::RemoveRequest>(op.request));
  bool directory = static_cast<Method>(op.method) == Method::kMetaRmdir;
  q.id = op.id;
  auto remove = [&] { return directory ? direct_.Rmdir(q) : direct_.Unlink(q); };
  auto removed = remove();
  if (!removed.ok() && IsGone(removed.status())) {
    auto now = direct_.GetAttr({.id = op.id});
    if (!now.ok()) return IsGone(now.status()) ? Status::Ok() : std::move(now).TakeStatus();
    // Where another has moved it, it stays.
    if (!IsCalled(*now, q.name)) return Status::Ok();
    q.parent = now->parent;
    q.name = now->name;
    removed = remove();
  }
  if (directory && removed.code() == Code::kNotEmpty) return Status::Ok();  // others are in it
  if (removed.ok() && !directory) hooks_.released(removed->record);
  return removed.ok() ? Status::Ok() : std::move(removed).TakeStatus();
}

}  // namespace perigee::bufferd
