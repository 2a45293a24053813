#pragma once
// Where the newest record of a shard lies in a drive's segment files, for tests that damage it.

#include <doctest/doctest.h>

#include <optional>
#include <string>

#include "base/disk.h"
#include "objectd/drive/segment.h"

namespace perigee::objectd {

struct RecordPlace {
  std::string path;
  uint64_t offset = 0;  // of the header page; the payload begins one page behind
  RecordHeader header;
};

inline std::optional<RecordPlace> FindRecord(Disk& disk, const std::string& drive_dir,
                                             const wire::BlobId& blob, uint32_t index) {
  std::optional<RecordPlace> found;
  auto entries = disk.List(drive_dir + "/segments");
  REQUIRE(entries.ok());
  for (const DirEntry& entry : *entries) {
    const std::string path = drive_dir + "/segments/" + entry.name;
    auto file = disk.Open(path, OpenMode::kRead);
    REQUIRE(file.ok());
    AlignedBuffer page(kPageBytes);
    for (uint64_t at = kPageBytes;; at += kPageBytes) {
      auto got = (*file)->ReadAt(at, page.span());
      if (!got.ok() || *got < kPageBytes) break;
      auto record = DecodeRecordHeader(page.span());
      if (!record.ok()) {
        record.status().Ignore();
        continue;
      }
      if (record->offset != at || record->shard.blob != blob || record->shard.index != index)
        continue;
      if (!found || found->header.record_seq < record->record_seq)
        found = RecordPlace{path, at, *record};
    }
  }
  return found;
}

}  // namespace perigee::objectd
