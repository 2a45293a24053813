#pragma once
// S3 errors: code, HTTP status and message as clients know them
// (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), and Outcome, what an
// operation returns. Thread rule: values.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace perigee::objectd::s3 {

enum class ErrorCode {
  kAccessDenied,
  kAuthorizationHeaderMalformed,
  kAuthorizationQueryParametersError,
  kBadDigest,
  kBucketAlreadyOwnedByYou,
  kBucketNotEmpty,
  kEntityTooLarge,
  kEntityTooSmall,
  kIncompleteBody,
  kInsufficientStorage,
  kInternalError,
  kInvalidAccessKeyId,
  kInvalidArgument,
  kInvalidBucketName,
  kInvalidDigest,
  kInvalidLocationConstraint,
  kInvalidPart,
  kInvalidPartNumber,
  kInvalidPartOrder,
  kInvalidRange,
  kInvalidRequest,
  kInvalidToken,
  kInvalidURI,
  kKeyTooLongError,
  kMalformedTrailerError,
  kMalformedXML,
  kMetadataTooLarge,
  kMethodNotAllowed,
  kMissingContentLength,
  kNoSuchBucket,
  kNoSuchKey,
  kNoSuchUpload,
  kNoSuchVersion,
  kNotImplemented,
  kNotModified,
  kPreconditionFailed,
  kRequestTimeTooSkewed,
  kRequestTimeout,
  kServiceUnavailable,
  kSignatureDoesNotMatch,
  kSlowDown,
  kXAmzContentSHA256Mismatch,
};

struct ErrorInfo {
  std::string_view name;
  int http_status;
  std::string_view message;
};
const ErrorInfo& InfoOf(ErrorCode code);

struct Error {
  ErrorCode code;
  std::string message = {};  // the code's own when empty
  std::vector<std::pair<std::string, std::string>> details =
      {};  // further XML elements, e.g. Region
  std::vector<std::pair<std::string, std::string>> headers = {};  // further response headers
  std::string cause = {};                                         // for the log only
};

// Ok (also when a response of any kind has been given), or the error the client has to be told.
class [[nodiscard]] Outcome {
 public:
  Outcome() = default;
  Outcome(ErrorCode code, std::string message = {})  // NOLINT: implicit by design
      : error_(std::make_unique<Error>(Error{code, std::move(message)})) {}
  Outcome(Error error)
      : error_(std::make_unique<Error>(std::move(error))) {}  // NOLINT: implicit by design
  static Outcome Ok() { return {}; }
  bool ok() const { return error_ == nullptr; }
  const Error& error() const { return *error_; }
  bool Is(ErrorCode code) const { return error_ && error_->code == code; }

 private:
  std::unique_ptr<Error> error_;
};

#define PERIGEE_S3_TRY(expr)                               \
  do {                                                     \
    ::perigee::objectd::s3::Outcome perigee_out_ = (expr); \
    if (!perigee_out_.ok()) return perigee_out_;           \
  } while (0)

// What a failed Status means to an S3 client. `not_found` says what was looked for.
Outcome FromStatus(const Status& status, ErrorCode not_found = ErrorCode::kNoSuchKey);
// The same for failures of BodyReader::Read.
Outcome FromBodyStatus(const Status& status);

// <Error> document.
std::string ErrorXml(const Error& error, std::string_view resource, std::string_view request_id);

}  // namespace perigee::objectd::s3
