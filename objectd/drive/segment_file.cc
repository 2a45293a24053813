#include "objectd/drive/segment_file.h"

#include "base/failpoint.h"

namespace perigee::objectd {

Result<File*> SegmentFile::Buffered() {
  std::lock_guard lock(open_mu_);
  if (!buffered_) {
    PERIGEE_ASSIGN(buffered_, disk_->Open(path_, OpenMode::kReadWrite));
  }
  return buffered_.get();
}

Result<File*> SegmentFile::Direct() {
  std::lock_guard lock(open_mu_);
  if (!direct_ && !no_direct_) {
    auto file = disk_->Open(path_, OpenMode::kReadWrite, Caching::kDirect);
    if (file.ok()) {
      direct_ = std::move(*file);
    } else if (file.code() == Code::kInvalidArgument || file.code() == Code::kUnimplemented) {
      no_direct_ = true;  // open(O_DIRECT) says EINVAL where the file system has none
    } else {
      return std::move(file).TakeStatus();
    }
  }
  return direct_.get();
}

Status SegmentFile::Sync() {
  PERIGEE_ASSIGN(File * file, Buffered());
  std::unique_lock lock(sync_mu_);
  const uint64_t ticket = ++asked_;
  while (true) {
    if (!failed_.ok()) return failed_;
    if (synced_ >= ticket) return Status::Ok();
    if (syncing_) {
      sync_done_.Wait(lock);
      continue;
    }
    syncing_ = true;
    const uint64_t covers = asked_;
    lock.unlock();
    PERIGEE_FAILPOINT(shard_before_sync);
    Status outcome = file->SyncData();
    PERIGEE_FAILPOINT(shard_after_sync);
    if (syncs_ != nullptr) syncs_->Add();
    lock.lock();
    syncing_ = false;
    if (outcome.ok())
      synced_ = covers;
    else
      failed_ = std::move(outcome);
    sync_done_.NotifyAll();
  }
}

Result<bool> SegmentFile::Punch(uint64_t offset, uint64_t bytes) {
  PERIGEE_ASSIGN(File * file, Buffered());
  Status outcome = file->PunchHole(offset, bytes);
  if (outcome.ok()) return true;
  if (outcome.code() == Code::kUnimplemented || outcome.sys_errno() == EOPNOTSUPP) return false;
  return outcome;
}

}  // namespace perigee::objectd
