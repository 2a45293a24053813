// The texts that option values are written in.

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>

#include "base/options.h"

namespace perigee {
namespace {

Status Bad(std::string_view text, std::string_view want) {
  return Status(Code::kInvalidArgument, "'" + std::string(text) + "' is not " + std::string(want));
}

// The whole of `text` as a decimal number.
bool ParseNumber(std::string_view text, uint64_t* out) {
  auto [end, err] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return err == std::errc() && end == text.data() + text.size();
}

struct Range {
  uint64_t first;
  uint64_t last;
  size_t digits;  // zero-padded to this width
};

constexpr size_t kExpandedMax = 4096;

// "1...6" or "01...12".
Result<Range> ParseRange(const std::string& pattern, std::string_view inside) {
  size_t dots = inside.find("...");
  Range range{0, 0, 1};
  if (dots == inside.npos || !ParseNumber(inside.substr(0, dots), &range.first) ||
      !ParseNumber(inside.substr(dots + 3), &range.last) || range.first > range.last) {
    return Bad(pattern, "a pattern: braces hold a rising range such as {1...6}");
  }
  if (range.last - range.first >= kExpandedMax)
    return Bad(pattern, "a pattern of at most 4096 names");
  if (inside.starts_with('0')) range.digits = dots;
  return range;
}

}  // namespace

Result<uint64_t> ParseBytes(std::string_view text) {
  constexpr std::string_view kUnits = "KMGTP";
  std::string_view number = text;
  if (number.ends_with("iB")) number.remove_suffix(2);
  bool long_unit = number.size() != text.size();
  int shift = 0;
  if (!number.empty()) {
    char unit = number.back() >= 'a' && !long_unit ? static_cast<char>(number.back() - 'a' + 'A')
                                                   : number.back();
    if (size_t i = kUnits.find(unit); i != kUnits.npos) {
      shift = static_cast<int>(10 * (i + 1));
      number.remove_suffix(1);
    }
  }
  uint64_t value = 0;
  if (!ParseNumber(number, &value) || (long_unit && shift == 0))
    return Bad(text, "a size such as 4096, 64K, 512M or 10G");
  if (value > std::numeric_limits<uint64_t>::max() >> shift)
    return Bad(text, "a size below 16384P");
  return value << shift;
}

Result<Nanos> ParseDuration(std::string_view text) {
  struct Unit {
    std::string_view name;
    Nanos nanos;
  };
  static constexpr Unit kUnits[] = {
      {"ns", 1},           {"us", kMicrosecond},  {"ms", kMillisecond},  {"s", kSecond},
      {"m", 60 * kSecond}, {"h", 3600 * kSecond}, {"d", 86400 * kSecond}};
  size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  std::string_view unit_name = text.substr(digits);
  uint64_t value = 0;
  if (!ParseNumber(text.substr(0, digits), &value))
    return Bad(text, "a duration such as 500ms, 2s, 10m or 1h");
  if (value == 0 && unit_name.empty()) return Nanos{0};
  for (const Unit& unit : kUnits) {
    if (unit.name != unit_name) continue;
    if (value > static_cast<uint64_t>(std::numeric_limits<Nanos>::max() / unit.nanos)) {
      return Bad(text, "a duration of less than 292 years");
    }
    return static_cast<Nanos>(value) * unit.nanos;
  }
  return Bad(text, "a duration such as 500ms, 2s, 10m or 1h");
}

Result<std::vector<std::string>> ExpandBraces(const std::string& pattern) {
  size_t open = pattern.find('{');
  size_t close = pattern.find('}');
  if (open == pattern.npos && close == pattern.npos) return std::vector<std::string>{pattern};
  if (open == pattern.npos || close == pattern.npos || close < open) {
    return Bad(pattern, "a pattern: a brace is left alone");
  }
  PERIGEE_ASSIGN(Range range,
                 ParseRange(pattern, std::string_view(pattern).substr(open + 1, close - open - 1)));
  PERIGEE_ASSIGN(std::vector<std::string> rests, ExpandBraces(pattern.substr(close + 1)));
  if ((range.last - range.first + 1) * rests.size() > kExpandedMax)
    return Bad(pattern, "a pattern of at most 4096 names");
  std::vector<std::string> names;
  // By offset, because last + 1 may not exist.
  for (uint64_t i = 0; i <= range.last - range.first; ++i) {
    std::string number = std::to_string(range.first + i);
    if (number.size() < range.digits) number.insert(0, range.digits - number.size(), '0');
    for (const std::string& rest : rests) names.push_back(pattern.substr(0, open) + number + rest);
  }
  return names;
}

std::string FormatBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  double value = static_cast<double>(bytes);
  // 1023.95 would be shown as 1024.0.
  while (value >= 1023.95 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  std::string out = text;
  if (out.ends_with(".0")) out.resize(out.size() - 2);
  return out + " " + kUnits[unit];
}

Result<HostPort> ParseHostPort(std::string_view text) {
  constexpr std::string_view kWant = "an address such as 127.0.0.1:9000 or [::1]:9000";
  size_t colon = text.rfind(':');
  if (colon == text.npos) return Bad(text, kWant);
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']') && host.size() > 2) {
    host = host.substr(1, host.size() - 2);
    if (host.find(':') == host.npos || host.find_first_of("[]") != host.npos)
      return Bad(text, kWant);
  } else if (host.find_first_of(":[]") != host.npos) {
    return Bad(text, kWant);  // IPv6 is ambiguous without brackets
  }
  uint64_t port = 0;
  std::string_view digits = text.substr(colon + 1);
  if (host.empty() || host.find_first_of(" \t\r\n/") != host.npos || digits.size() > 5 ||
      !ParseNumber(digits, &port) || port > 65535) {
    return Bad(text, kWant);
  }
  return HostPort{std::string(host), static_cast<uint16_t>(port)};
}

}  // namespace perigee
