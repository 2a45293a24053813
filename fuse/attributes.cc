#include "fuse/attributes.h"

#include <sys/sysmacros.h>

#include <cerrno>

#include "base/clock.h"

namespace perigee::fuse {

uint32_t TypeBits(wire::FileKind kind) {
  switch (kind) {
    case wire::FileKind::kDirectory:
      return S_IFDIR;
    case wire::FileKind::kSymlink:
      return S_IFLNK;
    case wire::FileKind::kFifo:
      return S_IFIFO;
    case wire::FileKind::kSocket:
      return S_IFSOCK;
    case wire::FileKind::kCharDevice:
      return S_IFCHR;
    case wire::FileKind::kBlockDevice:
      return S_IFBLK;
    case wire::FileKind::kFile:
      break;
  }
  return S_IFREG;
}

static timespec Timespec(int64_t ns) {
  int64_t s = ns / kSecond;
  int64_t rest = ns % kSecond;
  if (rest < 0) {
    --s;
    rest += kSecond;
  }
  return {s, rest};
}

struct stat StatOf(const wire::Record& record) {
  struct stat st {};
  st.st_ino = record.id;
  st.st_mode = TypeBits(record.kind) | (record.mode & 07777);
  st.st_nlink = record.kind == wire::FileKind::kDirectory ? 2 : record.nlink;
  st.st_uid = record.uid;
  st.st_gid = record.gid;
  st.st_rdev = record.rdev;
  st.st_blksize = 1 << 20;
  st.st_atim = Timespec(record.atime);
  st.st_mtim = Timespec(record.mtime);
  st.st_ctim = Timespec(record.ctime);
  if (record.kind == wire::FileKind::kSymlink) {
    st.st_size = static_cast<off_t>(record.symlink.size());
  } else if (record.kind == wire::FileKind::kDirectory) {
    st.st_size = 4096;
  } else if (record.committed) {
    st.st_size = static_cast<off_t>(record.committed->size);
    st.st_blocks = static_cast<blkcnt_t>((record.committed->size + 511) / 512);
  }
  return st;
}

void Overlay(const struct stat& backing, struct stat* out) {
  out->st_size = backing.st_size;
  out->st_blocks = backing.st_blocks;
  out->st_mtim = backing.st_mtim;
  out->st_ctim = backing.st_ctim;
}

int ErrnoOf(const Status& status) {
  switch (status.code()) {
    case Code::kOk:
      return 0;
    case Code::kInvalidArgument:
      return EINVAL;
    case Code::kNotFound:
      return ENOENT;
    case Code::kAlreadyExists:
      return EEXIST;
    case Code::kPermissionDenied:
    case Code::kUnauthenticated:
      return EPERM;
    case Code::kNotEmpty:
      return ENOTEMPTY;
    case Code::kNotDirectory:
      return ENOTDIR;
    case Code::kIsDirectory:
      return EISDIR;
    case Code::kCrossDevice:
      return EXDEV;
    case Code::kStale:
      return ESTALE;
    case Code::kBusy:
      return EBUSY;
    case Code::kNoSpace:
      return ENOSPC;
    case Code::kTooLarge:
      return ENAMETOOLONG;
    case Code::kUnimplemented:
      return EOPNOTSUPP;
    case Code::kCancelled:
      return EINTR;
    case Code::kDeadlineExceeded:
      return ETIMEDOUT;
    default:
      return EIO;
  }
}

}  // namespace perigee::fuse
