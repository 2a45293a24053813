#include "bufferd/batch.h"

namespace perigee::bufferd {

using wire::BurstState;

namespace {

constexpr size_t kReasonsMax = 16;
constexpr int kDepthMax = 256;

void Leave(wire::BurstBatchReply* reply, const std::string& name, const std::string& why) {
  ++reply->left;
  if (reply->reasons.size() < kReasonsMax) reply->reasons.push_back(name + ": " + why);
}

}  // namespace

Nanos Batch::DeadlineOf(const wire::BurstTarget& target, Nanos deadline) const {
  if (target.timeout_ms == 0) return deadline;
  return std::min(deadline, core_.clock->Monotonic() + Nanos{target.timeout_ms} * kMillisecond);
}

Status Batch::Walk(const wire::Caller& caller, wire::FileId dir, const std::string& prefix,
                   int depth, std::vector<Item>* items) {
  if (depth > kDepthMax) return Status(Code::kTooLarge, "directories nest too deeply at " + prefix);
  std::string after;
  while (true) {
    PERIGEE_ASSIGN(wire::ReadDirReply page,
                   core_.meta->ReadDir({.caller = caller, .dir = dir, .after = after}));
    for (const wire::DirItem& item : page.items) {
      after = item.key;
      std::string name = prefix + item.name;
      if (item.record.kind == wire::FileKind::kDirectory)
        PERIGEE_TRY(Walk(caller, item.record.id, name + "/", depth + 1, items));
      else if (item.record.kind == wire::FileKind::kFile) {
        items->push_back({name, item.record.id, core_.table->Current(item.record.id),
                          item.record.committed ? item.record.committed->size : 0});
      }
    }
    if (page.end || page.items.empty()) return Status::Ok();
  }
}

Result<std::vector<Batch::Item>> Batch::Items(const wire::BurstTarget& target) {
  std::vector<Item> items;
  if (target.id != 0) {
    if (target.caller.enforce) {
      PERIGEE_ASSIGN(wire::RecordReply reply, core_.meta->GetAttr({.id = target.id}));
      PERIGEE_TRY(CheckAccess(reply.record, target.caller, wire::Access::kRead));
    }
    items.push_back(
        {"file " + HexEncode64(target.id), target.id, core_.table->Current(target.id), 0});
  } else if (!target.path.empty()) {
    PERIGEE_ASSIGN(wire::RecordReply reply, engine_.opener().Resolve(target.caller, target.path));
    std::string name = target.path;
    while (!name.empty() && name.back() == '/') name.pop_back();
    if (reply.record.kind == wire::FileKind::kDirectory) {
      PERIGEE_TRY(Walk(target.caller, reply.record.id, name.empty() ? "" : name + "/", 0, &items));
    } else {
      PERIGEE_TRY(CheckAccess(reply.record, target.caller, wire::Access::kRead));
      items.push_back({name, reply.record.id, core_.table->Current(reply.record.id),
                       reply.record.committed ? reply.record.committed->size : 0});
    }
  } else {
    for (const FilePtr& file : core_.table->All()) {
      std::lock_guard lock(file->mu);
      if (file->gone || file->superseded || file->orphan) continue;
      items.push_back({Core::NameOf(*file), file->rec.id, file, file->rec.size});
    }
  }
  return items;
}

Result<wire::BurstStatReply> Batch::Stat(const wire::BurstTarget& target) {
  Result<wire::RecordReply> reply = target.id != 0
                                        ? core_.meta->GetAttr({.id = target.id})
                                        : engine_.opener().Resolve(target.caller, target.path);
  if (!reply.ok()) return std::move(reply).TakeStatus();
  wire::BurstStatReply stat;
  FilePtr file = core_.table->Current(reply->record.id);
  if (file) {
    stat = engine_.Describe(file);
  } else {
    stat.id = reply->record.id;
    stat.mtime = reply->record.mtime;
    if (reply->record.committed) {
      stat.size = reply->record.committed->size;
      stat.generation = reply->record.committed->generation;
      stat.durability = reply->record.committed->durability;
    }
  }
  stat.record = reply->record;
  return stat;
}

Result<wire::BurstBatchReply> Batch::Flush(const wire::BurstTarget& target, Nanos deadline) {
  PERIGEE_ASSIGN(std::vector<Item> items, Items(target));
  deadline = DeadlineOf(target, deadline);
  while (true) {
    wire::BurstBatchReply reply;
    bool worth_waiting = false;
    for (const Item& item : items) {
      if (!item.file) continue;
      std::string why;
      bool force = false;
      {
        std::lock_guard lock(item.file->mu);
        const BurstFile& f = *item.file;
        if (f.gone || f.orphan || f.superseded) continue;
        if (f.writers == 0 && !f.Unsealed() && !f.OnlyCopy()) {
          ++reply.files;
          reply.bytes += f.rec.size;
          continue;
        }
        if (f.corrupt)
          why = "fails its checksums";
        else if (f.writers > 0)
          why = "open for writing";
        else if (f.Unsealed())
          why = "not sealed yet: something may still write to it";
        else if (!f.rec.registered)
          why = "not in the namespace yet: objectd is away";
        else if (engine_.flusher().held())
          why = "flushing is on hold (perigee flush --resume)";
        else
          why = "waiting to be flushed";
        force = f.rec.state == BurstState::kSealed;
        if (!f.corrupt && !engine_.flusher().held()) worth_waiting = true;
      }
      if (force) engine_.flusher().Force(item.file);
      Leave(&reply, item.name, why);
    }
    Nanos left = deadline - core_.clock->Monotonic();
    if (!target.wait || reply.left == 0 || !worth_waiting || left <= 0 || core_.stopping)
      return reply;
    core_.table->WaitProgress(std::min<Nanos>(left, 200 * kMillisecond));
  }
}

Result<wire::BurstBatchReply> Batch::Evict(const wire::BurstTarget& target) {
  PERIGEE_ASSIGN(std::vector<Item> items, Items(target));
  wire::BurstBatchReply reply;
  for (const Item& item : items) {
    if (!item.file) continue;
    uint64_t bytes;
    {
      std::lock_guard lock(item.file->mu);
      bytes = item.file->allocated();
    }
    std::string why;
    if (engine_.evictor().Evict(item.file, &why)) {
      ++reply.files;
      reply.bytes += bytes;
    } else {
      Leave(&reply, item.name, why);
    }
  }
  return reply;
}

Result<wire::BurstBatchReply> Batch::Warm(const wire::BurstTarget& target, Nanos deadline) {
  PERIGEE_ASSIGN(std::vector<Item> items, Items(target));
  deadline = DeadlineOf(target, deadline);
  wire::BurstBatchReply reply;
  // All are started before any is waited for; the readers' handles keep them from eviction
  // meanwhile.
  std::vector<std::pair<Opened, std::string>> opened;
  for (const Item& item : items) {
    auto open =
        engine_.opener().Open({.caller = target.caller, .id = item.id, .deadline = deadline});
    if (!open.ok()) {
      Leave(&reply, item.name, open.status().message());
      continue;
    }
    engine_.filler().Prefetch(open->file);
    if (target.wait)
      opened.emplace_back(std::move(*open), item.name);
    else {
      ++reply.files;
      reply.bytes += open->size;
      engine_.opener().Release(open->file, wire::Access::kRead);
    }
  }
  for (auto& [o, name] : opened) {
    Status s = engine_.filler().Ensure(o.file, {0, UINT64_MAX}, deadline, false);
    if (s.ok()) {
      ++reply.files;
      reply.bytes += o.size;
    } else {
      Leave(&reply, name, s.message());
    }
    engine_.opener().Release(o.file, wire::Access::kRead);
  }
  return reply;
}

Result<wire::BurstBatchReply> Batch::Pin(const wire::BurstTarget& target) {
  PERIGEE_ASSIGN(std::vector<Item> items, Items(target));
  wire::BurstBatchReply reply;
  for (const Item& item : items) {
    if (!item.file) {
      if (target.on) Leave(&reply, item.name, "not on this node: warm it first");
      continue;
    }
    {
      std::lock_guard lock(item.file->mu);
      if (item.file->gone) continue;
      item.file->rec.pinned = target.on;
      reply.bytes += item.file->rec.size;
    }
    PERIGEE_TRY(core_.Save(item.file));
    ++reply.files;
  }
  return reply;
}

Result<wire::BurstBatchReply> Batch::Hold(const wire::BurstTarget& target) {
  engine_.flusher().Hold(target.on);
  wire::BurstBatchReply reply;
  for (const FilePtr& file : core_.table->All()) {
    std::lock_guard lock(file->mu);
    if (file->gone || file->orphan || !file->OnlyCopy()) continue;
    ++reply.left;
    reply.bytes += file->rec.size;
  }
  return reply;
}

}  // namespace perigee::bufferd
