#pragma once
// Hashes, HMAC and base64, by OpenSSL. Thread-safe functions; a Hasher belongs to one thread.

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace perigee {

enum class HashKind { kMd5, kSha1, kSha256 };

class Hasher {
 public:
  explicit Hasher(HashKind kind);
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  void Update(ConstBytes data);
  std::string Finish();  // raw digest; the hasher starts anew

 private:
  void* ctx_;
  HashKind kind_;
};

std::string Hash(HashKind kind, std::string_view data);  // raw digest
std::string HmacSha256(std::string_view key, std::string_view data);
bool ConstantTimeEqual(std::string_view a, std::string_view b);
std::string Base64Encode(std::string_view raw);
std::optional<std::string> Base64Decode(
    std::string_view text);  // strict: padding required, nothing else inside

}  // namespace perigee
