#pragma once
// The aws-chunked content coding: chunks with or without signatures, and signed or unsigned
// trailers. Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and
// sigv4-streaming-trailers.html
//
// Each chunk's signature covers its data and the signature before it. Data is handed on before its
// chunk is checked: the caller may use it only once Read has returned 0. Thread rule: as its
// BodyReader.

#include <cstdint>
#include <optional>
#include <string>

#include "base/crypto.h"
#include "objectd/s3/chunked_body.h"
#include "objectd/s3/sigv4.h"

namespace perigee::objectd::s3 {

class AwsChunkedBody final : public ChunkedBody {
 public:
  // `payload` is one of the three kStream kinds. `decoded_bytes`: x-amz-decoded-content-length;
  // more is kInvalidArgument, less is kUnavailable (an incomplete body).
  AwsChunkedBody(ByteSource& source, PayloadKind payload, ChunkSigning signing,
                 uint64_t decoded_bytes);

 private:
  Status OnChunk(uint64_t bytes, std::string_view extension) override;
  void OnData(ConstBytes data) override;
  Status OnChunkEnd() override;
  bool TrailersComplete() const override;
  Status OnEnd() override;
  bool lenient_trailers() const override { return true; }
  bool chunks_signed() const { return payload_ != PayloadKind::kStreamUnsignedTrailer; }
  Status CheckSignature(std::string_view kind, std::string_view body_hashes,
                        std::string_view given);

  const PayloadKind payload_;
  ChunkSigning signing_;  // seed: the signature before
  uint64_t left_;         // of decoded_bytes
  std::string chunk_signature_;
  std::optional<Hasher> hasher_;
};

}  // namespace perigee::objectd::s3
