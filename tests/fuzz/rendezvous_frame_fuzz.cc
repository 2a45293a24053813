// Headers of `ucx` messages: what is accepted keeps to the limits and says what its bytes say.

#include "base/checksum.h"
#include "rdma/rendezvous/frame.h"
#include "tests/fuzz/input.h"

using namespace perigee;
using namespace perigee::rdma::rendezvous;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const bool repair = input.Number<uint8_t>() & 1;
  const FrameLimits limits{input.Number<uint32_t>(), input.Number<uint32_t>()};
  const size_t data_bytes = input.Number<uint32_t>();
  std::string head(input.Rest());
  if (repair && head.size() >= kFrameBytes) {
    head.replace(0, 5, "PGUX\1", 5);
    auto* bytes = reinterpret_cast<uint8_t*>(head.data());
    uint32_t crc = Crc32c(ConstBytes(bytes, 36));
    PutLe<uint32_t>(bytes + 36, Crc32cExtend(crc, AsBytes(head).subspan(kFrameBytes)));
  }
  std::string_view body;
  auto frame = DecodeFrame(AsBytes(head), data_bytes, limits, &body);
  if (!frame.ok()) return 0;
  PERIGEE_CHECK(frame->body_len <= limits.body_max && frame->bulk_len <= limits.bulk_max);
  PERIGEE_CHECK(frame->DataBytes() == data_bytes);
  PERIGEE_CHECK(body.size() == head.size() - kFrameBytes);
  std::string_view again_body;
  std::string again = EncodeFrame(*frame, body);
  auto second = DecodeFrame(AsBytes(again), data_bytes, limits, &again_body);
  PERIGEE_CHECK(second.ok() && again_body == body && second->id == frame->id);
  return 0;
}
