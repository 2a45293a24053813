#pragma once
// RecordSummary: what a listing tells of an entry, read from a stored wire::Record without making
// the rest of it: a page has a thousand of them. Field numbers are those of rdma/wire/record.h.
// Only read, never written. Thread rule: values.

#include <cstdint>
#include <optional>
#include <string>

#include "rdma/wire/record.h"

namespace perigee::objectd {

struct VersionSummary {
  uint64_t size = 0;
  int64_t mtime = 0;
  std::string etag;
  std::string checksum;
  uint32_t part_count = 0;
  static void Fields(auto& s, auto& v) {
    v(2, s.size);
    v(3, s.mtime);
    v(4, s.etag);
    v(7, s.checksum);
    v(8, s.part_count);
  }
};

struct RecordSummary {
  wire::FileId id = 0;
  wire::FileKind kind = wire::FileKind::kFile;
  int64_t mtime = 0;
  bool implicit = false;
  std::optional<VersionSummary> committed;

  bool is_directory() const { return kind == wire::FileKind::kDirectory; }
  static void Fields(auto& s, auto& v) {
    v(1, s.id);
    v(2, s.kind);
    v(7, s.mtime);
    v(15, s.implicit);
    v(17, s.committed);
  }
};

}  // namespace perigee::objectd
