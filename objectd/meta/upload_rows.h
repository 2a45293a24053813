#pragma once
// Rows of multipart uploads; keys in keys.h, format in docs/formats/uploads.md.

#include "rdma/wire/record.h"

namespace perigee::objectd {

struct UploadRow {
  int64_t initiated = 0;  // wall ns
  std::vector<wire::Attribute> headers;
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.initiated);
    v(2, s.headers);
    v.Rest(s.unknown);
  }
};

// The part's content is held by ContentOwner{part_id, its number}.
struct PartRow {
  uint64_t part_id = 0;
  uint64_t size = 0;
  std::string etag, checksum;
  int64_t modified = 0;
  wire::Layout layout;  // kBlobs, or kNone when empty
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.part_id);
    v(2, s.size);
    v(3, s.etag);
    v(4, s.checksum);
    v(5, s.modified);
    v(6, s.layout);
    v.Rest(s.unknown);
  }
};

// What Complete made, for one that is repeated.
struct CompletedRow {
  std::string key;
  wire::FileId bucket = 0;
  wire::Record record;
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.key);
    v(2, s.bucket);
    v(3, s.record);
    v.Rest(s.unknown);
  }
};

}  // namespace perigee::objectd
