#pragma once
// Structured logging, over spdlog. One line an event: time, level, daemon, event name, fields.
//
//   log::Info("drive_lost", {{"dir", dir}, {"drive", id}, {"remedy", "perigee drive replace " +
//   dir}});
//
// Event names are snake_case and stable (operators grep for them). Never log secrets. Thread-safe.

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "base/status.h"

namespace perigee::log {

enum class Level { kDebug, kInfo, kWarn, kError };
enum class Format { kText, kJson };

struct Field {
  std::string key;
  std::string value;
  Field(std::string_view k, std::string_view v) : key(k), value(v) {}
  Field(std::string_view k, const char* v) : key(k), value(v) {}
  Field(std::string_view k, const std::string& v) : key(k), value(v) {}
  Field(std::string_view k, const Status& s) : key(k), value(s.ToString()) {}
  template <class T>
  requires std::is_arithmetic_v<T> Field(std::string_view k, T v)
      : key(k), value(std::to_string(v)) {}
};
using Fields = std::initializer_list<Field>;

// Once, at start. Lines go to stderr until then and after. `daemon` names this process in each
// line.
void Configure(std::string_view daemon, Level least, Format format);
void Write(Level level, std::string_view event, Fields fields);
inline void Debug(std::string_view e, Fields f = {}) { Write(Level::kDebug, e, f); }
inline void Info(std::string_view e, Fields f = {}) { Write(Level::kInfo, e, f); }
inline void Warn(std::string_view e, Fields f = {}) { Write(Level::kWarn, e, f); }
inline void Error(std::string_view e, Fields f = {}) { Write(Level::kError, e, f); }

}  // namespace perigee::log
