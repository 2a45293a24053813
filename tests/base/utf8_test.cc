#include "base/utf8.h"

#include <doctest/doctest.h>

using namespace perigee;

TEST_CASE("UTF-8 is told from what is none") {
  CHECK(IsUtf8(""));
  CHECK(IsUtf8("plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x8e\x89"));
  CHECK(IsUtf8("\x7f \xdf\xbf \xef\xbf\xbf \xf4\x8f\xbf\xbf \xed\x9f\xbf \xee\x80\x80"));
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xe2\x82", "\xed\xa0\x80", "\xed\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe0\x80\x80", "\xf0\x8f\xbf\xbf", "\xff"}) {
    CHECK_FALSE(IsUtf8(bad));
  }
}
