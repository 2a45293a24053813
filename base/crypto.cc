#include "base/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <utility>

#include "base/status.h"

namespace perigee {
namespace {

// Fetched once and kept: OpenSSL 3 looks an algorithm up anew each time it is named implicitly.
const EVP_MD* Algorithm(HashKind kind) {
  static EVP_MD* const md5 = EVP_MD_fetch(nullptr, "MD5", nullptr);
  static EVP_MD* const sha1 = EVP_MD_fetch(nullptr, "SHA1", nullptr);
  static EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  const EVP_MD* md = kind == HashKind::kMd5 ? md5 : kind == HashKind::kSha1 ? sha1 : sha256;
  PERIGEE_CHECK(md != nullptr);
  return md;
}

EVP_MD_CTX* Context(void* ctx) { return static_cast<EVP_MD_CTX*>(ctx); }

// 0-63, or -1.
int Base64Value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  if (c == '/') return 63;
  return -1;
}

}  // namespace

Hasher::Hasher(HashKind kind) : ctx_(EVP_MD_CTX_new()), kind_(kind) {
  PERIGEE_CHECK(ctx_ != nullptr);
  PERIGEE_CHECK(EVP_DigestInit_ex(Context(ctx_), Algorithm(kind), nullptr) == 1);
}

Hasher::~Hasher() { EVP_MD_CTX_free(Context(ctx_)); }

Hasher::Hasher(Hasher&& other) noexcept
    : ctx_(std::exchange(other.ctx_, nullptr)), kind_(other.kind_) {}

Hasher& Hasher::operator=(Hasher&& other) noexcept {
  std::swap(ctx_, other.ctx_);
  std::swap(kind_, other.kind_);
  return *this;
}

void Hasher::Update(ConstBytes data) {
  PERIGEE_CHECK(EVP_DigestUpdate(Context(ctx_), data.data(), data.size()) == 1);
}

std::string Hasher::Finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned bytes = 0;
  PERIGEE_CHECK(EVP_DigestFinal_ex(Context(ctx_), digest.data(), &bytes) == 1);
  PERIGEE_CHECK(EVP_DigestInit_ex(Context(ctx_), Algorithm(kind_), nullptr) == 1);
  return std::string(reinterpret_cast<char*>(digest.data()), bytes);
}

std::string Hash(HashKind kind, std::string_view data) {
  Hasher hasher(kind);
  hasher.Update(AsBytes(data));
  return hasher.Finish();
}

std::string HmacSha256(std::string_view key, std::string_view data) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> mac;
  unsigned bytes = 0;
  // A null key means "the key of before" to OpenSSL.
  const char* key_data = key.empty() ? "" : key.data();
  PERIGEE_CHECK(HMAC(Algorithm(HashKind::kSha256), key_data, static_cast<int>(key.size()),
                     reinterpret_cast<const unsigned char*>(data.data()), data.size(), mac.data(),
                     &bytes) != nullptr);
  return std::string(reinterpret_cast<char*>(mac.data()), bytes);
}

bool ConstantTimeEqual(std::string_view a, std::string_view b) {
  return a.size() == b.size() && (a.empty() || CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0);
}

std::string Base64Encode(std::string_view raw) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((raw.size() + 2) / 3 * 4);
  for (size_t i = 0; i < raw.size(); i += 3) {
    size_t have = std::min<size_t>(raw.size() - i, 3);
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j)
      group = group << 8 | (j < have ? static_cast<uint8_t>(raw[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j)
      out.push_back(j <= have ? kDigits[group >> (18 - 6 * j) & 63] : '=');
  }
  return out;
}

std::optional<std::string> Base64Decode(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string out;
  out.reserve(text.size() / 4 * 3);
  for (size_t i = 0; i < text.size(); i += 4) {
    size_t digits = i + 4 == text.size() ? 4 - padding : 4;
    uint32_t group = 0;
    for (size_t j = 0; j < 4; ++j) {
      int value = j < digits ? Base64Value(text[i + j]) : 0;
      if (value < 0) return std::nullopt;
      group = group << 6 | static_cast<uint32_t>(value);
    }
    // One text for one value: the bits that padding cuts off must be zero.
    if ((group & ((1u << (8 * (4 - digits))) - 1)) != 0) return std::nullopt;
    for (size_t j = 0; j + 1 < digits; ++j) out.push_back(static_cast<char>(group >> (16 - 8 * j)));
  }
  return out;
}

}  // namespace perigee
