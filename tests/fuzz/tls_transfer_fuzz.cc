// Frame headers of `tls`, and the receiving side of its payloads against any order of what a peer
// may send: a payload is handed over once, whole, or not at all.

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string>

#include "base/checksum.h"
#include "rdma/tls/bulk_in.h"
#include "rdma/tls/bulk_out.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::rdma;
using namespace perigee::rdma::tls;

void CheckFrame(fuzz::Input input) {
  const bool repair = input.Number<uint8_t>() & 1;
  const FrameLimits limits{input.Number<uint16_t>(), input.Number<uint32_t>() % kPieceBytesMax};
  uint8_t bytes[kFrameBytes] = {};
  input.Rest().copy(reinterpret_cast<char*>(bytes), sizeof bytes);
  if (repair) {
    std::memcpy(bytes, "PGTF\1", 5);
    PutLe<uint32_t>(bytes + 36, Crc32c(ConstBytes(bytes, 36)));
  }
  auto frame = DecodeFrame(bytes, limits);
  if (!frame.ok()) return;
  PERIGEE_CHECK(frame->header_len <= limits.header_max);
  PERIGEE_CHECK(frame->InlineBytes() <= std::min(limits.bulk_max, kInlineBulkMax));
  uint8_t again[kFrameBytes];
  EncodeFrame(*frame, again);
  auto second = DecodeFrame(again, limits);
  PERIGEE_CHECK(second.ok() && second->BodyBytes() == frame->BodyBytes());
}

// Bytes of payload `id`, as an honest peer sends them.
uint8_t ByteOf(uint64_t id, size_t offset) { return static_cast<uint8_t>(id * 31 + offset * 7); }
std::string Content(uint64_t id, size_t bytes) {
  std::string out(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<char>(ByteOf(id, i));
  return out;
}

TrafficClass ClassOf(uint64_t id) { return TrafficClassAt(id % kTrafficClasses); }

void CheckReceiver(fuzz::Input input) {
  static const auto pool = std::move(SlabPool::Create({.bytes_max = 1 << 20})).value();
  BulkIn in(1);
  Nanos now = 0;
  std::set<uint64_t> open;
  auto finish = [&](uint64_t id) {
    Piece piece = in.Take(id);
    PERIGEE_CHECK(open.erase(id) == 1);
    PERIGEE_CHECK(AsView(piece.span()) == Content(id, piece.size()));
  };
  while (!input.empty()) {
    const uint64_t id = input.Number<uint8_t>() % 8;
    switch (input.Number<uint8_t>() % 6) {
      case 0: {
        const size_t bytes = input.Number<uint16_t>() + 1;
        const bool here = bytes <= kInlineBulkMax;
        std::string content = Content(id, bytes);
        Status st =
            in.Expect({id, ClassOf(id), bytes}, here ? std::move(content) : std::string(), ++now);
        if (st.ok()) open.insert(id);
        st.Ignore();
        break;
      }
      case 1:
        if (auto wanted = in.Wanted(++now)) {
          Piece piece = pool->TryAllocate(wanted->bytes);
          if (!piece) break;
          BulkIn::Started started = in.Start(*wanted, std::move(piece), now);
          if (started.here) finish(started.id);
        }
        break;
      case 2: {
        FrameHeader head;
        head.kind = FrameKind::kData;
        head.id = id;
        head.offset = input.Number<uint16_t>();
        head.bulk_len = input.Number<uint16_t>() % kPieceMax + 1;
        Status st = in.BeginPiece(head);
        if (!st.ok()) return st.Ignore();  // the connection's end
        uint8_t* place = in.Place(id);
        for (uint32_t i = 0; place != nullptr && i < head.bulk_len; ++i) {
          place[i] = ByteOf(id, head.offset + i);
        }
        if (in.Received(id, head.bulk_len)) finish(id);
        break;
      }
      case 3:
        if (in.Drop(id, 1) != BulkIn::Dropped::kUnknown) open.erase(id);
        break;
      case 4:
        if (in.Withdrawn(id)) PERIGEE_CHECK(open.erase(id) == 1);
        break;
      default:
        (void)in.Overdue(2);
    }
  }
}

// What is sent of a payload are its bytes in order, until it is dropped.
void CheckSender(fuzz::Input input) {
  BulkOut out(1);
  Nanos now = 0;
  std::map<uint64_t, std::string> contents;
  std::map<uint64_t, size_t> sent;
  uint64_t next_id = 0;
  while (!input.empty()) {
    const uint64_t id = input.Number<uint8_t>() % 8;
    switch (input.Number<uint8_t>() % 4) {
      case 0: {
        const uint64_t made = next_id++;
        contents[made] = Content(made, (input.Number<uint16_t>() + size_t{1}) * 8);
        sent[made] = 0;
        out.Offer(made, ClassOf(made), AsBytes(contents[made]), Piece(), 0);
        break;
      }
      case 1:
        out.Grant(id, ++now).Ignore();
        break;
      case 2:
        (void)out.Drop(id);
        break;
      default:
        if (auto piece = out.TakePiece(++now)) {
          PERIGEE_CHECK(piece->offset == sent[piece->id]);
          PERIGEE_CHECK(
              AsView(piece->bytes) ==
              std::string_view(contents[piece->id]).substr(piece->offset, piece->bytes.size()));
          sent[piece->id] += piece->bytes.size();
          out.PieceSent(piece->id);
        }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  constexpr void (*kChecks[])(fuzz::Input) = {CheckFrame, CheckReceiver, CheckSender};
  kChecks[input.Number<uint8_t>() % std::size(kChecks)](input);
  return 0;
}
