#include "objectd/s3/http.h"

#include <algorithm>

namespace perigee::objectd::s3 {

namespace {

char LowerOf(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

}  // namespace

void Headers::Add(std::string_view name, std::string_view value) {
  Entry e;
  e.name = static_cast<uint32_t>(text_.size());
  e.name_bytes = static_cast<uint32_t>(name.size());
  for (char c : name) text_.push_back(LowerOf(c));
  value = TrimBlanks(value);
  e.value = static_cast<uint32_t>(text_.size());
  e.value_bytes = static_cast<uint32_t>(value.size());
  text_.append(value);
  entries_.push_back(e);
}

Headers::Field Headers::at(size_t i) const {
  const Entry& e = entries_[i];
  std::string_view all = text_;
  return {all.substr(e.name, e.name_bytes), all.substr(e.value, e.value_bytes)};
}

std::optional<std::string_view> Headers::Find(std::string_view lower_name) const {
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].name_bytes != lower_name.size()) continue;
    Field f = at(i);
    if (f.name == lower_name) return f.value;
  }
  return std::nullopt;
}

const Headers& BodyReader::trailers() const {
  static const Headers none;
  return none;
}

std::string AsciiLower(std::string_view s) {
  std::string out(s);
  std::transform(out.begin(), out.end(), out.begin(), LowerOf);
  return out;
}

bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return LowerOf(x) == LowerOf(y); });
}

std::string_view TrimBlanks(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

std::optional<uint64_t> ParseDecimal(std::string_view s) {
  if (s.empty() || s.size() > 20) return std::nullopt;
  uint64_t v = 0;
  for (char c : s) {
    if (c < '0' || c > '9') return std::nullopt;
    if (__builtin_mul_overflow(v, uint64_t{10}, &v) ||
        __builtin_add_overflow(v, uint64_t(c - '0'), &v))
      return std::nullopt;
  }
  return v;
}

}  // namespace perigee::objectd::s3
