// What names can do without objectd: answers from what is known, changes that go to the journal.

#include <algorithm>

#include "bufferd/names.h"

namespace perigee::bufferd {

using wire::FileKind;
using wire::Method;

namespace {

constexpr uint32_t kModeBits = 07777;
constexpr uint32_t kSetGid = 02000;

Result<std::string> Encoded(const wire::Record& record, wire::FileId parent,
                            const std::string& name) {
  return wire::Encode(wire::RecordReply{.record = record, .parent = parent, .name = name});
}

}  // namespace

Names::Answer Names::Here(Method method, std::string_view header, bool sent) {
  auto run = [&](auto request, auto fn) -> Answer {
    auto q = wire::Decode<decltype(request)>(header);
    if (!q.ok()) return {.way = Way::kDone, .reply = std::move(q).TakeStatus()};
    // Permissions are objectd's to judge.
    if constexpr (requires { q->caller; }) {
      if (q->caller.enforce && q->caller.uid != 0) return {};
    }
    return fn(std::move(*q));
  };
  switch (method) {
    case Method::kMetaLookup:
      return run(wire::LookupRequest(), [&](auto q) { return LookupHere(q); });
    case Method::kMetaGetAttr:
      return run(wire::GetAttrRequest(), [&](auto q) -> Answer {
        const KnownNames::Known* known = known_.Get(q.id);
        return known ? Show(*known) : Answer();
      });
    case Method::kMetaReadDir:
      return run(wire::ReadDirRequest(), [&](auto q) { return ListHere(q); });
    case Method::kMetaMkdir:
    case Method::kMetaCreate:
      return run(wire::MakeRequest(), [&](auto q) { return MakeHere(method, std::move(q), sent); });
    case Method::kMetaUnlink:
    case Method::kMetaRmdir:
      return run(wire::RemoveRequest(), [&](auto q) { return RemoveHere(method, q); });
    case Method::kMetaRename:
      return run(wire::RenameRequest(), [&](auto q) { return RenameHere(q, sent); });
    case Method::kMetaSetAttr:
      return run(wire::SetAttrRequest(), [&](auto q) { return SetAttrHere(q); });
    case Method::kMetaStatFs:
      return statfs_.empty() ? Answer() : Answer{.way = Way::kDone, .reply = statfs_};
    default:
      return {};
  }
}

Names::Answer Names::Show(const KnownNames::Known& known) {
  wire::Record record = known.record;
  if (record.kind == FileKind::kFile) hooks_.describe(&record);
  return {.way = Way::kDone, .reply = Encoded(record, known.parent, known.name)};
}

Names::Answer Names::LookupHere(const wire::LookupRequest& q) {
  wire::FileId dir = q.parent ? q.parent : wire::kRootId;
  std::string path = q.path.empty() ? q.name : q.path;
  const KnownNames::Known* known = nullptr;
  while (true) {
    size_t slash = q.path.empty() ? std::string::npos : path.find('/');
    std::string name = path.substr(0, slash);
    path = slash == std::string::npos ? "" : path.substr(slash + 1);
    if (!name.empty()) {
      switch (known_.Find(dir, name, &known)) {
        case KnownNames::Answer::kUnknown:
          return {};
        case KnownNames::Answer::kAbsent:
          return {.way = Way::kDone, .reply = Status(Code::kNotFound, "no file '" + name + "'")};
        case KnownNames::Answer::kExists:
          dir = known->record.id;
          break;
      }
    }
    if (path.empty()) return known ? Show(*known) : Answer();
  }
}

Names::Answer Names::ListHere(const wire::ReadDirRequest& q) {
  auto items = known_.List(q.dir);
  if (!items) return {};
  wire::ReadDirReply reply;
  size_t limit = std::clamp<uint32_t>(q.limit, 1, 1024);
  auto from = std::find_if(items->begin(), items->end(),
                           [&](const wire::DirItem& item) { return item.key > q.after; });
  for (; from != items->end() && reply.items.size() < limit; ++from) {
    if (from->record.kind == FileKind::kFile) hooks_.describe(&from->record);
    reply.items.push_back(std::move(*from));
  }
  reply.end = from == items->end();
  return {.way = Way::kDone, .reply = wire::Encode(reply)};
}

// This node may change it without asking: it made it, or has its burst file.
bool Names::Mine(const KnownNames::Known& known) const {
  const wire::Record& record = known.record;
  if (pending_.contains(record.id)) return true;
  if (record.kind == FileKind::kDirectory) return known.own;
  return record.kind == FileKind::kFile && record.nlink <= 1 &&
         (known.own || hooks_.owned(record.id));
}

bool Names::NeverThere(wire::FileId id) const {
  auto made = pending_.find(id);
  return made != pending_.end() && !made->second;
}

Status Names::Journal(NameOp op, bool sent) {
  if (ops_.size() >= kOpsMax)
    return Status(Code::kNoSpace, "too many changes of names wait for objectd");
  PERIGEE_TRY(index_->PutValue(OpName(next_op_), EncodeOp(op), Durable::kNo));
  ops_.push_back({next_op_++, std::move(op), sent});
  Count(ops_.back());
  if (state_ != State::kThere) changed_names_.Add(ops_.back().op, ops_.back().sequence);
  return Status::Ok();
}

void Names::ListChangedNames() {
  changed_names_.Clear();
  if (state_ == State::kThere) return;
  for (const JournaledOp& journaled : ops_) changed_names_.Add(journaled.op, journaled.sequence);
}

bool Names::IsToChange(Method method, std::string_view header) const {
  if (ops_.empty()) return false;
  const uint64_t next = ops_.front().sequence;
  if (method == Method::kMetaLookup) {
    auto q = wire::Decode<wire::LookupRequest>(header);
    if (!q.ok()) return q.status().Ignore(), false;
    return q->path.empty() && changed_names_.Has(q->parent, q->name, next);
  }
  if (method == Method::kMetaReadDir) {
    auto q = wire::Decode<wire::ReadDirRequest>(header);
    if (!q.ok()) return q.status().Ignore(), false;
    return changed_names_.HasIn(q->dir, next);
  }
  return false;
}

Names::Answer Names::MakeHere(Method method, wire::MakeRequest q, bool sent) {
  const KnownNames::Known* parent = known_.Get(q.parent);
  if (q.parents || q.parent == wire::kRootId || !parent ||
      parent->record.kind != FileKind::kDirectory)
    return {};
  const KnownNames::Known* there = nullptr;
  switch (known_.Find(q.parent, q.name, &there)) {
    case KnownNames::Answer::kUnknown:
      return {};
    case KnownNames::Answer::kExists:
      // The same call, tried again: it was made before objectd fell silent.
      if (q.id != 0 && there->record.id == q.id) return Show(*there);
      return {.way = Way::kDone, .reply = Status(Code::kAlreadyExists, "'" + q.name + "' exists")};
    case KnownNames::Answer::kAbsent:
      break;
  }
  return MakeAt(parent->record, known_.PathOf(q.parent), method, std::move(q), sent);
}

Names::Answer Names::MakeAt(const wire::Record& parent, std::string place, Method method,
                            wire::MakeRequest q, bool sent) {
  bool directory = method == Method::kMetaMkdir;
  if (q.id == 0) q.id = TakeIdHeld();
  if (q.id == 0) return {};
  wire::Record record{.id = q.id,
                      .kind = directory ? FileKind::kDirectory : FileKind::kFile,
                      .mode = q.mode & kModeBits,
                      .uid = q.uid,
                      .gid = q.gid};
  record.nlink = directory ? 2 : 1;
  if (parent.mode & kSetGid) {
    record.gid = parent.gid;
    if (directory) record.mode |= kSetGid;
  }
  record.atime = record.mtime = record.ctime = record.btime = work_->clock().Wall();
  record.writer = q.writer;
  if (record.writer) record.writer->generation = 1;
  Status journaled = Journal({.method = static_cast<uint64_t>(method),
                              .id = q.id,
                              .request = wire::Encode(q),
                              .place = std::move(place),
                              .at = record.ctime},
                             sent);
  if (!journaled.ok()) return {.way = Way::kDone, .reply = journaled};
  known_.Learn(q.parent, q.name, record);
  known_.Own(q.id);
  if (directory) known_.MadeEmpty(q.id);
  return {.way = Way::kDone, .reply = Encoded(record, q.parent, q.name), .changed = true};
}

Names::Answer Names::RemoveHere(Method method, const wire::RemoveRequest& q) {
  const KnownNames::Known* known = nullptr;
  switch (known_.Find(q.parent, q.name, &known)) {
    case KnownNames::Answer::kUnknown:
      return {};
    case KnownNames::Answer::kAbsent:
      return {.way = Way::kDone, .reply = Status(Code::kNotFound, "no file '" + q.name + "'")};
    case KnownNames::Answer::kExists:
      break;
  }
  wire::Record record = known->record;
  bool directory = record.kind == FileKind::kDirectory;
  if (method == Method::kMetaRmdir) {
    if (!directory)
      return {.way = Way::kDone,
              .reply = Status(Code::kNotDirectory, "'" + q.name + "' is not a directory")};
    auto inside = known_.List(record.id);
    if (!inside || q.parent == wire::kRootId) return {};
    if (!inside->empty())
      return {.way = Way::kDone, .reply = Status(Code::kNotEmpty, "'" + q.name + "' is not empty")};
  } else {
    if (directory)
      return {.way = Way::kDone,
              .reply = Status(Code::kIsDirectory, "'" + q.name + "' is a directory")};
    if (!Mine(*known)) return {};
  }
  Status journaled = Journal({.method = static_cast<uint64_t>(method),
                              .id = record.id,
                              .request = wire::Encode(q),
                              .place = known_.PathOf(q.parent)});
  if (!journaled.ok()) return {.way = Way::kDone, .reply = journaled};
  known_.Forget(q.parent, q.name);
  Answer answer{.way = Way::kDone, .reply = Encoded(record, q.parent, q.name), .changed = true};
  // Of what objectd has, the bytes stay until it has let go of it.
  if (!directory && NeverThere(record.id)) answer.discarded = record;
  return answer;
}

// Once it is made, it is made whatever was lost since.
std::string Names::Journaled(wire::RenameRequest q) {
  q.flags &= ~wire::kRenameCareful;
  return wire::Encode(q);
}

Names::Answer Names::RenameHere(const wire::RenameRequest& q, bool sent) {
  if ((q.flags & wire::kRenameExchange) != 0) return {};
  const KnownNames::Known* source = nullptr;
  const KnownNames::Known* target = nullptr;
  auto at_source = known_.Find(q.parent, q.name, &source);
  if (at_source == KnownNames::Answer::kAbsent)
    return {.way = Way::kDone, .reply = Status(Code::kNotFound, "no file '" + q.name + "'")};
  auto at_target = known_.Find(q.new_parent, q.new_name, &target);
  if (at_source == KnownNames::Answer::kUnknown || at_target == KnownNames::Answer::kUnknown ||
      !known_.Get(q.new_parent))
    return {};
  wire::Record moved = source->record;
  wire::RenameReply reply{.moved = moved};
  wire::FileId bucket = known_.BucketOf(q.parent);
  if (bucket == 0 || known_.BucketOf(q.new_parent) != bucket || !Mine(*source)) return {};
  if (target) {
    if (target->record.id == moved.id) return {.way = Way::kDone, .reply = wire::Encode(reply)};
    if ((q.flags & wire::kRenameNoReplace) != 0)
      return {.way = Way::kDone,
              .reply = Status(Code::kAlreadyExists, "'" + q.new_name + "' exists")};
    // Which directories may be replaced is not told by what is known.
    if (target->record.kind != FileKind::kFile || moved.kind != FileKind::kFile || !Mine(*target))
      return {};
    // One that objectd may have made is not refused any more.
    if ((q.flags & wire::kRenameCareful) != 0 && !sent && hooks_.at_risk(moved.id))
      return {.way = Way::kDone,
              .reply = Status(Code::kPreconditionFailed, "'" + q.name + "' is not durable yet")};
    reply.replaced = target->record;
  }
  if (moved.kind == FileKind::kDirectory) {
    for (wire::FileId up = q.new_parent; up != wire::kRootId;) {
      if (up == moved.id)
        return {.way = Way::kDone,
                .reply = Status(Code::kInvalidArgument, "a directory into itself")};
      const KnownNames::Known* above = known_.Get(up);
      if (!above || above->parent == 0) return {};
      up = above->parent;
    }
  }
  Status journaled = Journal({.method = static_cast<uint64_t>(Method::kMetaRename),
                              .id = moved.id,
                              .replaced = reply.replaced ? reply.replaced->id : 0,
                              .request = Journaled(q),
                              .place = known_.PathOf(q.new_parent),
                              .mode = moved.mode,
                              .uid = moved.uid,
                              .gid = moved.gid});
  if (!journaled.ok()) return {.way = Way::kDone, .reply = journaled};
  known_.Move(q.parent, q.name, q.new_parent, q.new_name, moved);
  Answer answer{.way = Way::kDone, .reply = wire::Encode(reply), .changed = true};
  if (reply.replaced && NeverThere(reply.replaced->id)) answer.discarded = reply.replaced;
  return answer;
}

Names::Answer Names::SetAttrHere(const wire::SetAttrRequest& q) {
  const KnownNames::Known* known = known_.Get(q.id);
  if (!known || !Mine(*known)) return {};
  wire::SetAttrRequest exact = q;
  int64_t now = work_->clock().Wall();
  if (q.set_atime && q.atime == 0) exact.atime = now;
  if (q.set_mtime && q.mtime == 0) exact.mtime = now;
  wire::Record record = known->record;
  if (q.set_mode) record.mode = q.mode & kModeBits;
  if (q.set_uid) record.uid = q.uid;
  if (q.set_gid) record.gid = q.gid;
  if (q.set_atime) record.atime = exact.atime;
  if (q.set_mtime) record.mtime = exact.mtime;
  record.ctime = now;
  Status journaled = Journal({.method = static_cast<uint64_t>(Method::kMetaSetAttr),
                              .id = q.id,
                              .request = wire::Encode(exact),
                              .at = now});
  if (!journaled.ok()) return {.way = Way::kDone, .reply = journaled};
  wire::FileId parent = known->parent;
  std::string name = known->name;
  known_.LearnRecord(record);
  return {.way = Way::kDone, .reply = Encoded(record, parent, name), .changed = true};
}

}  // namespace perigee::bufferd
