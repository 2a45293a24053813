#pragma once
// What multipart.cc and multipart_complete.cc share.

#include "objectd/meta/namespace.h"
#include "objectd/meta/tree.h"
#include "objectd/meta/upload_rows.h"

namespace perigee::objectd {

inline constexpr uint32_t kPartNumberMax = 10000;

struct OpenUpload {
  uint64_t id = 0;
  Node bucket;
  std::string row_key;
  UploadRow row;
};

Status NoSuchUpload(const std::string& upload_id);
Result<uint64_t> UploadIdOf(const UploadInfo& upload);  // kNotFound when it is none
// kNotFound: NoSuchUpload, NoSuchBucket.
Result<OpenUpload> FindUpload(Tree& tree, const UploadInfo& upload, kv::ReadMode mode);
// The upload is over; its parts are left to CleanUp.
void CloseUpload(Tree& tree, const OpenUpload& open);

}  // namespace perigee::objectd
