#include <doctest/doctest.h>

#include <string>

#include "rdma/ofi/envelope.h"
#include "rdma/rendezvous/frame.h"
#include "rdma/slab_pool.h"

using namespace perigee;
using namespace perigee::rdma;
using namespace perigee::rdma::ofi;

static std::string Encode(const Envelope& envelope, const std::string& behind = "") {
  std::string out(kEnvelopeBytes, '\0');
  EncodeEnvelope(envelope, reinterpret_cast<uint8_t*>(out.data()));
  return out + behind;
}
static Envelope Announce() {
  Envelope e;
  e.kind = EnvelopeKind::kAnnounce;
  e.head_bytes = 4;
  e.data_bytes = 0x10000;
  e.token = 0x1122334455667788;
  e.addr = 0x99aabbccddeeff00;
  e.key = 0x0102030405060708;
  return e;
}

TEST_CASE("ofi envelope: golden bytes") {
  std::string message = Encode(Announce(), "head");
  CHECK(HexEncode(message) ==
        "50474f46010200000400000000000100887766554433221100ffeeddccbbaa990807060504030201ba9560a6"
        "68656164");
  auto decoded = DecodeEnvelope(AsBytes(message));
  REQUIRE(decoded.ok());
  CHECK(*decoded == Announce());
}

TEST_CASE("ofi envelope: every flipped bit is noticed") {
  std::string message = Encode(Announce(), "head");
  for (size_t bit = 0; bit < kEnvelopeBytes * 8; ++bit) {
    message[bit / 8] = static_cast<char>(message[bit / 8] ^ (1 << (bit % 8)));
    CHECK(DecodeEnvelope(AsBytes(message)).code() == Code::kCorrupt);
    message[bit / 8] = static_cast<char>(message[bit / 8] ^ (1 << (bit % 8)));
  }
  CHECK(DecodeEnvelope(AsBytes(message)).ok());
}

TEST_CASE("ofi envelope: fields that its kind does not have, or another length, are refused") {
  auto code = [](auto change, const std::string& behind) {
    Envelope e = Announce();
    change(e);
    return DecodeEnvelope(AsBytes(Encode(e, behind))).code();
  };
  CHECK(code([](Envelope&) {}, "head") == Code::kOk);
  CHECK(code([](Envelope&) {}, "hea") == Code::kCorrupt);
  CHECK(code([](Envelope&) {}, "head+") == Code::kCorrupt);
  CHECK(code([](Envelope& e) { e.head_bytes = UINT32_MAX; }, "head") == Code::kCorrupt);
  CHECK(code([](Envelope& e) { e.token = 0; }, "head") == Code::kCorrupt);
  CHECK(code([](Envelope& e) { e.data_bytes = rendezvous::kEagerBytesMax; }, "head") ==
        Code::kCorrupt);
  CHECK(code([](Envelope& e) { e.data_bytes = kPieceBytesMax + 1; }, "head") == Code::kCorrupt);
  CHECK(code([](Envelope& e) { e.kind = EnvelopeKind{0}; }, "head") == Code::kCorrupt);
  CHECK(code([](Envelope& e) { e.kind = EnvelopeKind{6}; }, "head") == Code::kCorrupt);
  auto message = [](Envelope& e) {
    e = Envelope{};
    e.head_bytes = 4;
    e.data_bytes = 2;
  };
  CHECK(code(message, "headda") == Code::kOk);
  CHECK(code(message, "headdat") == Code::kCorrupt);
  for (auto change : {+[](Envelope& e) { e.token = 1; }, +[](Envelope& e) { e.addr = 1; },
                      +[](Envelope& e) { e.key = 1; }}) {
    CHECK(code([&](Envelope& e) { message(e), change(e); }, "headda") == Code::kCorrupt);
  }
  for (auto kind : {EnvelopeKind::kWritten, EnvelopeKind::kRelease}) {
    auto control = [kind](Envelope& e) {
      e = Envelope{};
      e.kind = kind;
      e.token = 7;
    };
    CHECK(code(control, "") == Code::kOk);
    CHECK(code(control, "x") == Code::kCorrupt);
    CHECK(code([&](Envelope& e) { control(e), e.key = 1; }, "") == Code::kCorrupt);
    CHECK(code([&](Envelope& e) { control(e), e.data_bytes = 20000; }, "") == Code::kCorrupt);
    CHECK(code([&](Envelope& e) { control(e), e.head_bytes = 1; }, "x") == Code::kCorrupt);
  }
  CHECK(DecodeEnvelope({}).code() == Code::kCorrupt);
  std::string large(kEnvelopeBytes + 4 + rendezvous::kEagerBytesMax + 1, 'x');
  Envelope e;
  e.head_bytes = 4;
  e.data_bytes = rendezvous::kEagerBytesMax + 1;
  CHECK(DecodeEnvelope(AsBytes(Encode(e, large.substr(kEnvelopeBytes)))).code() == Code::kCorrupt);
}
