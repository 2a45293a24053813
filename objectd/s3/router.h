#pragma once
// Service: one request from its head to its response: target, authentication, the body's framing,
// the operation, errors, counters. No sockets. Thread-safe.

#include <array>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/metrics.h"
#include "objectd/s3/object_io.h"
#include "objectd/s3/sigv4.h"

namespace perigee::objectd::s3 {

enum class Operation {
  kListBuckets,
  kCreateBucket,
  kHeadBucket,
  kDeleteBucket,
  kGetBucketLocation,
  kGetBucketVersioning,
  kListObjects,
  kListObjectsV2,
  kListMultipartUploads,
  kDeleteObjects,
  kGetObject,
  kHeadObject,
  kPutObject,
  kCopyObject,
  kDeleteObject,
  kCreateMultipartUpload,
  kUploadPart,
  kUploadPartCopy,
  kCompleteMultipartUpload,
  kAbortMultipartUpload,
  kListParts,
  kCount
};
std::string_view NameOf(Operation operation);

// kNotImplemented names the sub-resource; kMethodNotAllowed.
Outcome SelectOperation(const RequestHead& head, const Target& target, Operation* out);

class Service {
 public:
  Service(Credentials credentials, Clock& clock, ContentIoDeps deps);
  // Always sends a response, or aborts one.
  void Handle(Request& request, ResponseWriter& response);

 private:
  Outcome Run(Request& request, const Target& target, ResponseWriter& response);

  const std::string region_;
  Clock& clock_;
  SigV4 auth_;
  ContentIo content_;
  metrics::Registry& metrics_;
  struct OperationMetrics {
    metrics::Counter* requests;
    metrics::Histogram* seconds;
  };
  std::array<OperationMetrics, static_cast<size_t>(Operation::kCount)> per_operation_;
};

}  // namespace perigee::objectd::s3
