#pragma once
// BackgroundTurns: a device's I/O for scrub and repair goes one small piece at a time, so that what
// somebody waits for never finds much of it in the device's queue. DeviceTurns: those of the
// devices of a process, by file system. Thread-safe; blocks.

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <span>

#include "base/disk.h"
#include "base/event.h"

namespace perigee::objectd {

class BackgroundTurns {
 public:
  // As Disk::Run does, in pieces.
  void Run(Disk& disk, std::span<IoOp> ops) {
    for (IoOp& op : ops) RunOne(disk, op);
  }

 private:
  // The device takes this long over it that its queue is not often empty in between.
  static constexpr size_t kPieceBytes = 512 << 10;

  void RunOne(Disk& disk, IoOp& op) {
    while (op.done < op.bytes) {
      const size_t bytes = std::min(kPieceBytes, op.bytes - op.done);
      IoOp piece{op.kind, op.file, op.offset + op.done, op.data + op.done, bytes};
      Enter();
      disk.Run({&piece, 1});
      Leave();
      op.done += piece.done;
      op.status = std::move(piece.status);
      if (!op.status.ok() || piece.done < bytes) return;
    }
  }
  void Enter() {
    std::unique_lock lock(mu_);
    free_.Wait(lock, [this] { return !taken_; });
    taken_ = true;
  }
  void Leave() {
    std::lock_guard lock(mu_);
    taken_ = false;
    free_.NotifyOne();
  }

  std::mutex mu_;  // guards what follows
  CondVar free_;
  bool taken_ = false;
};

class DeviceTurns {
 public:
  std::shared_ptr<BackgroundTurns> Of(uint64_t file_system) {
    std::lock_guard lock(mu_);
    std::shared_ptr<BackgroundTurns>& turns = of_[file_system];
    if (!turns) turns = std::make_shared<BackgroundTurns>();
    return turns;
  }

 private:
  std::mutex mu_;
  std::map<uint64_t, std::shared_ptr<BackgroundTurns>> of_;
};

}  // namespace perigee::objectd
