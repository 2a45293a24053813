#include "base/crypto.h"

#include <doctest/doctest.h>

using namespace perigee;

TEST_CASE("hashes have their published values") {
  CHECK(HexEncode(Hash(HashKind::kMd5, "")) == "d41d8cd98f00b204e9800998ecf8427e");
  CHECK(HexEncode(Hash(HashKind::kMd5, "abc")) == "900150983cd24fb0d6963f7d28e17f72");
  CHECK(HexEncode(Hash(HashKind::kSha1, "abc")) == "a9993e364706816aba3e25717850c26c9cd0d89d");
  CHECK(HexEncode(Hash(HashKind::kSha256, "abc")) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("a hasher takes pieces, starts anew, and can be moved") {
  Hasher hasher(HashKind::kSha256);
  hasher.Update(AsBytes("a"));
  Hasher moved(std::move(hasher));
  moved.Update(AsBytes(""));
  moved.Update(AsBytes("bc"));
  CHECK(moved.Finish() == Hash(HashKind::kSha256, "abc"));
  moved.Update(AsBytes("abc"));
  CHECK(moved.Finish() == Hash(HashKind::kSha256, "abc"));
  Hasher md5(HashKind::kMd5);
  md5 = std::move(moved);
  CHECK(md5.Finish() == Hash(HashKind::kSha256, ""));
}

// RFC 4231, test cases 1 and 2; and the empty key.
TEST_CASE("HMAC-SHA256 has its published values") {
  CHECK(HexEncode(HmacSha256(std::string(20, '\x0b'), "Hi There")) ==
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  CHECK(HexEncode(HmacSha256("Jefe", "what do ya want for nothing?")) ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  CHECK(HexEncode(HmacSha256("", "")) ==
        "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
  CHECK(HmacSha256(std::string_view(), std::string_view()) == HmacSha256("", ""));
}

TEST_CASE("constant-time comparison compares") {
  CHECK(ConstantTimeEqual("", ""));
  CHECK(ConstantTimeEqual("abc", "abc"));
  CHECK_FALSE(ConstantTimeEqual("abc", "abd"));
  CHECK_FALSE(ConstantTimeEqual("abc", "ab"));
}

// RFC 4648, section 10.
TEST_CASE("base64 has its published values and comes back") {
  const char* vectors[][2] = {{"", ""},
                              {"f", "Zg=="},
                              {"fo", "Zm8="},
                              {"foo", "Zm9v"},
                              {"foob", "Zm9vYg=="},
                              {"fooba", "Zm9vYmE="},
                              {"foobar", "Zm9vYmFy"}};
  for (auto& [raw, text] : vectors) {
    CHECK(Base64Encode(raw) == text);
    CHECK(Base64Decode(text) == std::string(raw));
  }
  std::string all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<char>(i));
  CHECK(Base64Decode(Base64Encode(all)) == all);
}

TEST_CASE("base64 that is not exactly that is refused") {
  for (const char* bad : {"Z", "Zg", "Zg=", "Zg===", "=", "====", "Z===", "Zg==Zg==", "Zm 8",
                          "Zm8=\n", "Zm-_", "Zh==", "Zm9=", "Zg=A"}) {
    CAPTURE(bad);
    CHECK_FALSE(Base64Decode(bad).has_value());
  }
}
