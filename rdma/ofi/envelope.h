#pragma once
// What goes around each message of the `ofi` provider: how much of it is head and data, or, for
// data that stays with its sender until it is moved, where that is and how far it has got. The byte
// grammar is in envelope.cc and docs/formats/ofi-envelope.md. Thread rule: values.

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/status.h"

namespace perigee::rdma::ofi {

inline constexpr size_t kEnvelopeBytes = 44;

enum class EnvelopeKind : uint8_t {
  kMessage = 1,   // either: head and data follow
  kAnnounce = 2,  // either: the head follows; the data waits, a client's at `addr`
  kGrant = 3,     // client: write the announced data to `addr`
  kWritten = 4,   // server: that is done
  kRelease = 5,   // receiver: the announced data has been read, or is not wanted
};

struct Envelope {
  EnvelopeKind kind = EnvelopeKind::kMessage;
  uint32_t head_bytes = 0;
  uint32_t data_bytes = 0;
  uint64_t token = 0;          // of an announcement, given by the announcing side
  uint64_t addr = 0, key = 0;  // of the client's memory

  bool operator==(const Envelope&) const = default;
};

// A message with another length, or fields that its kind does not have, is none.
void EncodeEnvelope(const Envelope& envelope, uint8_t* out);
// `message` as it came. kCorrupt: not an envelope of this version, or not of this message.
Result<Envelope> DecodeEnvelope(ConstBytes message);

}  // namespace perigee::rdma::ofi
