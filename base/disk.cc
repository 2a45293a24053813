#include "base/disk.h"

#include <algorithm>

#include "base/failpoint.h"

namespace perigee {

std::string ParentDir(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  size_t slash = path.rfind('/');
  if (slash == path.npos) return ".";
  while (slash > 0 && path[slash - 1] == '/') --slash;
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

void RunInline(IoOp& op) {
  op.done = 0;
  switch (op.kind) {
    case IoOp::Kind::kRead: {
      auto got = op.file->ReadAt(op.offset, {op.data, op.bytes});
      op.status = got.status();
      if (got.ok()) op.done = *got;
      break;
    }
    case IoOp::Kind::kWrite:
      op.status = op.file->WriteAt(op.offset, {op.data, op.bytes});
      if (op.status.ok()) op.done = op.bytes;
      break;
    case IoOp::Kind::kSyncData:
      op.status = op.file->SyncData();
      break;
  }
}

static Status WriteAndRename(Disk& disk, const std::string& temp, const std::string& path,
                             std::string_view content) {
  {
    // A temporary file that a crash left is written over.
    PERIGEE_ASSIGN(std::unique_ptr<File> file, disk.Open(temp, OpenMode::kCreateOrOpen));
    PERIGEE_TRY(file->Truncate(0));
    PERIGEE_TRY(file->WriteAt(0, AsBytes(content)));
    PERIGEE_FAILPOINT_STATUS(atomic_file_before_sync);
    PERIGEE_TRY(file->SyncData());
  }
  PERIGEE_FAILPOINT_STATUS(atomic_file_before_rename);
  return disk.Rename(temp, path);
}

Status WriteFileAtomically(Disk& disk, const std::string& path, std::string_view content) {
  std::string temp = path + ".tmp";
  Status written = WriteAndRename(disk, temp, path, content);
  if (!written.ok()) {
    disk.Unlink(temp).Ignore();  // the failure to report is the first one
    return written;
  }
  PERIGEE_FAILPOINT_STATUS(atomic_file_before_dir_sync);
  PERIGEE_TRY(disk.SyncDir(ParentDir(path)));
  PERIGEE_FAILPOINT_STATUS(atomic_file_after_dir_sync);
  return Status::Ok();
}

Result<std::string> ReadWholeFile(Disk& disk, const std::string& path, uint64_t bytes_max) {
  PERIGEE_ASSIGN(std::unique_ptr<File> file, disk.Open(path, OpenMode::kRead));
  PERIGEE_ASSIGN(uint64_t size, file->Size());
  std::string content;
  // The size is a hint: the file may grow meanwhile, and files of /proc have none.
  for (uint64_t want = std::min(size, bytes_max) + 1;; want = std::min(2 * want, bytes_max + 1)) {
    size_t have = content.size();
    content.resize(want);
    PERIGEE_ASSIGN(
        size_t got,
        file->ReadAt(have, {reinterpret_cast<uint8_t*>(content.data()) + have, want - have}));
    content.resize(have + got);
    if (content.size() > bytes_max) {
      return Status(Code::kTooLarge,
                    "read " + path + ": more than " + std::to_string(bytes_max) + " bytes");
    }
    if (content.size() < want) return content;
  }
}

}  // namespace perigee
