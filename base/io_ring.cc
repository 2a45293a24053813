#include "base/io_ring.h"

#include <liburing.h>

#include <algorithm>
#include <cerrno>

#include "base/posix_file.h"

namespace perigee {
namespace {

constexpr unsigned kDepth =
    128;  // operations in flight per thread; the completion queue holds twice as many
constexpr size_t kTransferMax = size_t{1} << 30;  // of one submission; longer ones go on inline

class Ring {
 public:
  static std::unique_ptr<Ring> Create() {
    auto ring = std::make_unique<Ring>();
    return ring->Init() ? std::move(ring) : nullptr;
  }
  ~Ring() {
    if (ready_) io_uring_queue_exit(&ring_);
  }

  void Run(std::span<IoOp> ops) {
    size_t next = 0;
    unsigned in_flight = 0;
    while (next < ops.size() || in_flight > 0) {
      while (next < ops.size() && in_flight < kDepth) {
        if (Queue(ops[next])) {
          ++in_flight;
        } else {
          RunInline(ops[next]);
        }
        ++next;
      }
      if (in_flight == 0) continue;
      int r = io_uring_submit_and_wait(&ring_, 1);
      // The kernel may be using the callers' buffers: there is no way out of here but to wait for
      // it.
      PERIGEE_CHECK(r >= 0 || r == -EINTR || r == -EAGAIN || r == -EBUSY);
      io_uring_cqe* cqe;
      while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
        auto* op = static_cast<IoOp*>(io_uring_cqe_get_data(cqe));
        int result = cqe->res;
        io_uring_cqe_seen(&ring_, cqe);
        --in_flight;
        Complete(*op, result);
      }
    }
  }

 private:
  bool Init() {
    // Completions are wanted only when this thread asks for them; kernels before 6.1 do not know
    // the flags.
    int r = io_uring_queue_init(kDepth, &ring_,
                                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    if (r == -EINVAL) r = io_uring_queue_init(kDepth, &ring_, 0);
    ready_ = r == 0;
    return ready_ && Probe();
  }

  // Some policies allow the set-up and refuse the use: send one empty operation through.
  bool Probe() {
    io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
    if (probe == nullptr) return false;
    bool known = io_uring_opcode_supported(probe, IORING_OP_READ) &&
                 io_uring_opcode_supported(probe, IORING_OP_WRITE) &&
                 io_uring_opcode_supported(probe, IORING_OP_FSYNC);
    io_uring_free_probe(probe);
    if (!known) return false;
    io_uring_prep_nop(io_uring_get_sqe(&ring_));
    int r;
    do r = io_uring_submit_and_wait(&ring_, 1);
    while (r == -EINTR);
    io_uring_cqe* cqe;
    if (r < 0 || io_uring_peek_cqe(&ring_, &cqe) != 0) return false;
    io_uring_cqe_seen(&ring_, cqe);
    return true;
  }

  // False for a file that is not of PosixDisk.
  bool Queue(IoOp& op) {
    if (dynamic_cast<PosixFile*>(op.file) == nullptr) return false;
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr)
      return false;  // the kernel is short of memory and took none of the queue yet
    auto bytes = static_cast<unsigned>(std::min(op.bytes, kTransferMax));
    switch (op.kind) {
      case IoOp::Kind::kRead:
        io_uring_prep_read(sqe, op.file->fd(), op.data, bytes, op.offset);
        break;
      case IoOp::Kind::kWrite:
        io_uring_prep_write(sqe, op.file->fd(), op.data, bytes, op.offset);
        break;
      case IoOp::Kind::kSyncData:
        io_uring_prep_fsync(sqe, op.file->fd(), IORING_FSYNC_DATASYNC);
        break;
    }
    io_uring_sqe_set_data(sqe, &op);
    return true;
  }

  static void Complete(IoOp& op, int result) {
    auto& file = static_cast<PosixFile&>(*op.file);
    bool again = result == -EINTR || result == -EAGAIN;
    size_t moved = result > 0 ? static_cast<size_t>(result) : 0;
    op.done = 0;
    switch (op.kind) {
      case IoOp::Kind::kRead:
        if (result < 0 && !again) {
          op.status = file.Error(-result, "read");
        } else if (result == 0 || moved == op.bytes) {
          op.status = Status::Ok();
          op.done = moved;
        } else {
          auto all = file.ReadRest(op.offset, {op.data, op.bytes}, moved);
          op.status = all.status();
          if (all.ok()) op.done = *all;
        }
        break;
      case IoOp::Kind::kWrite:
        op.status = result < 0 && !again ? file.Error(-result, "write")
                                         : file.WriteRest(op.offset, {op.data, op.bytes}, moved);
        if (op.status.ok()) op.done = op.bytes;
        break;
      case IoOp::Kind::kSyncData:
        // EAGAIN never reached the file system; any other failure of a sync is final.
        op.status = result == -EAGAIN ? file.SyncData()
                    : result < 0      ? file.Error(-result, "sync")
                                      : Status::Ok();
        break;
    }
  }

  io_uring ring_;
  bool ready_ = false;
};

Ring* RingOfThisThread() {
  struct Holder {
    std::unique_ptr<Ring> ring = Ring::Create();
  };
  thread_local Holder holder;
  return holder.ring.get();
}

}  // namespace

bool IoRingWorks() {
  static const bool works = Ring::Create() != nullptr;
  return works;
}

bool RunOnRing(std::span<IoOp> ops) {
  Ring* ring = RingOfThisThread();
  if (ring == nullptr) return false;
  ring->Run(ops);
  return true;
}

}  // namespace perigee
