#include "objectd/s3/payload.h"

#include "base/bytes.h"

namespace perigee::objectd::s3 {

Outcome Payload::Parse(const RequestHead& head, const Authentication& auth, Md5 md5, Payload* out) {
  if (auto given = head.headers.Find("content-md5")) {
    auto raw = Base64Decode(*given);
    if (!raw || raw->size() != 16)
      return {ErrorCode::kInvalidDigest, "The Content-MD5 you specified is not valid."};
    out->want_md5_ = std::move(*raw);
  }
  if (md5 == Md5::kWanted || out->want_md5_) out->md5_.emplace(HashKind::kMd5);
  if (auth.payload == PayloadKind::kSigned) {
    out->want_sha256_hex_ = auth.sha256_hex;
    out->sha256_.emplace(HashKind::kSha256);
  }
  for (size_t i = 0; i < head.headers.size(); ++i) {
    Headers::Field f = head.headers.at(i);
    auto kind = ChecksumOfHeader(f.name);
    if (!kind) continue;
    if (out->checksum_)
      return {
          ErrorCode::kInvalidRequest,
          "Expecting a single x-amz-checksum- header. Multiple checksum types are not allowed."};
    auto raw = Base64Decode(f.value);
    if (!raw || raw->size() != BytesOf(*kind)) {
      return {ErrorCode::kInvalidRequest,
              "Value for " + std::string(f.name) + " header is invalid."};
    }
    out->checksum_.emplace(*kind);
    out->want_checksum_ = std::string(f.value);
  }
  if (auto trailer = head.headers.Find("x-amz-trailer")) {
    auto kind = ChecksumOfHeader(AsciiLower(*trailer));
    bool has_trailer = auth.payload == PayloadKind::kStreamSignedTrailer ||
                       auth.payload == PayloadKind::kStreamUnsignedTrailer;
    if (!kind || !has_trailer)
      return {ErrorCode::kInvalidRequest,
              "The value specified in the x-amz-trailer header is not supported"};
    if (out->checksum_)
      return {
          ErrorCode::kInvalidRequest,
          "Expecting a single x-amz-checksum- header. Multiple checksum types are not allowed."};
    out->checksum_.emplace(*kind);
  }
  return {};
}

void Payload::Update(ConstBytes data) {
  if (md5_) md5_->Update(data);
  if (sha256_) sha256_->Update(data);
  if (checksum_) checksum_->Update(data);
}

Outcome Payload::Finish(const Headers& trailers) {
  if (md5_) got_md5_ = md5_->Finish();
  if (want_md5_ && !ConstantTimeEqual(*want_md5_, got_md5_)) {
    return {ErrorCode::kBadDigest, "The Content-MD5 you specified did not match what we received."};
  }
  if (sha256_ && !ConstantTimeEqual(HexEncode(sha256_->Finish()), want_sha256_hex_))
    return {ErrorCode::kXAmzContentSHA256Mismatch};
  if (!checksum_) return {};
  std::string name(HeaderOf(checksum_->kind()));
  if (!want_checksum_) {
    auto given = trailers.Find(name);
    if (!given)
      return {ErrorCode::kMalformedTrailerError,
              "The trailer " + name + " that was announced did not come."};
    want_checksum_ = std::string(*given);
  }
  std::string got = Base64Encode(checksum_->Finish());
  if (got != *want_checksum_) {
    return {ErrorCode::kBadDigest, "The " + std::string(NameOf(checksum_->kind())) +
                                       " you specified did not match the calculated checksum."};
  }
  stored_ = StoredChecksum{checksum_->kind(), std::move(got), false};
  return {};
}

std::string Payload::md5_hex() const { return HexEncode(got_md5_); }

}  // namespace perigee::objectd::s3
