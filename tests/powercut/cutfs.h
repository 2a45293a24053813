#pragma once
// CutFs: an Image mounted through FUSE, with a switch for the power and knobs for faults.
//
// While the power is off no request is answered: what processes wait for never happens, so that
// they can be killed at the very moment. PowerOn cuts the image, ends the old mount (whose waiting
// requests fail) and mounts what the disk holds. The power goes off by PowerOff, or by itself at a
// sync that was armed: before it (nothing of it is durable) or after it (all is, nobody hears).
// Thread-safe.

#include <fuse_lowlevel.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "tests/powercut/image.h"

namespace perigee::powercut {

struct Fault {
  uint32_t delay_ms = 0;  // of each read, direct write and sync, while the fault is there
  int read_error = 0, write_error = 0, sync_error = 0;  // errno; write: of all that changes
};

class CutFs {
 public:
  using OffHook = std::function<void(const std::string& why)>;

  // `on_off` is called, on any thread, when an armed sync put the power off.
  CutFs(std::string mount_point, std::set<std::string> kept, OffHook on_off);
  ~CutFs();

  Status PowerOn(uint64_t seed);  // the first time: an empty file system
  void PowerOff();
  enum class When { kBefore, kAfter };
  // At the `count`-th sync from now of what has `part` in its path.
  void Arm(uint64_t count, When when, std::string part);
  uint64_t syncs() const { return syncs_; }
  // For all below `path` ("/" begins it); no fault removes it.
  void SetFault(const std::string& path, Fault fault);
  // In bytes: what it has, and how much of that is free while it holds nothing.
  void SetSpace(uint64_t total, uint64_t free);
  void Unmount();

 private:
  friend struct Operations;
  Status Mount();
  void Serve();
  void Sync(fuse_req_t req, Ino ino);
  Fault FaultOf(Ino ino) const;  // with mu_ held
  void AwaitDelay(std::unique_lock<std::mutex>& lock, Ino ino, uint32_t delay_ms);

  const std::string mount_point_;
  const OffHook on_off_;
  std::mutex mu_;  // guards what follows
  Image image_;
  bool off_ = true;
  uint64_t armed_ = 0;
  When when_ = When::kBefore;
  std::string part_;
  uint64_t total_ = uint64_t{64} << 30, free_ = total_;
  std::map<std::string, Fault> faults_;
  std::condition_variable faults_changed_;
  std::map<uint64_t, std::vector<Entry>> listings_;  // of open directories
  uint64_t next_listing_ = 1;
  std::atomic<uint64_t> syncs_ = 0;
  // Changed by PowerOn and Unmount only, which one thread calls.
  fuse_session* session_ = nullptr;
  std::vector<std::thread> servers_;
};

}  // namespace perigee::powercut
