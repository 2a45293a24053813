#pragma once
// Input: a fuzzer's bytes, taken apart into the values a target needs. Behind their end every value
// is zero or empty, so that each input means something. Thread rule: a value.

#include <concepts>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace perigee::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : left_(AsView(ConstBytes(data, size))) {}
  explicit Input(std::string_view bytes) : left_(bytes) {}

  bool empty() const { return left_.empty(); }
  template <std::integral T>
  T Number() {
    T v = 0;
    left_.copy(reinterpret_cast<char*>(&v), sizeof v);
    (void)Take(sizeof v);
    return v;
  }
  std::string_view Take(size_t bytes) {
    std::string_view taken = left_.substr(0, bytes);
    left_.remove_prefix(taken.size());
    return taken;
  }
  std::string_view Text() { return Take(Number<uint8_t>()); }
  // Up to `end`, which is taken too but not given.
  std::string_view Until(std::string_view end) {
    size_t at = left_.find(end);
    if (at == std::string_view::npos) return Rest();
    std::string_view text = Take(at);
    (void)Take(end.size());
    return text;
  }
  std::string_view Line() { return Until("\n"); }
  std::string_view Rest() { return Take(left_.size()); }

 private:
  std::string_view left_;
};

}  // namespace perigee::fuzz
