#include "objectd/meta/namespace_impl.h"

#include <unistd.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/event.h"
#include "base/failpoint.h"
#include "objectd/meta/names.h"
#include "objectd/volume/reference_keys.h"

namespace perigee::objectd {
namespace {

constexpr uint64_t kIdBatch = 1 << 16;
constexpr uint64_t kListIdBatch = 64;
constexpr uint64_t kIdsReserved = 15;  // ids up to here are fixed ones (the root is 1)
constexpr uint64_t kReserveMax = 1 << 20;
// The store runs a lost race again by itself; these are rounds of that.
constexpr int kRounds = 8;
constexpr size_t kFeedBytesMax = 512 << 10;  // of one reply; a reply's header holds 1 MiB
constexpr Nanos kFeedWaitMax = 60 * kSecond;
constexpr Nanos kFeedGather = 10 * kMillisecond;

}  // namespace

wire::RecordReply ReplyOf(Node node) {
  wire::RecordReply reply{.record = std::move(node.record), .parent = node.place.dir};
  reply.name = NameOf(node.place.component);
  return reply;
}

Result<std::unique_ptr<Namespace>> Namespace::Create(kv::Store& store, Clock& clock,
                                                     metrics::Registry& metrics,
                                                     NamespaceOptions options) {
  if (options.inline_bytes_max > kv::kValueBytesMax) {
    return Status(Code::kInvalidArgument, "inline content can be 64 KiB at most");
  }
  auto impl = std::make_unique<NamespaceImpl>(store, clock, metrics, options);
  PERIGEE_TRY(impl->MakeRoot());
  return std::unique_ptr<Namespace>(std::move(impl));
}

NamespaceImpl::NamespaceImpl(kv::Store& store, Clock& clock, metrics::Registry& metrics,
                             NamespaceOptions options)
    : store_(store),
      clock_(clock),
      options_(options),
      ids_(store, keys::FileIdCounter(), kIdBatch),
      lists_(store, ListCounterKey(), kListIdBatch),
      commits_(metrics.GetCounter("perigee_meta_commits_total",
                                  "transactions of the namespace that changed something")),
      reads_(metrics.GetCounter("perigee_meta_reads_total",
                                "transactions of the namespace that only read")),
      lost_races_(metrics.GetCounter("perigee_meta_lost_races_total",
                                     "rounds of a transaction that lost every race")) {}

Status NamespaceImpl::MakeRoot() {
  return CommitDurable([](Tree& tree) -> Status {
    PERIGEE_ASSIGN(auto row, tree.txn().Get(keys::Index(wire::kRootId), kv::ReadMode::kConflict));
    if (row) return Status::Ok();
    wire::Record root{.id = wire::kRootId,
                      .kind = wire::FileKind::kDirectory,
                      .mode = 0755,
                      .uid = geteuid(),
                      .gid = getegid(),
                      .nlink = 2};
    root.atime = root.mtime = root.ctime = root.btime = tree.now();
    tree.txn().Put(keys::Entry(0, "/"), EncodeRow(root));
    tree.txn().Put(keys::Index(wire::kRootId), EncodeIndex({0, "/"}));
    tree.txn().Put(keys::Directory(wire::kRootId), EncodeId(0));
    return Status::Ok();
  });
}

Result<kv::Position> NamespaceImpl::Run(const Body& body, std::vector<wire::FileId>* changed,
                                        wire::NodeId asker) {
  Tree::Asker who{.holds = options_.holds, .node = asker};
  for (int round = 1;;) {
    std::optional<Tree::Blocked> blocked;
    if (who.holds) who.ended = who.holds->ended();
    auto at = store_.Run([&](kv::Transaction& txn) -> Status {
      Tree tree(txn, paths_, clock_.Wall(), who);
      Status done = body(tree);
      if (changed) *changed = tree.TakeChanged();
      blocked = tree.blocked();
      if (!blocked) return done;
      done.Ignore();  // it went on without what it asked for
      return Status(Code::kBusy, "a directory's holder is asked first");
    });
    if (blocked && !at.ok()) {
      at.status().Ignore();  // a conflict, at most: all is looked at again
      if (blocked->dir != 0) PERIGEE_TRY(options_.holds->Take(blocked->dir, blocked->keep));
      if (blocked->keep) who.told.insert(blocked->dir);
      continue;
    }
    if (at.ok() || at.code() != Code::kConflict) return at;
    lost_races_->Add();
    if (round++ == kRounds)
      return Status(Code::kBusy, "too many changes to the same names at once");
  }
}

void NamespaceImpl::Settle(const std::vector<wire::FileId>& changed) {
  if (options_.delegations) options_.delegations->Settle(changed);
  if (options_.holds) options_.holds->Changed(changed);
}

Status NamespaceImpl::Commit(const Body& body) { return CommitAs(0, body); }

Status NamespaceImpl::CommitAs(wire::NodeId node, const Body& body) {
  PERIGEE_FAILPOINT_STATUS(meta_before_commit);
  std::vector<wire::FileId> changed;
  auto at = Run(body, &changed, node);
  if (!at.ok()) return std::move(at).TakeStatus();
  commits_->Add();
  Settle(changed);
  PERIGEE_FAILPOINT_STATUS(meta_after_commit);
  return Status::Ok();
}

Status NamespaceImpl::CommitDurable(const Body& body) {
  PERIGEE_FAILPOINT_STATUS(meta_before_commit);
  std::vector<wire::FileId> changed;
  auto at = Run(body, &changed);
  if (!at.ok()) {
    Status refused = std::move(at).TakeStatus();
    refused.Ignore();  // when the store fails now, that is the answer
    PERIGEE_TRY(store_.WaitDurable(store_.VisiblePosition()));
    return refused;
  }
  commits_->Add();
  Settle(changed);
  PERIGEE_FAILPOINT_STATUS(meta_before_durable);
  PERIGEE_TRY(store_.WaitDurable(*at));
  PERIGEE_FAILPOINT_STATUS(meta_after_durable);
  return Status::Ok();
}

Status NamespaceImpl::Read(const Body& body) { return ReadFor({}, body); }

Status NamespaceImpl::ReadFor(const wire::Caller& caller, const Body& body) {
  reads_->Add();
  auto at = Run(body, nullptr, caller.node);
  return at.ok() ? Status::Ok() : std::move(at).TakeStatus();
}

Status NamespaceImpl::ReadDurable(const Body& body) {
  Status outcome;
  reads_->Add();
  // The outcome is kept aside, so that there is a position to wait for in either case.
  auto at = Run([&](Tree& tree) -> Status {
    outcome.Ignore();  // of an attempt that did not count
    outcome = body(tree);
    return Status::Ok();
  });
  outcome.Ignore();  // when the store failed, its error is the answer
  if (!at.ok()) return std::move(at).TakeStatus();
  PERIGEE_FAILPOINT_STATUS(meta_before_durable);
  PERIGEE_TRY(store_.WaitDurable(*at));
  PERIGEE_FAILPOINT_STATUS(meta_after_durable);
  return outcome;
}

Result<uint64_t> NamespaceImpl::NewIds(uint64_t count) {
  if (options_.room) PERIGEE_TRY(options_.room());
  return TakeIds(count);
}

Result<uint64_t> NamespaceImpl::TakeIds(uint64_t count) {
  while (true) {
    PERIGEE_ASSIGN(uint64_t first, ids_.NextRange(count));
    if (first > kIdsReserved) return first;
  }
}

Result<std::string> NamespaceImpl::ReadInline(wire::FileId id, uint64_t generation) {
  std::string bytes;
  PERIGEE_TRY(Read([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(auto value,
                   tree.txn().Get(keys::Inline(id, generation), kv::ReadMode::kSnapshot));
    if (!value) return Status(Code::kStale, "that content is no longer there");
    bytes = std::move(*value);
    return Status::Ok();
  }));
  return bytes;
}

Result<wire::ReserveIdsReply> NamespaceImpl::ReserveIds(const wire::ReserveIdsRequest& q) {
  if (q.count == 0 || q.count > kReserveMax) {
    return Status(Code::kInvalidArgument,
                  "1 to " + std::to_string(kReserveMax) + " ids can be reserved at once");
  }
  PERIGEE_ASSIGN(uint64_t first, TakeIds(q.count));
  return wire::ReserveIdsReply{.first = first, .count = q.count};
}

Result<wire::FeedReply> NamespaceImpl::Feed(const wire::FeedRequest& q) {
  const Nanos deadline =
      clock_.Monotonic() + std::min<Nanos>(q.wait_ms * kMillisecond, kFeedWaitMax);
  wire::FeedReply reply{.next = q.after};
  size_t bytes = 0;
  std::optional<bool> awaits_durable;
  while (true) {
    PERIGEE_ASSIGN(kv::FeedPage page,
                   store_.ReadFeed(reply.next, std::clamp<uint32_t>(q.limit, 1, 4096)));
    reply.visible = page.visible;
    reply.durable = page.durable;
    const bool more = !page.events.empty();
    kv::Position last = reply.next;
    bool full = false;
    for (auto& event : page.events) {
      // A position is never split between replies: its events are read again as one.
      if (event.position != last && (reply.changes.size() >= q.limit || bytes > kFeedBytesMax)) {
        full = true;
        break;
      }
      last = event.position;
      PERIGEE_ASSIGN(wire::Change change, DecodeChange(event.event));
      bool released =
          change.kind == wire::ChangeKind::kRemoved ||
          (change.kind == wire::ChangeKind::kReleasedBurst && change.node == q.released_for);
      if (q.released_for && !released) continue;
      change.position = event.position;
      bytes += event.event.size() + 16;
      reply.changes.push_back(std::move(change));
    }
    reply.next = full ? last : page.next;
    if (full || q.after == kv::Store::kFeedEnd || reply.changes.size() >= q.limit) return reply;
    if (more) continue;
    // Durability that reached what the consumer read before is news as well: it may now act on
    // that.
    if (!awaits_durable)
      awaits_durable = q.after > (q.seen_durable ? q.seen_durable : page.durable);
    if (!reply.changes.empty() || (*awaits_durable && page.durable >= q.after)) return reply;
    const Nanos left = deadline - clock_.Monotonic();
    if (left <= 0) return reply;
    if (!store_.WaitFeed(page.visible, page.durable, left)) return reply;
    // Where one change comes, more follow: told together, they cost a consumer one look.
    Event gather;
    gather.WaitFor(std::min(left, kFeedGather));
  }
}

uint64_t NamespaceImpl::FileCount() {
  uint64_t count = 0;
  Status read = Read([&](Tree& tree) -> Status {
    count = 0;
    std::vector<std::string> rows;
    for (uint8_t shard = 0; shard < kCountShards; ++shard) rows.push_back(keys::FileCount(shard));
    PERIGEE_ASSIGN(auto values, tree.txn().GetMany(rows, kv::ReadMode::kSnapshot));
    for (const auto& value : values) {
      if (value && value->size() == 8) count += GetLe<uint64_t>(AsBytes(*value).data());
    }
    return Status::Ok();
  });
  read.Ignore();  // a figure for status and statfs: 0 when the store is away
  return count;
}

Status CheckId(const Node& node, wire::FileId expected) {
  if (expected == 0 || node.record.id == expected) return Status::Ok();
  return Status(Code::kStale, "the name is another file's by now");
}

Status NamespaceImpl::Sync() {
  PERIGEE_FAILPOINT_STATUS(meta_before_durable);
  PERIGEE_TRY(store_.WaitDurable(store_.VisiblePosition()));
  PERIGEE_FAILPOINT_STATUS(meta_after_durable);
  return Status::Ok();
}

}  // namespace perigee::objectd
