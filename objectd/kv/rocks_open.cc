#include "objectd/kv/rocks_open.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/log.h"
#include "base/random.h"
#include "objectd/kv/membership_change.h"
#include "objectd/kv/mirror_copy.h"

namespace perigee::objectd::kv {
namespace {

// More than the commits that a crash can take back: positions handed out before are never used
// again.
constexpr Position kOpenGap = Position{1} << 32;

using MirrorRef = std::shared_ptr<RocksMirror>;

class Opener {
 public:
  Opener(const RocksStoreOptions& options, std::shared_ptr<RocksEngine> engine)
      : options_(options), engine_(std::move(engine)) {}
  Result<OpenedMirrors> Create();
  Result<OpenedMirrors> Resume();

 private:
  struct Found {
    MirrorRef mirror;
    Head head;
  };
  Status ClearLeftover(const MirrorPlace& place);
  Status FindAll();
  Result<Found> Find(const MirrorPlace& place);
  Status CheckSameStore();
  Status Lose(const MirrorPlace& place, const std::string& why);
  Status Converge();
  CopyOutcome BringUp(Found& behind, const Found& source);
  Result<OpenedMirrors> StartEpoch();

  const RocksStoreOptions& options_;
  const std::shared_ptr<RocksEngine> engine_;
  std::vector<Found> found_;
};

// A creation that was interrupted leaves a mirror without commits.
Status Opener::ClearLeftover(const MirrorPlace& place) {
  {
    Result<MirrorRef> left = RocksMirror::Open(engine_, place, RocksEngine::Mode::kExisting);
    if (left.ok()) {
      Result<Head> head = (*left)->ReadHead();
      bool unused = head.ok() ? head->position == 0 : head.status().Is(Code::kCorrupt);
      if (!unused) return Status(Code::kAlreadyExists, "a metadata store is in " + place.dir);
    } else if (!left.status().Is(Code::kNotFound)) {
      return left.status();
    }
  }
  return ClearMirrorDir(place.dir);
}

Result<OpenedMirrors> Opener::Create() {
  for (const MirrorPlace& place : options_.mirrors) PERIGEE_TRY(ClearLeftover(place));
  CommitContent first;
  first.format = FormatRecord{kFormatVersion, SecretBytes(kStoreIdBytes)};
  std::string batch = EncodeBatch(first);
  OpenedMirrors opened{{}, first.head, FeedIndex(options_.feed_events_kept)};
  for (const MirrorPlace& place : options_.mirrors) {
    PERIGEE_ASSIGN(MirrorRef mirror, RocksMirror::Open(engine_, place, RocksEngine::Mode::kFresh));
    PERIGEE_TRY(mirror->Write(batch));
    PERIGEE_TRY(mirror->Sync());
    opened.mirrors.push_back(std::move(mirror));
  }
  return opened;
}

Result<Opener::Found> Opener::Find(const MirrorPlace& place) {
  PERIGEE_TRY(RecoverMirrorDir(place.dir));
  PERIGEE_ASSIGN(MirrorRef mirror, RocksMirror::Open(engine_, place, RocksEngine::Mode::kExisting));
  PERIGEE_TRY(mirror->ReadFormat().status());
  PERIGEE_ASSIGN(Head head, mirror->ReadHead());
  return Found{std::move(mirror), head};
}

Status Opener::FindAll() {
  struct Missing {
    MirrorPlace place;
    std::string why;
  };
  std::vector<Missing> missing;
  std::string all;
  for (const MirrorPlace& place : options_.mirrors) {
    Result<Found> found = Find(place);
    if (found.ok()) {
      found_.push_back(std::move(*found));
      continue;
    }
    // Neither says anything about the drive.
    if (found.status().Is(Code::kBusy) || found.status().Is(Code::kUnimplemented))
      return found.status();
    all += (all.empty() ? "" : "; ") + found.status().message();
    missing.push_back({place, found.status().message()});
  }
  if (found_.empty()) return Status(Code::kUnavailable, "no metadata mirror can be opened: " + all);
  for (const Missing& m : missing) PERIGEE_TRY(Lose(m.place, m.why));
  return Status::Ok();
}

Status Opener::Lose(const MirrorPlace& place, const std::string& why) {
  return EjectDurably(options_.membership, place, why);
}

Status Opener::CheckSameStore() {
  std::string id;
  for (const Found& f : found_) {
    PERIGEE_ASSIGN(FormatRecord format, f.mirror->ReadFormat());
    if (id.empty()) id = format.store_id;
    if (format.store_id == id) continue;
    return Status(Code::kCorrupt, "the metadata mirrors in " + found_[0].mirror->place().dir +
                                      " and " + f.mirror->place().dir +
                                      " belong to different stores");
  }
  return Status::Ok();
}

CopyOutcome Opener::BringUp(Found& behind, const Found& source) {
  Result<uint64_t> sequence = FindInLog(*source.mirror, behind.head.position);
  CopyOutcome done{CopyFault::kSource, sequence.status()};
  if (sequence.ok()) {
    WalFollower follower(*source.mirror, *behind.mirror, behind.head.position, *sequence);
    done = follower.FollowTo(source.head.position);
    if (done.fault == CopyFault::kNone) {
      Status st = behind.mirror->Sync();
      if (!st.ok()) return {CopyFault::kTarget, std::move(st)};
    }
  }
  if (done.fault == CopyFault::kNone || done.fault == CopyFault::kTarget) return done;
  log::Info("metadata_mirror_copied_whole",
            {{"dir", behind.mirror->place().dir}, {"because", done.status}});
  MirrorPlace place = behind.mirror->place();
  behind.mirror.reset();
  done = ReplaceByCopy(source.mirror, engine_, place);
  if (done.fault == CopyFault::kTarget) return done;
  // A copy that failed for the source's sake left the mirror as it was.
  Result<MirrorRef> again = RocksMirror::Open(engine_, place, RocksEngine::Mode::kExisting);
  if (!again.ok()) return {CopyFault::kTarget, std::move(again).TakeStatus()};
  behind.mirror = std::move(*again);
  return done;
}

Status Opener::Converge() {
  for (;;) {
    auto longest = std::max_element(
        found_.begin(), found_.end(),
        [](const Found& a, const Found& b) { return a.head.position < b.head.position; });
    std::iter_swap(found_.begin(), longest);
    bool source_lost = false;
    for (size_t i = 1; i < found_.size() && !source_lost;) {
      if (found_[i].head.position == found_[0].head.position) {
        ++i;
        continue;
      }
      log::Info("metadata_mirror_behind", {{"dir", found_[i].mirror->place().dir},
                                           {"position", found_[i].head.position},
                                           {"newest", found_[0].head.position}});
      MirrorPlace place = found_[i].mirror->place();
      CopyOutcome done = BringUp(found_[i], found_[0]);
      if (done.fault == CopyFault::kTarget) {
        PERIGEE_TRY(Lose(place, done.status.message()));
        found_.erase(found_.begin() + static_cast<ptrdiff_t>(i));
      } else if (done.fault == CopyFault::kSource) {
        // The others have all that was acknowledged, too.
        PERIGEE_TRY(Lose(found_[0].mirror->place(), done.status.message()));
        found_.erase(found_.begin());
        source_lost = true;
      } else {
        found_[i].head = found_[0].head;
      }
    }
    if (!source_lost) return Status::Ok();
  }
}

// Takes a position of its own behind a gap, so that whoever saw commits that are gone now is
// noticed.
Result<OpenedMirrors> Opener::StartEpoch() {
  PERIGEE_ASSIGN(FeedIndex feed, found_[0].mirror->ReadFeedIndex(options_.feed_events_kept));
  Head last = found_[0].head;
  CommitContent content;
  content.head = {last.position + kOpenGap, last.position, last.events_total};
  content.gap = FeedIndex::Gap{last.position, content.head.position};
  content.feed = feed.AddGap(*content.gap);
  std::string batch = EncodeBatch(content);
  std::vector<std::pair<MirrorPlace, std::string>> failed;
  OpenedMirrors opened{{}, content.head, std::move(feed)};
  for (Found& f : found_) {
    Status st = f.mirror->Write(batch);
    if (st.ok()) st = f.mirror->Sync();
    if (st.ok()) {
      opened.mirrors.push_back(std::move(f.mirror));
    } else {
      failed.emplace_back(f.mirror->place(), st.message());
    }
  }
  if (opened.mirrors.empty()) {
    return Status(Code::kUnavailable,
                  "no metadata mirror can be written: " + failed.front().second);
  }
  for (const auto& [place, why] : failed) PERIGEE_TRY(Lose(place, why));
  return opened;
}

Result<OpenedMirrors> Opener::Resume() {
  PERIGEE_TRY(FindAll());
  PERIGEE_TRY(CheckSameStore());
  PERIGEE_TRY(Converge());
  return StartEpoch();
}

}  // namespace

Result<OpenedMirrors> OpenMirrors(const RocksStoreOptions& options,
                                  std::shared_ptr<RocksEngine> engine) {
  Opener opener(options, std::move(engine));
  return options.create ? opener.Create() : opener.Resume();
}

}  // namespace perigee::objectd::kv
