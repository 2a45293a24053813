// Envelopes of `ofi` messages: what is accepted says what its bytes say, and no more than is there.

#include "base/checksum.h"
#include "rdma/ofi/envelope.h"
#include "rdma/rendezvous/frame.h"
#include "rdma/slab_pool.h"
#include "tests/fuzz/input.h"

using namespace perigee;
using namespace perigee::rdma;
using namespace perigee::rdma::ofi;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const bool repair = input.Number<uint8_t>() & 1;
  std::string message(input.Rest());
  if (repair && message.size() >= kEnvelopeBytes) {
    message.replace(0, 5, "PGOF\1", 5);
    auto* bytes = reinterpret_cast<uint8_t*>(message.data());
    PutLe<uint32_t>(bytes + 40, Crc32c(ConstBytes(bytes, 40)));
  }
  auto envelope = DecodeEnvelope(AsBytes(message));
  if (!envelope.ok()) return 0;
  bool along = envelope->kind == EnvelopeKind::kMessage;
  PERIGEE_CHECK(kEnvelopeBytes + envelope->head_bytes + (along ? envelope->data_bytes : 0) ==
                message.size());
  PERIGEE_CHECK(envelope->data_bytes <= (along ? rendezvous::kEagerBytesMax : kPieceBytesMax));
  std::string again = message;
  EncodeEnvelope(*envelope, reinterpret_cast<uint8_t*>(again.data()));
  PERIGEE_CHECK(again == message);
  return 0;
}
