#include "objectd/s3/aws_chunked.h"

#include "base/bytes.h"

namespace perigee::objectd::s3 {

namespace {

constexpr std::string_view kEmptySha256 =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr std::string_view kSignatureField = "chunk-signature=";
constexpr std::string_view kTrailerSignature = "x-amz-trailer-signature";

}  // namespace

AwsChunkedBody::AwsChunkedBody(ByteSource& source, PayloadKind payload, ChunkSigning signing,
                               uint64_t decoded_bytes)
    : ChunkedBody(source), payload_(payload), signing_(std::move(signing)), left_(decoded_bytes) {
  if (chunks_signed()) hasher_.emplace(HashKind::kSha256);
}

Status AwsChunkedBody::OnChunk(uint64_t bytes, std::string_view extension) {
  if (bytes > left_)
    return Status(Code::kInvalidArgument, "more data than x-amz-decoded-content-length says");
  left_ -= bytes;
  if (bytes == 0 && left_ != 0)
    return Status(Code::kUnavailable, "less data than x-amz-decoded-content-length says");
  if (!chunks_signed()) return Status::Ok();
  extension = TrimBlanks(extension);
  if (!extension.starts_with(kSignatureField))
    return Status(Code::kInvalidArgument, "a chunk has no signature");
  chunk_signature_ = extension.substr(kSignatureField.size());
  return bytes == 0 ? OnChunkEnd() : Status::Ok();
}

void AwsChunkedBody::OnData(ConstBytes data) {
  if (hasher_) hasher_->Update(data);
}

Status AwsChunkedBody::OnChunkEnd() {
  if (!chunks_signed()) return Status::Ok();
  std::string hashes = std::string(kEmptySha256) + "\n" + HexEncode(hasher_->Finish());
  return CheckSignature("AWS4-HMAC-SHA256-PAYLOAD", hashes, chunk_signature_);
}

bool AwsChunkedBody::TrailersComplete() const {
  return payload_ != PayloadKind::kStreamSignedTrailer || trailers_.Has(kTrailerSignature);
}

Status AwsChunkedBody::OnEnd() {
  if (payload_ == PayloadKind::kStreamSigned && trailers_.size() != 0) {
    return Status(Code::kInvalidArgument, "a trailer in a body without one");
  }
  if (payload_ == PayloadKind::kStreamSignedTrailer) {
    std::string lines;
    for (size_t i = 0; i < trailers_.size(); ++i) {
      Headers::Field f = trailers_.at(i);
      if (f.name != kTrailerSignature)
        lines.append(f.name).append(":").append(f.value).append("\n");
    }
    PERIGEE_TRY(CheckSignature("AWS4-HMAC-SHA256-TRAILER",
                               HexEncode(Hash(HashKind::kSha256, lines)),
                               trailers_.Get(kTrailerSignature)));
  }
  // Some SDKs end with one empty line more. Nothing else may follow, and the outer framing wants
  // its own end read.
  size_t blanks = 0;
  while (true) {
    PERIGEE_ASSIGN(std::string_view rest, source_.Peek());
    if (rest.empty()) return Status::Ok();
    blanks += rest.size();
    if (blanks > 4 || rest.find_first_not_of("\r\n") != std::string_view::npos) {
      return Status(Code::kInvalidArgument, "data after the last chunk");
    }
    source_.Consume(rest.size());
  }
}

Status AwsChunkedBody::CheckSignature(std::string_view kind, std::string_view body_hashes,
                                      std::string_view given) {
  std::string to_sign(kind);
  to_sign.append("\n").append(signing_.timestamp).append("\n").append(signing_.scope).append("\n");
  to_sign.append(signing_.seed).append("\n").append(body_hashes);
  std::string signature = HexEncode(HmacSha256(signing_.key, to_sign));
  if (!ConstantTimeEqual(signature, given)) {
    return Status(Code::kPermissionDenied, "the signature of a chunk does not match its content");
  }
  signing_.seed = std::move(signature);
  return Status::Ok();
}

}  // namespace perigee::objectd::s3
