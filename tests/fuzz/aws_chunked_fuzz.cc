// The aws-chunked coding: as it comes, and as a client makes it with one byte changed. Signed data
// that is accepted is the data that was signed.

#include <array>

#include "objectd/s3/aws_chunked.h"
#include "tests/fuzz/input.h"
#include "tests/objectd/s3/memory_http.h"

namespace {

using namespace perigee;
using namespace perigee::objectd::s3;

constexpr std::array kKinds = {PayloadKind::kStreamSigned, PayloadKind::kStreamSignedTrailer,
                               PayloadKind::kStreamUnsignedTrailer};

constexpr size_t kBytewiseMax = 512;  // it is slow

ChunkSigning Signing() {
  return {"the day's key", "20231114T221320Z", "20231114/us-east-1/s3/aws4_request", "seed"};
}

// The client's side.
class Encoder {
 public:
  explicit Encoder(PayloadKind kind) : kind_(kind), signing_(Signing()) {}
  void AddChunk(std::string_view data) {
    char digits[17];
    std::snprintf(digits, sizeof digits, "%zx", data.size());
    out_.append(digits);
    if (kind_ != PayloadKind::kStreamUnsignedTrailer) {
      out_.append(";chunk-signature=")
          .append(Sign("AWS4-HMAC-SHA256-PAYLOAD", HexEncode(Hash(HashKind::kSha256, "")) + "\n" +
                                                       HexEncode(Hash(HashKind::kSha256, data))));
    }
    out_.append("\r\n");
    if (!data.empty()) out_.append(data).append("\r\n");
  }
  std::string Finish() {
    AddChunk("");
    if (kind_ != PayloadKind::kStreamSigned) out_.append("x-amz-checksum-crc32c:AAAAAA==\r\n");
    if (kind_ == PayloadKind::kStreamSignedTrailer) {
      std::string hash = HexEncode(Hash(HashKind::kSha256, "x-amz-checksum-crc32c:AAAAAA==\n"));
      out_.append("x-amz-trailer-signature:")
          .append(Sign("AWS4-HMAC-SHA256-TRAILER", hash))
          .append("\r\n");
    }
    return out_ + "\r\n";
  }

 private:
  std::string Sign(const std::string& what, const std::string& hashes) {
    signing_.seed = HexEncode(HmacSha256(signing_.key, what + "\n" + signing_.timestamp + "\n" +
                                                           signing_.scope + "\n" + signing_.seed +
                                                           "\n" + hashes));
    return signing_.seed;
  }
  const PayloadKind kind_;
  ChunkSigning signing_;
  std::string out_;
};

std::string Decode(std::string_view bytes, PayloadKind kind, uint64_t decoded_bytes,
                   size_t arriving, Code* code) {
  test::MemoryBody arrived{std::string(bytes), arriving};
  BodySource source(arrived);
  AwsChunkedBody body(source, kind, Signing(), decoded_bytes);
  return test::ReadAll(body, code, 100);
}

void CheckRaw(fuzz::Input input, PayloadKind kind) {
  const uint64_t decoded_bytes = input.Number<uint16_t>();
  const std::string_view bytes = input.Rest();
  Code whole_code = Code::kOk, split_code = Code::kOk;
  std::string whole = Decode(bytes, kind, decoded_bytes, ~size_t{0}, &whole_code);
  PERIGEE_CHECK(whole.size() <= decoded_bytes);
  PERIGEE_CHECK(whole_code != Code::kOk || whole.size() == decoded_bytes);
  const size_t arriving = bytes.size() <= kBytewiseMax ? 1 : 100;
  PERIGEE_CHECK(Decode(bytes, kind, decoded_bytes, arriving, &split_code) == whole);
  PERIGEE_CHECK(split_code == whole_code);
}

void CheckEncoded(fuzz::Input input, PayloadKind kind) {
  const uint16_t change_at = input.Number<uint16_t>();
  const uint8_t change = input.Number<uint8_t>();
  Encoder encoder(kind);
  std::string data;
  while (!input.empty()) {
    std::string_view chunk = input.Text();
    if (chunk.empty()) continue;
    encoder.AddChunk(chunk);
    data.append(chunk);
  }
  std::string bytes = encoder.Finish();
  Code code = Code::kOk;
  PERIGEE_CHECK(Decode(bytes, kind, data.size(), 50, &code) == data);
  PERIGEE_CHECK(code == Code::kOk);

  bytes[change_at % bytes.size()] ^= static_cast<char>(change);
  std::string changed = Decode(bytes, kind, data.size(), 50, &code);
  if (code == Code::kOk && kind != PayloadKind::kStreamUnsignedTrailer)
    PERIGEE_CHECK(changed == data);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const uint8_t mode = input.Number<uint8_t>();
  const PayloadKind kind = kKinds[mode % kKinds.size()];
  if (mode < 128)
    CheckRaw(input, kind);
  else
    CheckEncoded(input, kind);
  return 0;
}
