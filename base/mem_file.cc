#include "base/mem_file.h"

#include <cerrno>
#include <limits>

namespace perigee::internal {

Status MemError(int err, std::string_view what, const std::string& path) {
  return Status::FromErrno(err, std::string(what) + " " + path);
}

MemFile::MemFile(std::shared_ptr<MemTree> tree, MemNodePtr node, std::string path, bool writable,
                 bool direct)
    : tree_(std::move(tree)),
      node_(std::move(node)),
      path_(std::move(path)),
      generation_(tree_->generation),
      writable_(writable),
      direct_(direct) {
  ++node_->opens;
}

MemFile::~MemFile() {
  std::lock_guard lock(tree_->mu);
  if (generation_ != tree_->generation) return;
  --node_->opens;
  tree_->FreeIfGone(*node_);
}

Result<size_t> MemFile::ReadAt(uint64_t offset, MutableBytes data) {
  PERIGEE_TRY(tree_->Ask("read", path_));
  std::lock_guard lock(tree_->mu);
  PERIGEE_TRY(CheckAlive("read"));
  PERIGEE_TRY(CheckAligned("read", offset, data.size(), data.data()));
  return node_->pages.Read(offset, data);
}

Status MemFile::WriteAt(uint64_t offset, ConstBytes data) {
  return Change("write", offset, data.size(), data.data(),
                [&](MemPages& pages) { pages.Write(offset, data); });
}

Status MemFile::SyncData() {
  PERIGEE_TRY(tree_->Ask("sync", path_));
  std::lock_guard lock(tree_->mu);
  PERIGEE_TRY(CheckAlive("sync"));
  node_->pages.Sync();
  return Status::Ok();
}

Status MemFile::Truncate(uint64_t size) {
  return Change("truncate", size, 0, nullptr, [&](MemPages& pages) { pages.Truncate(size); });
}

Status MemFile::Allocate(uint64_t offset, uint64_t bytes) {
  if (bytes == 0) return MemError(EINVAL, "allocate", path_);
  return Change("allocate", offset, bytes, nullptr,
                [&](MemPages& pages) { pages.Allocate(offset, bytes); });
}

Status MemFile::PunchHole(uint64_t offset, uint64_t bytes) {
  if (bytes == 0) return MemError(EINVAL, "punch hole in", path_);
  PERIGEE_TRY(tree_->Ask("write", path_));
  std::lock_guard lock(tree_->mu);
  PERIGEE_TRY(CheckWritable("punch hole in"));
  tree_->Account(*node_, [&](MemPages& pages) { pages.PunchHole(offset, bytes); });
  return Status::Ok();
}

Result<uint64_t> MemFile::Size() {
  std::lock_guard lock(tree_->mu);
  PERIGEE_TRY(CheckAlive("stat"));
  return node_->pages.size();
}

Result<uint64_t> MemFile::AllocatedBytes() {
  std::lock_guard lock(tree_->mu);
  PERIGEE_TRY(CheckAlive("stat"));
  return node_->pages.allocated_bytes();
}

template <class Fn>
Status MemFile::Change(std::string_view what, uint64_t offset, uint64_t bytes, const uint8_t* data,
                       Fn change) {
  PERIGEE_TRY(tree_->Ask("write", path_));
  std::lock_guard lock(tree_->mu);
  PERIGEE_TRY(CheckWritable(what));
  // As the kernel does: no alignment is asked of what moves no bytes.
  if (data != nullptr) PERIGEE_TRY(CheckAligned(what, offset, bytes, data));
  constexpr uint64_t kSizeMax = std::numeric_limits<int64_t>::max();
  if (offset > kSizeMax || bytes > kSizeMax - offset) return MemError(EFBIG, what, path_);
  if (!tree_->Fits(*node_, offset, bytes)) return MemError(ENOSPC, what, path_);
  tree_->Account(*node_, change);
  return Status::Ok();
}

Status MemFile::CheckAlive(std::string_view what) const {
  return generation_ == tree_->generation ? Status::Ok() : MemError(EIO, what, path_);
}

Status MemFile::CheckWritable(std::string_view what) const {
  PERIGEE_TRY(CheckAlive(what));
  return writable_ ? Status::Ok() : MemError(EBADF, what, path_);
}

Status MemFile::CheckAligned(std::string_view what, uint64_t offset, size_t bytes,
                             const void* data) const {
  bool aligned = (offset | bytes | reinterpret_cast<uintptr_t>(data)) % kPageBytes == 0;
  return aligned || !direct_ ? Status::Ok() : MemError(EINVAL, what, path_);
}

}  // namespace perigee::internal
