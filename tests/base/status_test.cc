#include "base/status.h"

#include <doctest/doctest.h>

#include <cerrno>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/random.h"

using namespace perigee;

static Result<int> Half(int v) {
  if (v % 2 != 0) return Status(Code::kInvalidArgument, "odd");
  return v / 2;
}
static Result<int> Quarter(int v) {
  PERIGEE_ASSIGN(int half, Half(v));
  PERIGEE_ASSIGN(int quarter, Half(half));
  return quarter;
}

TEST_CASE("a result carries a value or the first failure") {
  CHECK(*Quarter(8) == 2);
  auto r = Quarter(6);
  CHECK(r.code() == Code::kInvalidArgument);
  CHECK(r.status().With("ctx").ToString() == "invalid argument: ctx: odd");
}

TEST_CASE("errno becomes the code a caller acts on") {
  Status st = Status::FromErrno(ENOSPC, "write /x");
  CHECK(st.Is(Code::kNoSpace));
  CHECK(st.sys_errno() == ENOSPC);
  CHECK(st.With("a").sys_errno() == ENOSPC);
}

TEST_CASE("crc32c has its published value and can be continued") {
  CHECK(Crc32c(AsBytes("123456789")) == 0xe3069283);
  CHECK(Crc32cExtend(Crc32c(AsBytes("1234")), AsBytes("56789")) == 0xe3069283);
  CHECK(Crc32cConcat(Crc32c(AsBytes("1234")), Crc32c(AsBytes("56789")), 5) == 0xe3069283);
  CHECK(Crc32cConcat(Crc32c(AsBytes("1234")), Crc32c({}), 0) == Crc32c(AsBytes("1234")));
  const std::string a(777, 'a'), b((3 << 20) + 1, 'b');
  CHECK(Crc32cConcat(Crc32c(AsBytes(a)), Crc32c(AsBytes(b)), b.size()) == Crc32c(AsBytes(a + b)));
}

TEST_CASE("the seeded stream never changes") {
  Random r(42);
  CHECK(r.Next() == Random(42).Next());
  Random q(1);
  uint64_t x = 0;
  for (int i = 0; i < 1000; ++i) x ^= q.Next();
  Random p(1);
  uint64_t y = 0;
  for (int i = 0; i < 1000; ++i) y ^= p.Next();
  CHECK(x == y);
  for (int i = 0; i < 1000; ++i) CHECK(q.Below(7) < 7);
}
