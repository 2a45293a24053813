#pragma once
// The parts of the kernel's FUSE protocol that Debian 12's headers (minor 38) do not have yet:
// passthrough. Source: Linux include/uapi/linux/fuse.h, 6.9 and later (FUSE minor 40). Checked by
// size in kernel_abi.cc's tests.

#include <sys/ioctl.h>

#include <cstdint>

namespace perigee::fuse {

inline constexpr uint32_t kOpInit = 26;

inline constexpr uint32_t kInitExt = 1u << 30;  // flags: flags2 is valid
inline constexpr uint32_t kHandleKillprivV2 = 1u
                                              << 28;  // flags: spares a GETXATTR before every write
inline constexpr uint32_t kFlags2Passthrough = 1u << (37 - 32);

inline constexpr uint32_t kOpenDirectIo = 1u << 0;
inline constexpr uint32_t kOpenKeepCache = 1u << 1;
inline constexpr uint32_t kOpenNoFlush = 1u << 5;
inline constexpr uint32_t kOpenPassthrough = 1u << 7;

struct InHeader {
  uint32_t len, opcode;
  uint64_t unique, nodeid;
  uint32_t uid, gid, pid;
  uint16_t total_extlen, padding;
};
static_assert(sizeof(InHeader) == 40);

struct InitIn {
  uint32_t major, minor, max_readahead, flags, flags2;
  uint32_t unused[11];
};
static_assert(sizeof(InitIn) == 64);

struct OutHeader {
  uint32_t len;
  int32_t error;
  uint64_t unique;
};
static_assert(sizeof(OutHeader) == 16);

struct InitOut {
  uint32_t major, minor, max_readahead, flags;
  uint16_t max_background, congestion_threshold;
  uint32_t max_write, time_gran;
  uint16_t max_pages, map_alignment;
  uint32_t flags2, max_stack_depth;
  uint32_t unused[6];
};
static_assert(sizeof(InitOut) == 64);

struct OpenOut {
  uint64_t fh;
  uint32_t open_flags;
  int32_t backing_id;  // "padding" in older headers
};
static_assert(sizeof(OpenOut) == 16);

struct Attr {
  uint64_t ino, size, blocks, atime, mtime, ctime;
  uint32_t atimensec, mtimensec, ctimensec, mode, nlink, uid, gid, rdev, blksize, flags;
};
static_assert(sizeof(Attr) == 88);

struct EntryOut {
  uint64_t nodeid, generation, entry_valid, attr_valid;
  uint32_t entry_valid_nsec, attr_valid_nsec;
  Attr attr;
};
static_assert(sizeof(EntryOut) == 128);

struct CreateOut {
  EntryOut entry;
  OpenOut open;
};
static_assert(sizeof(CreateOut) == 144);

struct BackingMap {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
inline constexpr unsigned long kIocBackingOpen = _IOW(229, 1, BackingMap);
inline constexpr unsigned long kIocBackingClose = _IOW(229, 2, uint32_t);

}  // namespace perigee::fuse
