#pragma once
// Process: what one simulated process shares with the world, so that it can be killed.
//
// From Kill on nothing it does reaches the world: its disk, store and index answer kIo or
// kUnavailable. Its tasks then run to their end, as those of a stopping daemon do, and Join
// returns. (A File that was open stays writable: burst files are shared with the mount anyway.)

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/disk.h"
#include "base/event.h"
#include "base/scheduler.h"
#include "bufferd/burst_index.h"
#include "objectd/kv/store.h"

namespace perigee::sim {

using Alive = std::shared_ptr<std::atomic<bool>>;

inline Status Dead() { return Status(Code::kUnavailable, "the process was killed"); }

// The tasks of one process on the scheduler of all. Stop is as a thread pool's.
class ProcessTasks final : public Scheduler {
 public:
  explicit ProcessTasks(Scheduler& under) : under_(under) {}
  ~ProcessTasks() override { Stop(); }

  Status Post(Task task) override {
    std::unique_lock lock(state_->mu);
    if (state_->stopped) return Status(Code::kCancelled, "the process has ended");
    ++state_->running;
    lock.unlock();
    return under_.Post([running = Running(state_), task = std::move(task)] { task(); });
  }
  TimerId PostAfter(Nanos delay, Task task) override {
    std::lock_guard lock(state_->mu);
    if (state_->stopped) return 0;
    auto id = std::make_shared<TimerId>(0);
    *id = under_.PostAfter(delay, [state = state_, id, task = std::move(task)] {
      {
        std::lock_guard inner(state->mu);
        if (state->stopped || state->timers.erase(*id) == 0) return;
        ++state->running;
      }
      Running running(state);
      task();
    });
    if (*id != 0) state_->timers.insert(*id);
    return *id;
  }
  bool Cancel(TimerId id) override {
    {
      std::lock_guard lock(state_->mu);
      if (state_->timers.erase(id) == 0) return false;
    }
    return under_.Cancel(id);
  }
  Clock& clock() override { return under_.clock(); }
  void Stop() override {
    std::set<TimerId> timers;
    {
      std::lock_guard lock(state_->mu);
      state_->stopped = true;
      timers.swap(state_->timers);
    }
    for (TimerId id : timers) (void)under_.Cancel(id);
    std::unique_lock lock(state_->mu);
    state_->ended.Wait(lock, [this] { return state_->running == 0; });
  }

 private:
  struct State {
    std::mutex mu;  // guards what follows
    CondVar ended;
    bool stopped = false;
    size_t running = 0;
    std::set<TimerId> timers;
  };
  // A task that was counted, until it is destroyed.
  class Running {
   public:
    explicit Running(std::shared_ptr<State> state)
        : held_(std::make_shared<Held>(std::move(state))) {}

   private:
    struct Held {
      explicit Held(std::shared_ptr<State> s) : state(std::move(s)) {}
      ~Held() {
        std::lock_guard lock(state->mu);
        if (--state->running == 0) state->ended.NotifyAll();
      }
      const std::shared_ptr<State> state;
    };
    std::shared_ptr<Held> held_;
  };

  Scheduler& under_;
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

class ProcessDisk final : public Disk {
 public:
  ProcessDisk(Disk& under, Alive alive) : under_(under), alive_(std::move(alive)) {}
  Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode,
                                     Caching caching) override {
    PERIGEE_TRY(Check());
    return under_.Open(path, mode, caching);
  }
  void Run(std::span<IoOp> ops) override {
    if (*alive_) return under_.Run(ops);
    for (IoOp& op : ops) op.status = Check();
  }
  Status Rename(const std::string& from, const std::string& to) override {
    PERIGEE_TRY(Check());
    return under_.Rename(from, to);
  }
  Status Unlink(const std::string& path) override {
    PERIGEE_TRY(Check());
    return under_.Unlink(path);
  }
  Status CreateDir(const std::string& path) override {
    PERIGEE_TRY(Check());
    return under_.CreateDir(path);
  }
  Status CreateDirs(const std::string& path) override {
    PERIGEE_TRY(Check());
    return under_.CreateDirs(path);
  }
  Status RemoveDir(const std::string& path) override {
    PERIGEE_TRY(Check());
    return under_.RemoveDir(path);
  }
  Status SyncDir(const std::string& path) override {
    PERIGEE_TRY(Check());
    return under_.SyncDir(path);
  }
  Result<std::vector<DirEntry>> List(const std::string& path) override {
    PERIGEE_TRY(Check());
    return under_.List(path);
  }
  Result<FileInfo> Stat(const std::string& path) override {
    PERIGEE_TRY(Check());
    return under_.Stat(path);
  }
  Result<SpaceInfo> Space(const std::string& path) override {
    PERIGEE_TRY(Check());
    return under_.Space(path);
  }
  std::string engine() const override { return under_.engine(); }

 private:
  Status Check() const {
    return *alive_ ? Status::Ok() : Status(Code::kIo, "the process was killed");
  }
  Disk& under_;
  const Alive alive_;
};

class ProcessStore final : public objectd::kv::Store {
 public:
  using Position = objectd::kv::Position;
  ProcessStore(objectd::kv::Store& under, Alive alive, Clock& clock)
      : under_(under), alive_(std::move(alive)), clock_(clock) {}
  Result<Position> Run(const Closure& closure) override {
    if (!*alive_) return Dead();
    return under_.Run(closure);
  }
  Status WaitDurable(Position position) override {
    if (!*alive_) return Dead();
    return under_.WaitDurable(position);
  }
  Position VisiblePosition() override { return under_.VisiblePosition(); }
  Position DurablePosition() override { return under_.DurablePosition(); }
  Result<objectd::kv::FeedPage> ReadFeed(Position after, size_t limit) override {
    if (!*alive_) return Dead();
    return under_.ReadFeed(after, limit);
  }
  // In slices: the store outlives the process, whose waits end.
  bool WaitFeed(Position visible, Position durable, Nanos timeout) override {
    const Nanos end = clock_.Monotonic() + timeout;
    while (!ended_ && *alive_) {
      const Nanos left = end - clock_.Monotonic();
      if (left <= 0 || under_.VisiblePosition() > visible || under_.DurablePosition() > durable)
        return true;
      (void)under_.WaitFeed(visible, durable, std::min<Nanos>(left, kSlice));
    }
    return false;
  }
  void EndFeedWaits() override { ended_ = true; }

 private:
  static constexpr Nanos kSlice = 500 * kMillisecond;
  objectd::kv::Store& under_;
  const Alive alive_;
  Clock& clock_;
  std::atomic<bool> ended_{false};
};

class ProcessIndex final : public bufferd::BurstIndex {
 public:
  using Durable = bufferd::Durable;
  ProcessIndex(bufferd::BurstIndex& under, Alive alive) : under_(under), alive_(std::move(alive)) {}
  Status Put(const bufferd::BurstRecord& record, Durable durable) override {
    return *alive_ ? under_.Put(record, durable) : Dead();
  }
  Status Remove(wire::BurstId burst) override { return *alive_ ? under_.Remove(burst) : Dead(); }
  Status PutCrcs(wire::BurstId burst, const bufferd::BurstCrcs& crcs) override {
    return *alive_ ? under_.PutCrcs(burst, crcs) : Dead();
  }
  Result<bufferd::BurstCrcs> GetCrcs(wire::BurstId burst) override {
    if (!*alive_) return Dead();
    return under_.GetCrcs(burst);
  }
  Status PutValue(const std::string& name, const std::string& value, Durable durable) override {
    return *alive_ ? under_.PutValue(name, value, durable) : Dead();
  }
  Result<std::optional<std::string>> GetValue(const std::string& name) override {
    if (!*alive_) return Dead();
    return under_.GetValue(name);
  }
  Status RemoveValue(const std::string& name) override {
    return *alive_ ? under_.RemoveValue(name) : Dead();
  }
  Status ChangeValues(const std::map<std::string, std::optional<std::string>>& values,
                      Durable durable) override {
    return *alive_ ? under_.ChangeValues(values, durable) : Dead();
  }
  Status ForEachValue(
      const std::string& prefix,
      const std::function<Status(const std::string&, std::string_view)>& fn) override {
    return *alive_ ? under_.ForEachValue(prefix, fn) : Dead();
  }
  Status Sync() override { return *alive_ ? under_.Sync() : Dead(); }
  Status ForEach(const std::function<void(bufferd::BurstRecord)>& fn) override {
    return *alive_ ? under_.ForEach(fn) : Dead();
  }
  bool damaged() const override { return under_.damaged(); }
  Status SettleDamage() override { return *alive_ ? under_.SettleDamage() : Dead(); }

 private:
  bufferd::BurstIndex& under_;
  const Alive alive_;
};

}  // namespace perigee::sim
