#pragma once
// BackgroundTurns: the I/O of a drive for scrub and repair goes one small piece at a time, so that
// what somebody waits for never finds much of it in the device's queue. Thread-safe; blocks.

#include <algorithm>
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
  static constexpr size_t kPieceBytes = 256 << 10;

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

}  // namespace perigee::objectd
