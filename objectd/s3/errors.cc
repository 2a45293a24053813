#include "objectd/s3/errors.h"

#include "objectd/s3/xml.h"

namespace perigee::objectd::s3 {

const ErrorInfo& InfoOf(ErrorCode code) {
  // In the order of the enum.
  static constexpr ErrorInfo kInfo[] = {
      {"AccessDenied", 403, "Access Denied"},
      {"AuthorizationHeaderMalformed", 400,
       "The authorization header that you provided is not valid."},
      {"AuthorizationQueryParametersError", 400,
       "The authorization query parameters that you provided are not valid."},
      {"BadDigest", 400, "The checksum you specified did not match what we received."},
      {"BucketAlreadyOwnedByYou", 409,
       "Your previous request to create the named bucket succeeded and you already own it."},
      {"BucketNotEmpty", 409, "The bucket you tried to delete is not empty."},
      {"EntityTooLarge", 400, "Your proposed upload exceeds the maximum allowed size."},
      {"EntityTooSmall", 400, "Your proposed upload is smaller than the minimum allowed size."},
      {"IncompleteBody", 400,
       "You did not provide the number of bytes specified by the Content-Length HTTP header."},
      {"InsufficientStorage", 507, "There is not enough free space for this request."},
      {"InternalError", 500, "We encountered an internal error. Please try again."},
      {"InvalidAccessKeyId", 403, "The access key ID you provided does not exist in our records."},
      {"InvalidArgument", 400, "Invalid Argument"},
      {"InvalidBucketName", 400, "The specified bucket is not valid."},
      {"InvalidDigest", 400, "The Content-MD5 or checksum value that you specified is not valid."},
      {"InvalidLocationConstraint", 400, "The specified location constraint is not valid."},
      {"InvalidPart", 400,
       "One or more of the specified parts could not be found. The part may not have been "
       "uploaded, or the specified entity "
       "tag may not match the part's entity tag."},
      {"InvalidPartNumber", 416, "The requested partnumber is not satisfiable."},
      {"InvalidPartOrder", 400, "The list of parts was not in ascending order."},
      {"InvalidRange", 416, "The requested range is not satisfiable."},
      {"InvalidRequest", 400, "Invalid Request"},
      {"InvalidToken", 400, "The provided token is malformed or otherwise not valid."},
      {"InvalidURI", 400, "The specified URI couldn't be parsed."},
      {"KeyTooLongError", 400, "Your key is too long."},
      {"MalformedTrailerError", 400,
       "The request contained trailing data that was not well-formed or did not conform."},
      {"MalformedXML", 400,
       "The XML that you provided was not well formed or did not validate against our published "
       "schema."},
      {"MetadataTooLarge", 400, "Your metadata headers exceed the maximum allowed metadata size."},
      {"MethodNotAllowed", 405, "The specified method is not allowed against this resource."},
      {"MissingContentLength", 411, "You must provide the Content-Length HTTP header."},
      {"NoSuchBucket", 404, "The specified bucket does not exist."},
      {"NoSuchKey", 404, "The specified key does not exist."},
      {"NoSuchUpload", 404,
       "The specified multipart upload does not exist. The upload ID may be invalid, or the upload "
       "may have been aborted or "
       "completed."},
      {"NoSuchVersion", 404, "The specified version does not exist."},
      {"NotImplemented", 501,
       "A header or query you provided implies functionality that is not implemented."},
      {"NotModified", 304, "Not Modified"},
      {"PreconditionFailed", 412, "At least one of the pre-conditions you specified did not hold."},
      {"RequestTimeTooSkewed", 403,
       "The difference between the request time and the server's time is too large."},
      {"RequestTimeout", 400,
       "Your socket connection to the server was not read from or written to within the timeout "
       "period."},
      {"ServiceUnavailable", 503, "The data is not reachable at the moment. Please try again."},
      {"SignatureDoesNotMatch", 403,
       "The request signature we calculated does not match the signature you provided. Check your "
       "key and signing method."},
      {"SlowDown", 503, "Please reduce your request rate."},
      {"XAmzContentSHA256Mismatch", 400,
       "The provided 'x-amz-content-sha256' header does not match what was computed."},
  };
  static_assert(sizeof kInfo / sizeof kInfo[0] ==
                static_cast<size_t>(ErrorCode::kXAmzContentSHA256Mismatch) + 1);
  return kInfo[static_cast<size_t>(code)];
}

namespace {

// What went wrong inside is told to the log, not to the client.
Outcome Because(ErrorCode code, const Status& status) {
  Error error{code};
  error.cause = status.ToString();
  return Outcome(std::move(error));
}

}  // namespace

Outcome FromStatus(const Status& status, ErrorCode not_found) {
  switch (status.code()) {
    case Code::kOk:
      return {};
    case Code::kNotFound:
      return {not_found};
    case Code::kInvalidArgument:
      return {ErrorCode::kInvalidArgument, status.message()};
    case Code::kAlreadyExists:
      return {ErrorCode::kBucketAlreadyOwnedByYou};
    case Code::kNotEmpty:
      return {ErrorCode::kBucketNotEmpty};
    case Code::kPermissionDenied:
    case Code::kUnauthenticated:
      return {ErrorCode::kAccessDenied, status.message()};
    case Code::kPreconditionFailed:
      return {ErrorCode::kPreconditionFailed};
    case Code::kTooLarge:
      return {ErrorCode::kEntityTooLarge, status.message()};
    case Code::kNoSpace:
      return Because(ErrorCode::kInsufficientStorage, status);
    case Code::kBusy:
    case Code::kConflict:  // the store gave up after several runs: the client's own retry is the
                           // next one
    case Code::kStale:
      return Because(ErrorCode::kSlowDown, status);
    case Code::kUnavailable:
    case Code::kDeadlineExceeded:
    case Code::kCancelled:
      return Because(ErrorCode::kServiceUnavailable, status);
    case Code::kUnimplemented:
      return {ErrorCode::kNotImplemented, status.message()};
    case Code::kIsDirectory:
    case Code::kNotDirectory:
    case Code::kCrossDevice:
      return {ErrorCode::kInvalidRequest, status.message()};
    case Code::kCorrupt:
    case Code::kIo:
    case Code::kResync:
    case Code::kInternal:
      break;
  }
  return Because(ErrorCode::kInternalError, status);
}

Outcome FromBodyStatus(const Status& status) {
  switch (status.code()) {
    case Code::kUnavailable:
      return {ErrorCode::kIncompleteBody};
    case Code::kDeadlineExceeded:
      return {ErrorCode::kRequestTimeout};
    case Code::kPermissionDenied:
      return {ErrorCode::kSignatureDoesNotMatch, status.message()};
    case Code::kInvalidArgument:
      return {ErrorCode::kInvalidRequest, status.message()};
    default:
      return FromStatus(status);
  }
}

std::string ErrorXml(const Error& error, std::string_view resource, std::string_view request_id) {
  const ErrorInfo& info = InfoOf(error.code);
  XmlWriter xml;
  xml.Open("Error");
  xml.Text("Code", info.name);
  xml.Text("Message", error.message.empty() ? info.message : std::string_view(error.message));
  for (const auto& [name, value] : error.details) xml.Text(name, value);
  xml.Text("Resource", resource);
  xml.Text("RequestId", request_id);
  xml.Text("HostId", "perigee");
  xml.Close("Error");
  return xml.Take();
}

}  // namespace perigee::objectd::s3
