// HTTP's chunked framing. How the bytes arrive must not matter: byte by byte, in pieces, at once.

#include "objectd/s3/chunked_body.h"
#include "tests/fuzz/input.h"
#include "tests/objectd/s3/memory_http.h"

namespace {

using namespace perigee;
using namespace perigee::objectd::s3;

constexpr size_t kBytewiseMax = 512;  // it is slow

struct Decoded {
  std::string data, trailers;
  Code code = Code::kOk;
  bool operator==(const Decoded&) const = default;
};

Decoded Decode(std::string_view bytes, size_t arriving, size_t reading) {
  test::MemoryBody arrived{std::string(bytes), arriving};
  BodySource source(arrived);
  ChunkedBody body(source);
  Decoded d;
  d.data = test::ReadAll(body, &d.code, reading);
  for (size_t i = 0; i < body.trailers().size(); ++i) {
    Headers::Field f = body.trailers().at(i);
    d.trailers.append(f.name).append(":").append(f.value).append("\n");
  }
  return d;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const size_t arriving = 1 + input.Number<uint8_t>();
  const std::string_view bytes = input.Rest();
  const Decoded whole = Decode(bytes, ~size_t{0}, 64 << 10);
  PERIGEE_CHECK(whole.data.size() <= bytes.size() && whole.trailers.size() <= bytes.size());
  if (bytes.size() <= kBytewiseMax) PERIGEE_CHECK(Decode(bytes, 1, 64 << 10) == whole);
  PERIGEE_CHECK(Decode(bytes, arriving, 7) == whole);
  return 0;
}
