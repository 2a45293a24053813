#pragma once
// FakeObjectd: a namespace in memory behind a Channel, with the semantics that bufferd relies on
// (rdma/wire/meta.h): writers, publishes, previous versions, released burst files in a feed.
// Answers on the caller's thread. Knobs: away, lost replies, a durable watermark that stands still.
// FakeBlobs is the object tier.

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "base/event.h"
#include "client/blob/blob_io.h"
#include "rdma/rpc.h"
#include "rdma/wire/meta.h"

namespace perigee::bufferd {

class FakeObjectd final : public rdma::Channel {
 public:
  using Method = wire::Method;

  FakeObjectd() {
    wire::Record root;
    root.id = wire::kRootId;
    root.kind = wire::FileKind::kDirectory;
    files_[root.id] = root;
    auto pool = rdma::SlabPool::Create({.bytes_max = 32 << 20});
    slabs_ = *pool;
  }

  void Call(Method method, std::string header, ConstBytes bulk, rdma::CallOptions options,
            Done done) override {
    bool away_now, lose;
    {
      std::lock_guard lock(mu_);
      ++calls[method];
      traffic[method] = options.traffic;
      away_now = away;
      lose = lose_reply == method;
      if (lose) lose_reply = Method::kPing;
    }
    if (before) before(method);
    if (away_now) return done(Status(Code::kUnavailable, "objectd is away"));
    rdma::Payload payload;
    Result<std::string> reply = Serve(method, header, bulk, &payload.bulk);
    if (auto hook = after) hook(method);  // which may take itself away
    if (lose) {
      reply.status().Ignore();
      return done(Status(Code::kUnavailable, "the connection was lost"));
    }
    if (!reply.ok()) return done(std::move(reply).TakeStatus());
    payload.header = std::move(*reply);
    done(std::move(payload));
  }
  bool Healthy() const override { return !away; }
  std::string Describe() const override { return "fake"; }
  void Close() override {}

  // What tests look at and turn.
  bool away = false;
  bool writers_gone = false;          // of other nodes
  Method lose_reply = Method::kPing;  // executed, but its caller hears nothing, once
  bool hold_durable = false;          // the durable watermark stands still
  uint64_t inline_bytes_max = 16 << 10;
  bool metadata_full = false;  // no inline content fits
  int holds = 0;               // directories that were granted
  bool terms_over = false;     // nothing is held any more, and nobody has told its holder
  std::map<Method, int> calls;
  std::map<Method, rdma::TrafficClass> traffic;  // of the last call
  std::function<void(Method)> before, after;     // it is served

  wire::Record Get(wire::FileId id) {
    std::lock_guard lock(mu_);
    return files_[id];
  }
  bool Exists(wire::FileId id) {
    std::lock_guard lock(mu_);
    return files_.contains(id);
  }
  wire::FileId IdOf(const std::string& name) {
    std::lock_guard lock(mu_);
    return names_.contains({wire::kRootId, name}) ? names_[{wire::kRootId, name}] : 0;
  }
  wire::FileId IdOf(wire::FileId parent, const std::string& name) {
    std::lock_guard lock(mu_);
    return names_.contains({parent, name}) ? names_[{parent, name}] : 0;
  }
  std::string InlineOf(wire::FileId id, uint64_t generation) {
    std::lock_guard lock(mu_);
    return inline_[{id, generation}];
  }
  // A file that other doors made: inline, or blobs, or in another node's burst buffer.
  wire::FileId Put(const std::string& name, wire::Version version, std::string inline_bytes = {},
                   wire::FileId parent = wire::kRootId) {
    std::lock_guard lock(mu_);
    wire::Record r;
    r.id = next_id_++;
    r.mode = 0644;
    version.generation = std::max<uint64_t>(version.generation, 1);
    if (version.layout.kind == wire::LayoutKind::kInline)
      inline_[{r.id, version.generation}] = std::move(inline_bytes);
    r.committed = std::move(version);
    names_[{parent, name}] = r.id;
    files_[r.id] = r;
    return r.id;
  }
  // The same generation, somewhere else now.
  void MoveContent(wire::FileId id, wire::Layout layout) {
    std::lock_guard lock(mu_);
    files_[id].committed->layout = std::move(layout);
  }
  // Its name, by its writer; its content is gone.
  void MadeAgain(wire::FileId id, wire::WriterInfo writer) {
    std::lock_guard lock(mu_);
    files_[id].committed.reset();
    files_[id].previous.reset();
    files_[id].writer = writer;
  }
  void SetMode(wire::FileId id, uint32_t mode, uint32_t uid) {
    std::lock_guard lock(mu_);
    files_[id].mode = mode;
    files_[id].uid = uid;
  }
  void Unlink(const std::string& name) {
    std::lock_guard lock(mu_);
    wire::FileId id = names_[{wire::kRootId, name}];
    wire::Record before_record = files_[id];
    names_.erase({wire::kRootId, name});
    files_.erase(id);
    Release(before_record, nullptr);
  }
  void Unlink(wire::FileId parent, const std::string& name) {
    std::lock_guard lock(mu_);
    wire::Record removed = files_[names_[{parent, name}]];
    files_.erase(removed.id);
    names_.erase({parent, name});
    Release(removed, nullptr);
  }
  // Another life of it, without what came after the last sync.
  void LosePower() {
    std::lock_guard lock(mu_);
    std::tie(files_, names_, inline_, told_) = synced_;
    ++instance_;
  }
  void ForgetFeed() {
    std::lock_guard lock(mu_);
    oldest_ = events_.empty() ? 1 : events_.back().position + 1;
    events_.clear();
  }
  void LetDurable() {
    std::lock_guard lock(mu_);
    hold_durable = false;
    feed_.NotifyAll();
  }

 private:
  static Status Replaced() { return Status(Code::kStale, "replaced meanwhile"); }
  static bool On(const wire::Version& v, wire::NodeId node, wire::BurstId burst) {
    return v.layout.kind == wire::LayoutKind::kBurst && v.layout.node == node &&
           v.layout.burst == burst;
  }
  static bool Safe(const wire::Version& v) {
    return v.layout.kind != wire::LayoutKind::kBurst || v.durability >= wire::Durability::kLocal;
  }
  static bool Writes(const wire::Record& r, wire::NodeId node, wire::BurstId burst) {
    return r.writer && r.writer->node == node && r.writer->burst == burst;
  }

  // With mu_ held: events for burst files that `before` names and `after` does not.
  void Release(const wire::Record& before_record, const wire::Record* after) {
    auto bursts = [](const wire::Record& r) {
      std::vector<std::pair<wire::NodeId, wire::BurstId>> b;
      for (const auto* v : {&r.committed, &r.previous})
        if (*v && (*v)->layout.kind == wire::LayoutKind::kBurst)
          b.emplace_back((*v)->layout.node, (*v)->layout.burst);
      if (r.writer) b.emplace_back(r.writer->node, r.writer->burst);
      std::sort(b.begin(), b.end());
      b.erase(std::unique(b.begin(), b.end()), b.end());
      return b;
    };
    auto kept = after ? bursts(*after) : decltype(bursts(before_record)){};
    for (auto b : bursts(before_record)) {
      if (std::find(kept.begin(), kept.end(), b) != kept.end()) continue;
      wire::Change c;
      c.position = ++position_;
      c.kind = wire::ChangeKind::kReleasedBurst;
      c.id = before_record.id;
      c.node = b.first;
      c.burst = b.second;
      events_.push_back(c);
    }
    if (!after) return TellRemoved(before_record.id);
    if (!hold_durable) durable_ = position_;
    feed_.NotifyAll();
  }
  // A name of the file went.
  void TellRemoved(wire::FileId id) {
    events_.push_back({.position = ++position_, .kind = wire::ChangeKind::kRemoved, .id = id});
    if (!hold_durable) durable_ = position_;
    feed_.NotifyAll();
  }

  template <class Q>
  static Result<Q> In(std::string_view header) {
    return wire::Decode<Q>(header);
  }

  Result<std::string> Record(const wire::Record& r) {
    wire::RecordReply reply{.record = r};
    for (const auto& [key, id] : names_) {
      if (id == r.id) std::tie(reply.parent, reply.name) = key;
    }
    return wire::Encode(reply);
  }
  Result<wire::Record*> File(wire::FileId id) {
    auto it = files_.find(id);
    if (it == files_.end()) return Status(Code::kStale, "no file " + std::to_string(id));
    return &it->second;
  }

  Result<std::string> MakePath(const wire::MakeRequest& q) {
    wire::FileId at = q.parent;
    std::string path = q.name;
    while (!path.empty()) {
      std::string part = path.substr(0, path.find('/'));
      path = part.size() == path.size() ? "" : path.substr(part.size() + 1);
      auto [it, made] = names_.try_emplace({at, part}, next_id_);
      if (made) {
        files_[next_id_] = wire::Record{.id = next_id_, .kind = wire::FileKind::kDirectory};
        ++next_id_;
      }
      at = it->second;
    }
    return Record(files_[at]);
  }

  Result<std::string> Serve(Method method, std::string_view header, ConstBytes bulk,
                            rdma::Piece* out) {
    if (method == Method::kMetaFeed) return Feed(header);
    std::lock_guard lock(mu_);
    return Do(method, header, bulk, out);
  }

  Result<std::string> Do(Method method, std::string_view header, ConstBytes bulk,
                         rdma::Piece* out) {
    switch (method) {
      case Method::kMetaHoldDirectory: {
        PERIGEE_ASSIGN(auto q, In<wire::HoldDirectoryRequest>(header));
        if (terms_over) return Status(Code::kStale, "give up everything first");
        wire::HoldDirectoryReply reply;
        if (q.dir == 0) return wire::Encode(reply);
        PERIGEE_ASSIGN(auto* r, File(q.dir));
        ++holds;
        reply.granted = true;
        reply.record = *r;
        reply.path = "b/d";
        return wire::Encode(reply);
      }
      case Method::kMetaReleaseDirectories: {
        PERIGEE_ASSIGN(auto q, In<wire::ReleaseDirectoriesRequest>(header));
        if (q.all) terms_over = false;
        return wire::Encode(wire::Empty{});
      }
      case Method::kMetaApply: {
        PERIGEE_ASSIGN(auto q, In<wire::ApplyRequest>(header));
        auto& [journal, through] = told_[q.node];
        if (q.journal != 0 && std::exchange(journal, q.journal) != q.journal) through = 0;
        if (q.through != 0 && q.through <= through)
          return wire::Encode(wire::ApplyReply{.through = through});
        if (q.through != 0 && q.after != through)
          return Status(Code::kPreconditionFailed, "not told up to there");
        const auto before_it = std::tuple(files_, names_, inline_);
        for (const wire::ApplyOp& op : q.ops) {
          auto done = Do(static_cast<Method>(op.method), op.request,
                         bulk.first(static_cast<size_t>(op.inline_bytes)), out);
          bulk = bulk.subspan(static_cast<size_t>(op.inline_bytes));
          if (done.ok()) continue;
          std::tie(files_, names_, inline_) = before_it;
          return std::move(done).TakeStatus();
        }
        through = std::max(through, q.through);
        if (q.ops.empty()) synced_ = {files_, names_, inline_, told_};
        return wire::Encode(wire::ApplyReply{.through = through});
      }
      case Method::kMetaLookup: {
        PERIGEE_ASSIGN(auto q, In<wire::LookupRequest>(header));
        wire::FileId at = q.parent;
        std::string path = q.path.empty() ? q.name : q.path;
        while (!path.empty()) {
          std::string part = path.substr(0, path.find('/'));
          path = part.size() == path.size() ? "" : path.substr(part.size() + 1);
          auto it = names_.find({at, part});
          if (it == names_.end()) return Status(Code::kNotFound, "no " + part);
          at = it->second;
        }
        return Record(files_[at]);
      }
      case Method::kMetaGetAttr: {
        PERIGEE_ASSIGN(auto q, In<wire::GetAttrRequest>(header));
        PERIGEE_ASSIGN(auto* r, File(q.id));
        return Record(*r);
      }
      case Method::kMetaReadDir: {
        PERIGEE_ASSIGN(auto q, In<wire::ReadDirRequest>(header));
        wire::ReadDirReply reply;
        for (auto& [key, id] : names_)
          if (key.first == q.dir && key.second > q.after)
            reply.items.push_back({key.second, key.second, files_[id]});
        reply.end = true;
        return wire::Encode(reply);
      }
      case Method::kMetaMkdir:
      case Method::kMetaCreate: {
        PERIGEE_ASSIGN(auto q, In<wire::MakeRequest>(header));
        if (q.parents) return MakePath(q);
        if (q.id != 0 && files_.contains(q.id)) return Record(files_[q.id]);
        if (q.id != 0 && !files_.contains(q.parent))
          return Status(Code::kStale, "no such directory");
        if (names_.contains({q.parent, q.name})) return Status(Code::kAlreadyExists, q.name);
        wire::Record r;
        r.id = q.id != 0 ? q.id : next_id_++;
        r.mode = q.mode;
        r.uid = q.uid;
        r.kind = method == Method::kMetaMkdir ? wire::FileKind::kDirectory : wire::FileKind::kFile;
        r.writer = q.writer;
        names_[{q.parent, q.name}] = r.id;
        files_[r.id] = r;
        return Record(r);
      }
      case Method::kMetaReserveIds: {
        PERIGEE_ASSIGN(auto q, In<wire::ReserveIdsRequest>(header));
        wire::ReserveIdsReply reply{.first = next_id_, .count = q.count};
        next_id_ += q.count;
        return wire::Encode(reply);
      }
      case Method::kMetaRename: {
        PERIGEE_ASSIGN(auto q, In<wire::RenameRequest>(header));
        auto from = names_.find({q.parent, q.name});
        if (from == names_.end()) return Status(Code::kNotFound, q.name);
        if (q.id != 0 && from->second != q.id) return Replaced();
        wire::RenameReply reply{.moved = files_[from->second]};
        if (auto to = names_.find({q.new_parent, q.new_name}); to != names_.end()) {
          if (q.flags & wire::kRenameNoReplace || (q.id != 0 && to->second != q.replaced))
            return Status(Code::kAlreadyExists, q.new_name);
          reply.replaced = files_[to->second];
          files_.erase(to->second);
          Release(*reply.replaced, nullptr);
        }
        names_.erase({q.parent, q.name});
        names_[{q.new_parent, q.new_name}] = reply.moved.id;
        TellRemoved(reply.moved.id);  // under its old name
        return wire::Encode(reply);
      }
      case Method::kMetaSetAttr: {
        PERIGEE_ASSIGN(auto q, In<wire::SetAttrRequest>(header));
        PERIGEE_ASSIGN(auto* r, File(q.id));
        if (q.set_mode) r->mode = q.mode;
        return Record(*r);
      }
      case Method::kMetaRmdir:
      case Method::kMetaUnlink: {
        PERIGEE_ASSIGN(auto q, In<wire::RemoveRequest>(header));
        auto it = names_.find({q.parent, q.name});
        if (it == names_.end()) return Status(Code::kNotFound, q.name);
        if (q.id != 0 && it->second != q.id) return Replaced();
        if (method == Method::kMetaRmdir &&
            std::any_of(names_.begin(), names_.end(),
                        [&](const auto& n) { return n.first.first == it->second; }))
          return Status(Code::kNotEmpty, q.name);
        wire::Record r = files_[it->second];
        files_.erase(it->second);
        names_.erase(it);
        Release(r, nullptr);
        return Record(r);
      }
      case Method::kMetaOpenWrite: {
        PERIGEE_ASSIGN(auto q, In<wire::OpenWriteRequest>(header));
        PERIGEE_ASSIGN(auto* r, File(q.id));
        uint64_t committed = r->committed ? r->committed->generation : 0;
        if (committed != q.expect_generation) return Replaced();
        if (r->writer && r->writer->node != q.node)
          return Status(Code::kBusy, "another node writes");
        r->writer = wire::WriterInfo{.node = q.node,
                                     .burst = q.burst,
                                     .generation = std::max(committed, r->generation_floor) + 1};
        return Record(*r);
      }
      case Method::kMetaPublish: {
        PERIGEE_ASSIGN(auto q, In<wire::PublishRequest>(header));
        PERIGEE_ASSIGN(auto* r, File(q.id));
        if (q.has_inline && metadata_full) return Status(Code::kNoSpace, "metadata is full");
        if (q.has_inline && q.size > inline_bytes_max) return Status(Code::kTooLarge, "too much");
        if (r->committed && r->committed->generation == q.generation) return Record(*r);
        if (!Writes(*r, q.node, q.burst) || r->writer->generation != q.generation)
          return Replaced();
        wire::Record before_record = *r;
        wire::Version next{
            .generation = q.generation,
            .size = q.size,
            .mtime = q.mtime,
            .durability = q.has_inline && q.sync ? wire::Durability::kObject : q.durability};
        next.layout.kind = q.has_inline
                               ? (q.size ? wire::LayoutKind::kInline : wire::LayoutKind::kNone)
                               : wire::LayoutKind::kBurst;
        if (!q.has_inline)
          next.layout.node = q.node, next.layout.burst = q.burst;
        else
          inline_[{q.id, q.generation}] = std::string(AsView(bulk));
        r->writer->generation = q.generation + 1;
        if (r->committed) {
          bool in_place = !q.has_inline && On(*r->committed, q.node, q.burst);
          if (Safe(next))
            r->previous.reset();
          else if (!in_place)
            r->previous = r->committed;
        }
        r->committed = next;
        Release(before_record, r);
        return Record(*r);
      }
      case Method::kMetaEndWrite: {
        PERIGEE_ASSIGN(auto q, In<wire::EndWriteRequest>(header));
        PERIGEE_ASSIGN(auto* r, File(q.id));
        if (Writes(*r, q.node, q.burst)) r->writer.reset();
        return Record(*r);
      }
      case Method::kMetaReclaimWriter: {
        PERIGEE_ASSIGN(auto q, In<wire::ReclaimWriterRequest>(header));
        PERIGEE_ASSIGN(auto* r, File(q.id));
        if (r->writer && !writers_gone) return Status(Code::kBusy, "another node writes it");
        const wire::Record before_record = *r;
        if (r->writer) r->generation_floor = r->writer->generation;
        r->writer.reset();
        Release(before_record, r);
        return Record(*r);
      }
      case Method::kMetaEndWrites: {
        PERIGEE_ASSIGN(auto q, In<wire::EndWritesRequest>(header));
        wire::EndWritesReply reply;
        for (const wire::WriterOf& write : q.writes) {
          auto r = File(write.id);
          if (r.ok() && Writes(**r, q.node, write.burst)) (*r)->writer.reset();
          reply.codes.push_back(r.code());
        }
        return wire::Encode(reply);
      }
      case Method::kMetaCommitFlush: {
        PERIGEE_ASSIGN(auto q, In<wire::CommitFlushRequest>(header));
        PERIGEE_ASSIGN(auto* r, File(q.id));
        if (!r->committed || r->committed->generation != q.generation ||
            !On(*r->committed, q.node, q.burst))
          return Replaced();
        r->committed->layout = wire::Layout{.kind = wire::LayoutKind::kBlobs, .extents = q.extents};
        r->committed->durability = wire::Durability::kObject;
        wire::Record before_record = *r;
        r->previous.reset();
        Release(before_record, r);
        return Record(*r);
      }
      case Method::kMetaSetDurability: {
        PERIGEE_ASSIGN(auto q, In<wire::SetDurabilityRequest>(header));
        PERIGEE_ASSIGN(auto* r, File(q.id));
        if (!r->committed || r->committed->generation != q.generation) return Replaced();
        wire::Record before_record = *r;
        r->committed->durability = std::max(r->committed->durability, q.durability);
        if (Safe(*r->committed)) r->previous.reset();
        Release(before_record, r);
        return Record(*r);
      }
      case Method::kMetaFallBack: {
        PERIGEE_ASSIGN(auto q, In<wire::FallBackRequest>(header));
        PERIGEE_ASSIGN(auto* r, File(q.id));
        const bool lost =
            r->committed
                ? r->committed->generation == q.generation && On(*r->committed, q.node, q.burst)
                : q.generation == 0 && !r->previous && Writes(*r, q.node, q.burst);
        if (!lost) return Replaced();
        wire::Record before_record = *r;
        if (Writes(*r, q.node, q.burst)) r->writer.reset();
        if (r->previous) {
          r->committed = r->previous;
          r->previous.reset();
          Release(before_record, r);
          return Record(*r);
        }
        files_.erase(q.id);
        std::erase_if(names_, [&](const auto& n) { return n.second == q.id; });
        Release(before_record, nullptr);
        return Status(Code::kNotFound, "removed");
      }
      case Method::kMetaReadInline: {
        PERIGEE_ASSIGN(auto q, In<wire::ReadInlineRequest>(header));
        auto it = inline_.find({q.id, q.generation});
        if (it == inline_.end()) return Status(Code::kStale, "no such inline content");
        if (!it->second.empty()) {
          PERIGEE_ASSIGN(*out, slabs_->Allocate(it->second.size(), kSecond));
          std::memcpy(out->data(), it->second.data(), it->second.size());
        }
        return std::string();
      }
      case Method::kMetaSync:
        synced_ = {files_, names_, inline_, told_};
        return wire::Encode(wire::SyncReply{.instance = instance_});
      case Method::kMetaRegisterNode:
        return wire::Encode(
            wire::RegisterNodeReply{.inline_bytes_max = inline_bytes_max, .cluster_id = 1});
      default:
        return Status(Code::kUnimplemented, "the fake has no such method");
    }
  }

  Result<std::string> Feed(std::string_view header) {
    PERIGEE_ASSIGN(auto q, In<wire::FeedRequest>(header));
    std::unique_lock lock(mu_);
    wire::FeedReply reply;
    if (q.after != UINT64_MAX) {
      if (q.after + 1 < oldest_) return Status(Code::kResync, "too late");
      uint64_t durable_before = durable_;
      feed_.WaitFor(lock, Nanos{q.wait_ms} * kMillisecond,
                    [&] { return position_ > q.after || durable_ > durable_before; });
      for (const auto& e : events_)
        if (e.position > q.after &&
            (e.node == q.released_for || e.kind == wire::ChangeKind::kRemoved))
          reply.changes.push_back(e);
    }
    if (!hold_durable) durable_ = position_;
    reply.next = reply.visible = position_;
    reply.durable = durable_;
    return wire::Encode(reply);
  }

  std::mutex mu_;  // guards what follows and the knobs
  CondVar feed_;
  std::shared_ptr<rdma::SlabPool> slabs_;
  std::map<wire::FileId, wire::Record> files_;
  std::map<std::pair<wire::FileId, std::string>, wire::FileId> names_;
  std::map<std::pair<wire::FileId, uint64_t>, std::string> inline_;
  std::map<wire::NodeId, std::pair<uint64_t, uint64_t>> told_;  // journal, through
  std::tuple<decltype(files_), decltype(names_), decltype(inline_), decltype(told_)> synced_;
  uint64_t instance_ = 1;
  std::vector<wire::Change> events_;
  wire::FileId next_id_ = 100;
  uint64_t position_ = 0, durable_ = 0, oldest_ = 1;
};

// Blobs in memory: one extent an object, sequences counted up.
class FakeBlobs final : public client::BlobReader {
 public:
  Status Read(const wire::Layout& layout, uint64_t size, uint64_t offset,
              MutableBytes out) override {
    if (on_read) PERIGEE_TRY(on_read(offset, out.size()));
    std::lock_guard lock(mu_);
    ++reads;
    if (layout.extents.size() != 1) return Status(Code::kInvalidArgument, "not a fake's layout");
    const std::string& bytes = objects_[layout.extents[0].first_seq];
    if (bytes.size() != size || offset + out.size() > size)
      return Status(Code::kInvalidArgument, "range outside");
    std::memcpy(out.data(), bytes.data() + offset, out.size());
    return Status::Ok();
  }
  Status ReadTo(const wire::Layout& layout, uint64_t size, uint64_t offset, uint64_t bytes,
                const client::BlobSink& sink) override {
    std::string out(bytes, '\0');
    PERIGEE_TRY(Read(layout, size, offset, {reinterpret_cast<uint8_t*>(out.data()), bytes}));
    // In pieces of no round length, the last one first.
    constexpr uint64_t kPiece = 300'001;
    for (uint64_t at = bytes / kPiece * kPiece;; at -= kPiece) {
      if (at < bytes) PERIGEE_TRY(sink(offset + at, AsBytes(out.substr(at, kPiece))));
      if (at == 0) return Status::Ok();
    }
  }
  Result<std::vector<client::ShardData>> Rebuild(const wire::VolumeInfo&, uint64_t,
                                                 const std::vector<uint32_t>&) override {
    return Status(Code::kUnimplemented, "the fake rebuilds nothing");
  }
  wire::Version Store(std::string bytes) {
    std::lock_guard lock(mu_);
    wire::Version v{.generation = 1,
                    .size = bytes.size(),
                    .mtime = 1'600'000'000'000'000'005,
                    .durability = wire::Durability::kObject};
    v.layout.kind = wire::LayoutKind::kBlobs;
    v.layout.extents = {wire::Extent{.length = bytes.size(),
                                     .volume = 1,
                                     .first_seq = next_,
                                     .count = 1,
                                     .blob_bytes = bytes.size()}};
    objects_[next_++] = std::move(bytes);
    return v;
  }
  std::string BytesOf(const wire::Version& v) {
    std::lock_guard lock(mu_);
    return v.layout.extents.size() == 1 ? objects_[v.layout.extents[0].first_seq] : "";
  }
  std::unique_ptr<client::BlobWriter> NewWriter(client::BlobWriter::Options options) {
    return std::make_unique<Writer>(this, std::move(options));
  }

  std::function<Status(uint64_t offset, size_t bytes)> on_read;
  std::function<Status(uint64_t bytes_so_far)> on_commit;  // of a writer's buffer
  int reads = 0;
  int given_up = 0;  // writers whose object no commit took

 private:
  class Writer final : public client::BlobWriter {
   public:
    Writer(FakeBlobs* blobs, Options options) : blobs_(blobs), options_(std::move(options)) {}
    Status Append(ConstBytes data) override {
      bytes_.append(AsView(data));
      return Status::Ok();
    }
    Result<MutableBytes> Reserve(size_t want) override {
      buffer_.resize(std::min<size_t>(want, 1'300'000));  // no multiple of anything
      return MutableBytes(reinterpret_cast<uint8_t*>(buffer_.data()), buffer_.size());
    }
    Status Commit(size_t filled) override {
      bytes_.append(buffer_, 0, filled);
      return blobs_->on_commit ? blobs_->on_commit(bytes_.size()) : Status::Ok();
    }
    Result<client::WrittenObject> Finish() override {
      if (options_.cancelled && options_.cancelled()) return Status(Code::kCancelled, "cancelled");
      uint64_t n = bytes_.size();
      wire::Version v = blobs_->Store(std::move(bytes_));
      return client::WrittenObject{.bytes = n, .extents = v.layout.extents, .intents = {1}};
    }
    void GiveUp() override { ++blobs_->given_up; }

   private:
    FakeBlobs* blobs_;
    Options options_;
    std::string bytes_, buffer_;
  };

  std::mutex mu_;  // guards what follows
  std::map<uint64_t, std::string> objects_;
  uint64_t next_ = 1;
};

}  // namespace perigee::bufferd
