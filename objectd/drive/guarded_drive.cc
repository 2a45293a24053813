#include "objectd/drive/guarded_drive.h"

#include <optional>
#include <set>
#include <type_traits>
#include <utility>

#include "base/bytes.h"
#include "base/event.h"
#include "base/log.h"

namespace perigee::objectd {
namespace {

using Answers = DriveWatch::Answers;

constexpr uint32_t kThreads = 8;
// For what is asked of all drives in turn, now and then.
constexpr Nanos kPatience = kSecond;

void Drop(Status& outcome) { outcome.Ignore(); }
template <class T>
void Drop(Result<T>& outcome) {
  if (!outcome.ok()) outcome.status().Ignore();
}

// What the guard, its callers and its threads share.
class Calls {
 public:
  // The watch asks for the oldest of those that are timed.
  enum class Timed { kNo, kYes };

  // One that a caller waits for.
  struct Awaited {
    virtual ~Awaited() = default;
    CondVar changed;
    bool begun = false, ended = false;
    bool left = false;  // by its caller
  };

  Answers answers() const {
    std::lock_guard lock(mu_);
    return answers_;
  }
  bool hangs() const { return answers() == Answers::kNever; }

  // 0: it is not to be made any more.
  uint64_t Begin(Awaited& call, Timed timed) {
    std::lock_guard lock(mu_);
    if (answers_ == Answers::kNever || call.left) return 0;
    call.begun = true;
    const uint64_t number = next_++;
    if (timed == Timed::kYes) running_.insert(number);
    return number;
  }
  void End(uint64_t number) {
    std::lock_guard lock(mu_);
    running_.erase(number);
  }

  // The outcome is there.
  void Ended(Awaited& call) {
    std::lock_guard lock(mu_);
    call.ended = true;
    call.changed.NotifyAll();
  }
  // How long a call's caller waits. kToTheEnd: as kWhileItAnswers, but for good once it was begun.
  enum class Patience { kBrief, kWhileItAnswers, kToTheEnd };
  // False: the drive hangs, or patience is over, and the call is left to itself.
  bool Wait(Awaited& call, Patience patience) {
    std::unique_lock lock(mu_);
    waiting_.insert(&call);
    auto over = [&] {
      const bool may_leave = patience != Patience::kToTheEnd || !call.begun;
      return call.ended || (may_leave && answers_ == Answers::kNever);
    };
    if (patience == Patience::kBrief)
      call.changed.WaitFor(lock, kPatience, over);
    else
      call.changed.Wait(lock, over);
    waiting_.erase(&call);
    call.left = !call.ended;
    return call.ended;
  }

  // Of the caller's own thread; 0: not now.
  uint64_t BeginRead() {
    std::unique_lock lock(mu_);
    read_ended_.Wait(lock,
                     [this] { return reads_ < kGuardedReadsMax || answers_ != Answers::kSoon; });
    if (answers_ == Answers::kNever || reads_ >= kGuardedReadsMax) return 0;
    ++reads_;
    const uint64_t number = next_++;
    running_.insert(number);
    return number;
  }
  void EndRead(uint64_t number) {
    std::lock_guard lock(mu_);
    --reads_;
    running_.erase(number);
    read_ended_.NotifyOne();
  }

  uint64_t Oldest() const {
    std::lock_guard lock(mu_);
    return running_.empty() ? 0 : *running_.begin();
  }
  void Became(Answers answers) {
    std::lock_guard lock(mu_);
    answers_ = answers;
    if (answers != Answers::kSoon) read_ended_.NotifyAll();
    if (answers != Answers::kNever) return;
    for (Awaited* call : waiting_) call->changed.NotifyAll();
  }

 private:
  mutable std::mutex mu_;  // guards what follows
  Answers answers_ = Answers::kSoon;
  uint64_t next_ = 1;
  std::set<uint64_t> running_;  // timed
  std::set<Awaited*> waiting_;
  uint32_t reads_ = 0;
  CondVar read_ended_;
};

template <class R>
struct Outcome final : Calls::Awaited {
  std::optional<R> value;
  ~Outcome() override {
    if (value) Drop(*value);  // nobody waited for it any more
  }
};

class GuardedDrive final : public Drive, DriveWatch::Watched {
 public:
  GuardedDrive(std::unique_ptr<Drive> drive, std::shared_ptr<DriveWatch> watch)
      : drive_(std::move(drive)),
        watch_(std::move(watch)),
        threads_(CreateThreadPool({.name = "drive", .threads = kThreads})) {
    watch_->Add(this);
  }
  ~GuardedDrive() override { Stop(); }

  uint64_t id() const override { return drive_->id(); }
  const std::string& dir() const override { return drive_->dir(); }
  bool online() const override { return !hangs() && drive_->online(); }
  bool hangs() const override { return calls_->hangs(); }
  std::string offline_reason() const override {
    return hangs() ? WhyOffline() : drive_->offline_reason();
  }
  Superblock superblock() const override { return drive_->superblock(); }

  Status WriteSuperblock(const Superblock& superblock) override {
    return Run(Timed::kYes, [superblock](Drive& d) { return d.WriteSuperblock(superblock); });
  }
  Result<Superblock> StoredSuperblock() override {
    return Run(
        Timed::kYes, [](Drive& d) { return d.StoredSuperblock(); }, Patience::kBrief);
  }
  Status WriteShard(const wire::ShardHeader& header, ConstBytes bytes, const rdma::Piece* lent,
                    rdma::TrafficClass traffic, std::shared_ptr<const void> owner) override {
    const Patience patience = owner ? Patience::kWhileItAnswers : Patience::kToTheEnd;
    return Run(
        Timed::kYes,
        [header, bytes, lent, traffic, owner](Drive& d) {
          return d.WriteShard(header, bytes, lent, traffic, owner);
        },
        patience);
  }
  Result<client::ShardData> ReadShard(const wire::ShardReadRequest& request,
                                      rdma::TrafficClass traffic) override {
    // One that waits for its turn is not late.
    if (rdma::IsBackground(traffic))
      return Run(Timed::kNo,
                 [request, traffic](Drive& d) { return d.ReadShard(request, traffic); });
    return ReadHere([&] { return drive_->ReadShard(request, traffic); });
  }
  Result<wire::ShardHeader> ReadShardInto(const wire::ShardReadRequest& request, MutableBytes to,
                                          rdma::TrafficClass traffic) override {
    if (rdma::IsBackground(traffic)) {
      if (hangs()) return Away();
      return drive_->ReadShardInto(request, to, traffic);
    }
    return ReadHere([&] { return drive_->ReadShardInto(request, to, traffic); });
  }
  Status DeleteShard(const wire::BlobId& blob, uint32_t index) override {
    return Run(Timed::kYes, [blob, index](Drive& d) { return d.DeleteShard(blob, index); });
  }
  Result<std::vector<std::pair<wire::BlobId, uint32_t>>> ListShards(const wire::BlobId& first,
                                                                    size_t limit) override {
    return Run(Timed::kNo, [first, limit](Drive& d) { return d.ListShards(first, limit); });
  }
  Result<uint64_t> ShardBytes() override {
    return Run(Timed::kNo, [](Drive& d) { return d.ShardBytes(); });
  }
  Result<SpaceInfo> Space() override {
    return Run(
        Timed::kYes, [](Drive& d) { return d.Space(); }, Patience::kBrief);
  }
  Result<SegmentAudit> AuditSegment(uint32_t after) override {
    return Run(Timed::kNo, [after](Drive& d) { return d.AuditSegment(after); });
  }
  Result<bool> Reindex(const wire::BlobId& blob, uint32_t index) override {
    return Run(Timed::kNo, [blob, index](Drive& d) { return d.Reindex(blob, index); });
  }
  Result<uint32_t> MendHeaders() override {
    return Run(Timed::kNo, [](Drive& d) { return d.MendHeaders(); });
  }
  void SetOffline(const std::string& reason) override { drive_->SetOffline(reason); }
  void Stop() override {
    watch_->Remove(this);
    threads_->Stop();
    drive_->Stop();
  }

 private:
  using Timed = Calls::Timed;
  using Patience = Calls::Patience;

  static std::string WhyOffline() {
    return "it hangs: a call to it has not ended for " +
           std::to_string(DriveWatch::kHangsAfter / kSecond) + " s and more";
  }
  Status Away() const {
    return Status(
        Code::kUnavailable,
        "drive " + dir() + (hangs() ? " is offline: " + WhyOffline() : " does not answer in time"));
  }

  uint64_t OldestCall() override { return calls_->Oldest(); }
  void Became(Answers answers) override {
    const bool hung = hangs();
    calls_->Became(answers);
    if (answers == Answers::kNever)
      log::Error("drive_hangs", {{"dir", dir()},
                                 {"drive", HexEncode64(id())},
                                 {"remedy",
                                  "it is left out until it answers, and then gets what it missed; "
                                  "see the kernel's log for the device, and replace it if it does "
                                  "not come back"}});
    else if (hung)
      log::Info("drive_answers_again", {{"dir", dir()}, {"drive", HexEncode64(id())}});
  }

  template <class Fn>
  auto Run(Timed timed, Fn fn, Patience patience = Patience::kWhileItAnswers)
      -> std::invoke_result_t<Fn, Drive&> {
    using R = std::invoke_result_t<Fn, Drive&>;
    auto outcome = std::make_shared<Outcome<R>>();
    auto run = [calls = calls_, drive = drive_, outcome, timed,
                fn = std::optional<Fn>(std::move(fn))]() mutable {
      if (const uint64_t number = calls->Begin(*outcome, timed)) {
        outcome->value.emplace((*fn)(*drive));
        calls->End(number);
      }
      fn.reset();  // what it owns is its caller's again
      calls->Ended(*outcome);
    };
    const Answers answers = calls_->answers();
    if (answers == Answers::kNever || (patience == Patience::kBrief && answers != Answers::kSoon))
      return Away();
    Status posted = threads_->Post(std::move(run));
    if (posted.Is(Code::kCancelled))
      return Status(Code::kUnavailable, "drive " + dir() + " is stopped");
    PERIGEE_TRY(posted);
    if (!calls_->Wait(*outcome, patience) || !outcome->value) return Away();
    R value = std::move(*outcome->value);
    outcome->value.reset();
    return value;
  }

  template <class Fn>
  auto ReadHere(Fn fn) -> std::invoke_result_t<Fn> {
    const uint64_t number = calls_->BeginRead();
    if (number == 0) return Away();
    auto outcome = fn();
    calls_->EndRead(number);
    return outcome;
  }

  const std::shared_ptr<Drive> drive_;
  const std::shared_ptr<DriveWatch> watch_;
  const std::shared_ptr<Calls> calls_ = std::make_shared<Calls>();
  const std::unique_ptr<Scheduler> threads_;
};

}  // namespace

std::unique_ptr<Drive> GuardDrive(std::unique_ptr<Drive> drive, std::shared_ptr<DriveWatch> watch) {
  return std::make_unique<GuardedDrive>(std::move(drive), std::move(watch));
}

}  // namespace perigee::objectd
