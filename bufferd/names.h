#pragma once
// Names: the namespace's calls of this node, with objectd or without.
//
// While objectd answers, calls are passed on, and what they tell is remembered (KnownNames). Once
// it does not (unreachable, or silent for `patience`), names go on here: lookups of what is known,
// new files and directories in directories that are known whole, with reserved ids, and moving,
// removing and changing what this node made or has a burst file of. Each change is journaled
// (survives the process at once, power loss with the next fsync), and made at objectd in the same
// order once it answers again, less what came to nothing (CompactOps); calls go on here until the
// journal is empty. What is not known here is read there by then, except for the names that the
// journal is still to change there: who asks for those waits. A change leaves the journal when it
// is durable at objectd; until then the content it is about is kept (Keeps).
//
// A name that was taken meanwhile becomes `name.conflict-ID`, a directory that is gone is made
// again. A file that was renamed here, and whose old name others replaced or removed, is made again
// under the new one. What is unknown here is kUnavailable.
//
// What objectd made moments before it fell silent, and may lose with its power, goes into the
// journal as well: fsync is answered here then, and a name it is given for must not be lost. What
// others have removed or moved since stays so.
//
// Where this node makes one file after another in a directory, it asks objectd to hold it
// (kMetaHoldDirectory). While it does, files are made there as if objectd were away: journaled
// here, and told in batches with what was closed of them meanwhile (names_held.cc). objectd asks
// for what is not told yet, and for the directory back, when others come to it (TakeDirectory).
//
// Two channels to objectd go through it: calls(), for what concerns names, and guarded(), for all
// else: it fails at once while objectd is away, and for files whose name is not made there yet.
// Files are published after their create, and before a rename that puts them into place: objectd is
// asked again only once what waited for it is published.
// Thread-safe; blocks.

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/clock.h"
#include "base/event.h"
#include "base/scheduler.h"
#include "bufferd/burst_index.h"
#include "bufferd/changed_names.h"
#include "bufferd/held_directories.h"
#include "bufferd/known_names.h"
#include "bufferd/name_op.h"
#include "bufferd/names_compact.h"
#include "client/meta/meta_client.h"
#include "rdma/transport.h"

namespace perigee::bufferd {

struct NamesOptions {
  Nanos patience = 3 * kSecond;  // how long a call that has another way waits for objectd
  Nanos knock_every = 250 * kMillisecond;
  wire::NodeId node = 0;      // of this node; 0: no directory is held
  Scheduler* tell = nullptr;  // a thread of its own to tell of them by; null: `work`
  // Time that goes on while the machine sleeps; null: the scheduler's monotonic clock.
  std::function<Nanos()> boot_time;
};

// A file of this node, kept as it is while this lives.
class KeptFile {
 public:
  virtual ~KeptFile() = default;
  virtual void Told(uint64_t life) = 0;  // objectd has what was closed, since that life
  virtual void Unanswered() = 0;         // perhaps it has: what is closed next is another content
  bool closed = false;                   // and objectd does not have that: what follows
  wire::PublishRequest request;
  std::string bytes;  // inline content
  int64_t ctime = 0;  // wall clock
};

// What Names asks of the burst buffer.
struct NamesHooks {
  std::function<bool(wire::FileId)> owned;  // this node has its burst file, and objectd its name
  // Completes a record by what was closed here and is not committed there yet, or was since.
  std::function<void(wire::Record*)> describe;
  // What is written to it here goes with the node's power.
  std::function<bool(wire::FileId)> at_risk;
  std::function<Status(wire::FileId)> commit;  // what is closed and not committed: now
  std::function<Status()> commit_all;          // the same of every file
  // Null: another call is at it.
  std::function<std::unique_ptr<KeptFile>(wire::FileId)> keep;
  // objectd no longer has this file: it is about to be made there again, with this node as the
  // writer of its content. kNotFound: the content is not here.
  std::function<Result<wire::WriterInfo>(wire::FileId)> again;
  std::function<void(wire::FileId)> let_go;           // no longer kept by the journal
  std::function<void(const wire::Record&)> released;  // objectd no longer names this file
  // The same, of a file that objectd never heard of: nothing else will tell.
  std::function<void(const wire::Record&)> discarded;
  // Lets go of what others have removed at objectd up to now; asks it over the client given.
  std::function<Status(client::MetaClient&)> hear_removals;
  std::function<void()> went_away;  // names change here from now on; does not block
  // objectd has every name. `restarted`: it may have lost what was not durable there.
  std::function<void(bool restarted)> caught_up;
  std::function<void(std::string)> report;  // for the user: see Core::Report
};

class Names {
 public:
  static constexpr size_t kOpsMax = 65536;

  Names(std::shared_ptr<rdma::Channel> objectd, BurstIndex* index, Scheduler* work,
        NamesOptions options);
  ~Names();
  // Before any call. The journal of an earlier run is made at objectd first.
  Status Start(NamesHooks hooks);
  void Stop();

  std::shared_ptr<rdma::Channel> calls() { return calls_; }
  std::shared_ptr<rdma::Channel> guarded() { return guarded_; }
  // As calls(); `here` tells that the change was made here, and is not at objectd yet.
  Result<rdma::Payload> Ask(wire::Method method, std::string header, ConstBytes bulk,
                            rdma::CallOptions options, bool* here);

  // Another's call found objectd unreachable: it may have been started again, and have lost what
  // was not durable there. `caught_up` follows.
  void Suspect(const Status& why);

  // Which of its lives objectd was last heard in; 0: none yet, and it cannot be asked.
  uint64_t Life();
  // Syncs there. ok: in `life`, so that what it answered since is durable. An away error: it was
  // started again, and may have lost that, or it does not answer; what it had made is in the
  // journal by now, not synced.
  Status SyncIn(uint64_t life);

  // objectd is asked; else names go on here.
  bool there() const { return state_ == State::kThere; }
  // Made here, and not at objectd yet.
  bool Waits(wire::FileId id) const;
  // Made or moved here, and not durably so at objectd: its content must stay.
  bool Keeps(wire::FileId id) const;
  wire::FileId TakeId();     // never used before; 0: none are reserved
  void ReserveIds();         // in the background, when few are left
  uint64_t waiting() const;  // changes that objectd has not made
  // While objectd is there: returns once it was told of the file, or is away.
  void AwaitTold(wire::FileId id);
  // objectd's: it has been told all that was made here until now on return; unless `keep`, the
  // directory is not held any more. kUnavailable: not in time.
  Status TakeDirectory(wire::FileId dir, bool keep);
  // Before a stop: objectd is told of everything, in time, and others need not wait for this node.
  void GiveUpHolds();

 private:
  class Door;
  enum class State { kThere, kAway, kReplaying };
  enum class Way { kDone, kCannot };

  Result<rdma::Payload> Guard(wire::Method method, std::string header, ConstBytes bulk,
                              rdma::CallOptions options);
  void GoAway(const Status& why);
  void GoAwayLocked(const Status& why);
  bool AwaitReturn();  // a restart takes moments: who has no other way waits so long
  void Knock();
  // When a call went out.
  struct Since {
    uint64_t absences, clock;
  };
  void Note(wire::Method method, std::string_view request, const Result<rdma::Payload>& reply,
            Since since);
  void LearnDirectory(wire::FileId dir);

  // names_here.cc: with mu_ held. kCannot: only objectd knows.
  struct Answer {
    Way way = Way::kCannot;
    Result<std::string> reply = std::string();
    std::optional<wire::Record> discarded;  // nothing needs its bytes, once the journal is synced
    bool changed = false;
  };
  // `sent`: objectd was asked, and may have done it.
  Answer Here(wire::Method method, std::string_view header, bool sent);
  Answer LookupHere(const wire::LookupRequest& q);
  Answer ListHere(const wire::ReadDirRequest& q);
  Answer MakeHere(wire::Method method, wire::MakeRequest q, bool sent);
  Answer RemoveHere(wire::Method method, const wire::RemoveRequest& q);
  Answer RenameHere(const wire::RenameRequest& q, bool sent);
  static std::string Journaled(wire::RenameRequest q);
  Answer SetAttrHere(const wire::SetAttrRequest& q);
  Answer MakeAt(const wire::Record& parent, std::string place, wire::Method method,
                wire::MakeRequest q, bool sent);
  Answer Show(const KnownNames::Known& known);
  bool Mine(const KnownNames::Known& known) const;
  bool NeverThere(wire::FileId id) const;
  wire::FileId TakeIdHeld();
  Status Journal(NameOp op, bool sent = false);
  void ListChangedNames();
  // What objectd says to this call, names that the journal is about to change there may be in it.
  bool IsToChange(wire::Method method, std::string_view header) const;
  void LearnAgain(const NameOp& op);
  // Without mu_.
  Result<rdma::Payload> LookupSteps(wire::LookupRequest q, ConstBytes bulk,
                                    rdma::CallOptions options);
  void Count(const JournaledOp& journaled);
  void OrderOps();

  // names_held.cc: directories that this node holds. With mu_ held, where nothing else is said.
  class Flying;
  Nanos BootNow() const;
  HeldDirectory* Holds(wire::FileId dir);  // null: not, or not for sure
  // Answers what this node may, of a call that objectd would be asked; else makes it ready for
  // objectd. True: answered. Takes mu_.
  bool AnswerHeld(wire::Method method, std::string* header, Answer* answer, Flying* flying);
  Answer MakeHeld(const wire::MakeRequest& q, std::unique_lock<std::mutex>& lock);
  const KnownNames::Known* PendingAt(wire::FileId dir, const std::string& name) const;
  void AwaitTold(wire::FileId dir, std::unique_lock<std::mutex>& lock);
  void Await(wire::FileId dir, std::unique_lock<std::mutex>& lock,
             const std::function<bool()>& told);
  void AddName(wire::FileId dir, const std::string& name);
  // Of known_; what is pending stays in it, whatever objectd says.
  void BoundKnown();
  void Forget(wire::FileId dir, const std::string& name);
  void LearnPage(const wire::ReadDirRequest& asked, const wire::ReadDirReply& page);
  void CountCreate(wire::FileId dir);
  void GiveBack(wire::FileId dir, Nanos bar = HeldDirectories::kBarred);
  void EndPendingLocked(wire::FileId id, uint64_t last);
  void DropHolds();
  void ArmTell(Nanos delay);
  void ArmKeep(Nanos delay);
  // Without mu_.
  void Hold(wire::FileId dir, uint64_t number);
  Status LearnNames(wire::FileId dir, uint64_t number);
  void MergeTimes(wire::Method method, rdma::Payload* reply);
  void Keep();
  void ReleaseAll();
  void Renew();
  void Tell();
  Status TellSome();
  Status TellOneByOne(const std::vector<JournaledOp>& batch);
  void TellOpen(std::vector<wire::FileId> ids, uint64_t life, uint64_t last);
  void EndPending(wire::FileId id, uint64_t last);
  // `through`: up to where the journal is told with this; 0: no further. kPreconditionFailed:
  // objectd has lost what it was told before.
  Status Apply(wire::ApplyRequest q, const std::string& bytes, uint64_t through);
  Status AskTold();
  Status ForgetTold();

  // names_unsettled.cc: what objectd made, and is not known to hold durably. With mu_ held, except
  // for Settle.
  void NoteMade(NameOp op, Since since);
  void ArmSettle(Nanos delay);
  void Settle();
  void JournalUnsettled();

  // names_replay.cc: without mu_.
  bool Replay();
  Status Begin();
  // Perhaps made before: sent by an earlier attempt, or made by objectd itself.
  bool Again(const JournaledOp& journaled) const {
    return journaled.op.made || journaled.sent || journaled.sequence <= repeated_;
  }
  Status Compact();
  Status Forget();
  Status NoteMadeThere();
  Status DropMade();
  Status DropTold();
  Result<bool> Proceed();
  void HoldBackNoMore();
  bool CaughtUp();
  void PutBack();
  Result<uint64_t> SyncThere();

  // names_make.cc: without mu_. Away errors: try again later; everything else is done with.
  Status Make(const JournaledOp& journaled);
  Status MakeFile(const JournaledOp& journaled);
  Status MakeRename(const NameOp& op);
  Status MakeRenameAgain(const NameOp& op, wire::RenameRequest q);
  Status MoveById(const NameOp& op, wire::RenameRequest q);
  Status MakeRemove(const NameOp& op);
  Status RemoveReplaced(const NameOp& op, const wire::RenameRequest& q);
  Result<wire::RecordReply> ComeBack(const NameOp& op, wire::RenameRequest* q);
  Result<wire::FileId> DirectoryAt(const std::string& place, wire::FileId was);
  Result<wire::FileId> DirectoryIn(wire::FileId parent, const std::string& name, wire::FileId was);
  static bool IsUnanswered(const wire::Record& there, const wire::MakeRequest& q);
  Result<wire::RecordReply> Send(wire::Method method, const wire::MakeRequest& q);
  void Lost(const std::string& what, const Status& why);

  const std::shared_ptr<rdma::Channel> objectd_;
  client::MetaClient direct_;
  BurstIndex* const index_;
  Scheduler* const work_;
  Scheduler* const tell_;
  const NamesOptions options_;
  NamesHooks hooks_;  // set by Start
  // The replay's or the teller's own: what is made at objectd and not yet durable there, in order;
  // up to where some were sent, and were sent by an earlier attempt.
  std::vector<JournaledOp> made_;
  bool restarted_ = false;
  std::atomic<uint64_t> tried_{0};
  uint64_t repeated_ = 0;
  uint64_t journal_ = 0;          // objectd knows it by that, with what it was told of it
  std::optional<uint64_t> told_;  // up to where it knows that; nothing: not asked yet
  std::shared_ptr<rdma::Channel> calls_, guarded_;
  std::atomic<bool> stopping_{false}, started_{false};
  std::atomic<State> state_{State::kThere};  // changed with mu_ held
  std::atomic<uint64_t> life_{0};            // 0: not heard yet
  std::atomic<uint64_t> absences_{0};        // times that objectd was found away
  std::atomic<bool> any_pending_{false}, any_kept_{false};
  std::atomic<bool> holding_{true};  // false: objectd lets nobody hold directories

  mutable std::mutex mu_;  // guards what follows
  CondVar changed_;
  KnownNames known_;
  std::deque<JournaledOp> ops_;  // by sequence
  ChangedNames changed_names_;   // of ops_, and of what was; while objectd is not there
  uint64_t next_op_ = 1;
  // Made here, not yet at objectd. True: perhaps it was, before.
  std::unordered_map<wire::FileId, bool> pending_;
  std::unordered_map<wire::FileId, uint64_t> kept_;  // by the last op that needs its content
  std::unordered_set<wire::FileId> learning_;
  bool held_back_ = false;  // the journal is nearly empty: changes wait until it is
  bool knocking_ = false;
  Nanos away_since_ = 0;
  std::deque<JournaledOp> unsettled_;
  uint64_t settled_ = 0;  // that were in it before, and are not any more
  bool settling_ = false;
  bool reserving_ = false;
  HeldDirectories held_;
  std::vector<wire::FileId> returning_;  // given up here, and objectd is to hear of it
  Nanos term_until_ = 0;
  // Names that calls on their way to objectd may add, by directory.
  std::multiset<std::pair<wire::FileId, std::string>> flying_;
  // objectd may hold directories for this node of which it knows nothing: it says so first.
  bool release_all_ = true;
  bool keep_armed_ = false, keeping_ = false;
  Nanos tell_due_ = 0;  // 0: nobody is about to tell
  bool telling_ = false;
  int hurried_ = 0;                      // who wait for what is to be told
  std::multiset<wire::FileId> awaited_;  // those of files, maybe with the file in their hands
  Nanos told_at_ = 0;
  wire::FileId next_id_ = 0, ids_end_ = 0;
  std::string statfs_;
};

// The names that a call may add at objectd, while it is under way.
class Names::Flying {
 public:
  explicit Flying(Names* names) : names_(names) {}
  ~Flying() {
    if (added_.empty()) return;
    std::lock_guard lock(names_->mu_);
    for (auto it : added_) names_->flying_.erase(it);
  }
  Flying(const Flying&) = delete;
  Flying& operator=(const Flying&) = delete;
  // With mu_ held.
  void Add(wire::FileId dir, const std::string& name) {
    names_->AddName(dir, name);
    added_.push_back(names_->flying_.emplace(dir, name));
  }

 private:
  Names* const names_;
  std::vector<std::multiset<std::pair<wire::FileId, std::string>>::iterator> added_;
};

// What a file is called that cannot have `name` because another has it; at most 255 bytes.
std::string ConflictName(const std::string& name, uint64_t id);

// In the index: an op of the journal; the sequence up to which they were sent once; which journal
// numbers them so: drawn at random. Numbers come again only in another journal.
std::string OpName(uint64_t sequence);
inline constexpr char kNamesTried[] = "names_tried";
inline constexpr char kNamesJournal[] = "names_journal";

}  // namespace perigee::bufferd
