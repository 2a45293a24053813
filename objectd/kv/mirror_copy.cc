#include "objectd/kv/mirror_copy.h"

#include <rocksdb/db.h>
#include <rocksdb/transaction_log.h>
#include <rocksdb/write_batch.h>

#include "base/failpoint.h"
#include "base/log.h"

namespace perigee::objectd::kv {
namespace {

constexpr size_t kCopyBatchBytes = 1 << 20;
constexpr int kStallsMax = 8;

CopyOutcome Blame(CopyFault fault, Status status) {
  if (status.ok()) return {};
  return {fault, std::move(status)};
}

CopyOutcome CopyFamily(RocksView& view, rocksdb::ColumnFamilyHandle* from, RocksMirror& to,
                       rocksdb::ColumnFamilyHandle* into, const std::atomic<bool>* cancelled) {
  rocksdb::ReadOptions read;
  read.snapshot = view.snapshot();
  read.fill_cache = false;
  rocksdb::WriteOptions write;
  write.disableWAL = true;  // flushed and synced at the end, once
  std::unique_ptr<rocksdb::Iterator> it(view.mirror()->db()->NewIterator(read, from));
  it->SeekToFirst();
  while (it->Valid()) {
    if (cancelled != nullptr && *cancelled) {
      return {CopyFault::kCancelled, Status(Code::kCancelled, "the store is stopping")};
    }
    rocksdb::WriteBatch batch;
    rocksdb::Status put;
    for (; it->Valid() && put.ok() && batch.GetDataSize() < kCopyBatchBytes; it->Next()) {
      put = batch.Put(into, it->key(), it->value());
    }
    if (put.ok()) put = to.db()->Write(write, &batch);
    if (!put.ok()) return Blame(CopyFault::kTarget, FromRocks(put, "copy to " + to.place().dir));
  }
  return Blame(CopyFault::kSource,
               FromRocks(it->status(), "copy from " + view.mirror()->place().dir));
}

Status FlushCopy(RocksMirror& to) {
  PERIGEE_FAILPOINT_STATUS(kv_copy_before_sync);
  rocksdb::FlushOptions options;
  PERIGEE_TRY(FromRocks(to.db()->Flush(options, {to.handles().main, to.handles().inline_values}),
                        "flush the copy in " + to.place().dir));
  PERIGEE_FAILPOINT_STATUS(kv_copy_after_sync);
  return Status::Ok();
}

}  // namespace

CopyOutcome CopySnapshot(RocksView& view, RocksMirror& to, const std::atomic<bool>* cancelled) {
  const RocksHandles& from = view.mirror()->handles();
  CopyOutcome done = CopyFamily(view, from.main, to, to.handles().main, cancelled);
  if (done.fault != CopyFault::kNone) return done;
  done = CopyFamily(view, from.inline_values, to, to.handles().inline_values, cancelled);
  if (done.fault != CopyFault::kNone) return done;
  return Blame(CopyFault::kTarget, FlushCopy(to));
}

CopyOutcome WalFollower::FollowTo(Position until) {
  for (int stalls = 0; have_ < until;) {
    Position before = have_;
    CopyOutcome done = FollowOnce(until);
    if (done.fault != CopyFault::kNone) return done;
    // The end of a log that is being written can look unfinished for a moment.
    stalls = have_ == before ? stalls + 1 : 0;
    if (stalls > kStallsMax)
      return {CopyFault::kSource, Status(Code::kStale, "the log ends too early")};
  }
  return {};
}

CopyOutcome WalFollower::FollowOnce(Position until) {
  std::unique_ptr<rocksdb::TransactionLogIterator> it;
  rocksdb::Status found = source_.db()->GetUpdatesSince(sequence_, &it);
  if (!found.ok()) {
    return {CopyFault::kSource,
            Status(Code::kStale, "the log of " + source_.place().dir +
                                     " does not reach back: " + found.ToString())};
  }
  for (; it->Valid() && have_ < until; it->Next()) {
    rocksdb::BatchResult batch = it->GetBatch();
    const std::string& bytes = batch.writeBatchPtr->Data();
    Result<Head> head = HeadOfBatch(bytes);
    if (!head.ok()) return {CopyFault::kSource, std::move(head).TakeStatus()};
    if (head->position > have_) {
      if (head->previous != have_) {
        return {CopyFault::kSource,
                Status(Code::kStale, "the log of " + source_.place().dir + " starts later")};
      }
      Status st = to_.Write(bytes);
      if (!st.ok()) return Blame(CopyFault::kTarget, std::move(st));
      have_ = head->position;
    }
    sequence_ = batch.sequence + batch.writeBatchPtr->Count();
  }
  if (have_ >= until || it->status().ok() || it->status().IsTryAgain()) return {};
  return {CopyFault::kSource, Status(Code::kStale, "the log of " + source_.place().dir + ": " +
                                                       it->status().ToString())};
}

Result<uint64_t> FindInLog(RocksMirror& source, Position have) {
  rocksdb::VectorLogPtr files;
  PERIGEE_TRY(
      FromRocks(source.db()->GetSortedWalFiles(files), "list the logs of " + source.place().dir));
  for (auto file = files.rbegin(); file != files.rend(); ++file) {
    uint64_t sequence = (*file)->StartSequence();
    if (sequence == 0) continue;  // empty
    std::unique_ptr<rocksdb::TransactionLogIterator> it;
    if (!source.db()->GetUpdatesSince(sequence, &it).ok() || !it->Valid()) continue;
    rocksdb::BatchResult batch = it->GetBatch();
    PERIGEE_ASSIGN(Head head, HeadOfBatch(batch.writeBatchPtr->Data()));
    if (head.previous <= have) return batch.sequence;
  }
  return Status(Code::kStale,
                "the log of " + source.place().dir + " does not reach back far enough");
}

FileDeletionPause::FileDeletionPause(std::shared_ptr<RocksMirror> source)
    : source_(std::move(source)) {
  status_ =
      FromRocks(source_->db()->DisableFileDeletions(), "keep the files of " + source_->place().dir);
}

FileDeletionPause::~FileDeletionPause() {
  if (!status_.ok()) return;
  Status st = FromRocks(source_->db()->EnableFileDeletions(false),
                        "release the files of " + source_->place().dir);
  if (!st.ok())
    log::Warn("metadata_mirror_files_kept", {{"dir", source_->place().dir}, {"error", st}});
}

}  // namespace perigee::objectd::kv
