#pragma once
// Every S3 operation Perigee answers. Each is one function that reads its request from the Call and
// sends its response, or returns the error to send. API:
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html

#include "objectd/s3/call.h"

namespace perigee::objectd::s3 {

// bucket_ops.cc
Outcome ListBuckets(Call& call);
Outcome CreateBucket(Call& call);
Outcome HeadBucket(Call& call);
Outcome DeleteBucket(Call& call);
Outcome GetBucketLocation(Call& call);
Outcome GetBucketVersioning(Call& call);

// object_ops.cc
Outcome GetObject(Call& call);  // and HeadObject
Outcome PutObject(Call& call);

// delete_ops.cc
Outcome DeleteObject(Call& call);
Outcome DeleteObjects(Call& call);

// copy_ops.cc
Outcome CopyObject(Call& call);
Outcome UploadPartCopy(Call& call);

// list_ops.cc
Outcome ListObjects(Call& call);
Outcome ListObjectsV2(Call& call);

// multipart_ops.cc
Outcome CreateMultipartUpload(Call& call);
Outcome UploadPart(Call& call);
Outcome AbortMultipartUpload(Call& call);
// complete_ops.cc
Outcome CompleteMultipartUpload(Call& call);
// upload_list_ops.cc
Outcome ListParts(Call& call);
Outcome ListMultipartUploads(Call& call);

// Shared by the multipart operations: ?uploadId and ?partNumber.
Outcome FindUpload(Call& call, UploadInfo* out);
Outcome PartNumberOf(const Call& call, uint32_t* out);

// A count parameter such as max-keys: `most` when absent or larger. kInvalidArgument.
Outcome CountParameter(const Query& query, const char* name, uint32_t most, uint32_t* out);
// encoding-type: "url" or none.
struct KeyEncoding {
  bool url = false;
  std::string operator()(std::string_view text) const {
    return url ? UriEncode(text, Slash::kKeep) : std::string(text);
  }
};
Outcome EncodingParameter(const Query& query, KeyEncoding* out);

}  // namespace perigee::objectd::s3
