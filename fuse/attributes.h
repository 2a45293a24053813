#pragma once
// From records to what the kernel shows: struct stat, and errno of a Status. Pure functions.

#include <sys/stat.h>

#include "base/status.h"
#include "rdma/wire/record.h"

namespace perigee::fuse {

// Of the committed version (size 0 when never published). st_ino is the file id.
struct stat StatOf(const wire::Record& record);
// Size, blocks and times of `backing`, where the bytes are being written now.
void Overlay(const struct stat& backing, struct stat* out);
uint32_t TypeBits(wire::FileKind kind);  // S_IFREG, ...
int ErrnoOf(const Status& status);

}  // namespace perigee::fuse
