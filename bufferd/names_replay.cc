// The journal's changes, made at objectd. Each may have been made before (its answer was lost, or
// it is made once more after a crash): what it wants to be true is looked at first.

#include "base/bytes.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "bufferd/core.h"
#include "bufferd/names.h"

namespace perigee::bufferd {

using wire::FileKind;
using wire::Method;

namespace {

std::string ConflictName(const std::string& name, wire::FileId id) {
  std::string suffix = ".conflict-" + HexEncode64(id);
  return name.substr(0, 255 - suffix.size()) + suffix;
}

// A full object tier takes it later, too.
bool Later(const Status& s) { return IsAway(s) || s.Is(Code::kNoSpace); }

bool DirectoryGone(const Status& s) { return IsGone(s) || s.Is(Code::kNotDirectory); }

}  // namespace

void Names::Lost(const std::string& what, const Status& why) {
  log::Warn("name_not_made", {{"what", what}, {"why", why}});
  hooks_.report(what + ": not possible any more when objectd was back: " + why.message());
}

Status Names::Make(const NameOp& op) {
  PERIGEE_FAILPOINT(names_replay_before_op);
  Status s;
  switch (static_cast<Method>(op.method)) {
    case Method::kMetaCreate:
    case Method::kMetaMkdir:
      s = MakeFile(op);
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

Result<wire::RecordReply> Names::Send(Method method, const wire::MakeRequest& q) {
  return method == Method::kMetaMkdir ? direct_.Mkdir(q) : direct_.Create(q);
}

// A directory that was removed meanwhile, or has another id there.
Result<wire::FileId> Names::MadeAgain(const std::string& place) {
  if (place.find('/') == std::string::npos) {
    PERIGEE_ASSIGN(wire::RecordReply bucket,
                   direct_.Lookup({.parent = wire::kRootId, .name = place}));
    return bucket.record.id;
  }
  PERIGEE_ASSIGN(
      wire::RecordReply made,
      direct_.Mkdir({.parent = wire::kRootId, .name = place, .mode = 0755, .parents = true}));
  return made.record.id;
}

Status Names::MakeFile(const NameOp& op) {
  PERIGEE_ASSIGN(auto q, wire::Decode<wire::MakeRequest>(op.request));
  auto method = static_cast<Method>(op.method);
  std::string wanted = q.name;
  Result<wire::RecordReply> made = Send(method, q);
  if (!made.ok() && DirectoryGone(made.status())) {
    auto parent = MadeAgain(op.place);
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
  PERIGEE_ASSIGN(wire::RecordReply now, direct_.GetAttr({.id = op.id}));
  // What it replaces goes only when this has its content.
  if (Status s = hooks_.commit(op.id); IsAway(s)) return s;
  for (int attempt = 0; attempt < 3; ++attempt) {
    if (now.parent == q.new_parent && now.name == q.new_name) return Status::Ok();
    auto there = direct_.Lookup({.parent = q.new_parent, .name = q.new_name});
    if (!there.ok() && !there.status().Is(Code::kNotFound)) {
      if (!DirectoryGone(there.status())) return std::move(there).TakeStatus();
      PERIGEE_ASSIGN(q.new_parent, MadeAgain(op.place));
      continue;
    }
    if (there.ok() && there->record.id == op.id) return Status::Ok();
    bool replaces = there.ok() && op.replaced != 0 && there->record.id == op.replaced;
    if (there.ok() && !replaces) {
      std::string made = ConflictName(q.new_name, op.id);
      if (now.parent == q.new_parent && now.name == made) return Status::Ok();
      hooks_.report(op.place + "/" + q.new_name + ": the name was taken while objectd was away; " +
                    "renamed to " + made);
      q.new_name = made;
    }
    q.parent = now.parent;
    q.name = now.name;
    q.flags = replaces ? 0 : wire::kRenameNoReplace;
    auto renamed = direct_.Rename(q);
    if (renamed.ok()) {
      if (renamed->replaced) hooks_.released(*renamed->replaced);
      return Status::Ok();
    }
    if (!renamed.status().Is(Code::kAlreadyExists)) return std::move(renamed).TakeStatus();
  }
  return Status(Code::kBusy, "the new name keeps changing");
}

Status Names::MakeRemove(const NameOp& op) {
  PERIGEE_ASSIGN(auto q, wire::Decode<wire::RemoveRequest>(op.request));
  PERIGEE_ASSIGN(wire::RecordReply now, direct_.GetAttr({.id = op.id}));
  // Where another has moved it, it stays.
  if (now.name != q.name && now.name != ConflictName(q.name, op.id)) return Status::Ok();
  q.parent = now.parent;
  q.name = now.name;
  bool directory = static_cast<Method>(op.method) == Method::kMetaRmdir;
  auto removed = directory ? direct_.Rmdir(q) : direct_.Unlink(q);
  if (directory && removed.code() == Code::kNotEmpty) return Status::Ok();  // others are in it
  if (removed.ok() && !directory) hooks_.released(removed->record);
  return removed.ok() ? Status::Ok() : std::move(removed).TakeStatus();
}

}  // namespace perigee::bufferd
