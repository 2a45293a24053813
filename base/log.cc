#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/clock.h"

namespace perigee::log {
namespace {

constexpr std::string_view kLevelNames[] = {"debug", "info", "warn", "error"};

struct State {
  std::mutex mu;  // guards the three below
  std::string daemon = "perigee";
  Level least = Level::kInfo;
  Format format = Format::kText;
  spdlog::logger logger{"perigee", std::make_shared<spdlog::sinks::stderr_sink_mt>()};
  State() {
    logger.set_pattern("%v");
    logger.set_level(spdlog::level::trace);
    logger.flush_on(spdlog::level::trace);
  }
};

// Never destroyed: threads may log while the process exits.
State& GetState() {
  static State* state = new State;
  return *state;
}

// RFC 3339, UTC, milliseconds.
std::string Timestamp() {
  Nanos now = RealClock::Get().Wall();
  time_t seconds = now / kSecond;
  tm parts;
  gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     now % kSecond / kMillisecond);
}

// As a JSON string; bytes that are not UTF-8 become U+FFFD, so that a line is valid whatever it
// names.
std::string Quoted(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string TextValue(std::string_view value) {
  bool plain = !value.empty() && std::all_of(value.begin(), value.end(), [](unsigned char c) {
    return c > ' ' && c < 0x7f && c != '"' && c != '=' && c != '\\';
  });
  return plain ? std::string(value) : Quoted(value);
}

}  // namespace

void Configure(std::string_view daemon, Level least, Format format) {
  State& state = GetState();
  std::lock_guard lock(state.mu);
  state.daemon = daemon;
  state.least = least;
  state.format = format;
}

void Write(Level level, std::string_view event, Fields fields) {
  State& state = GetState();
  std::string daemon;
  Format format;
  {
    std::lock_guard lock(state.mu);
    if (level < state.least) return;
    daemon = state.daemon;
    format = state.format;
  }
  std::string_view level_name = kLevelNames[static_cast<size_t>(level)];
  std::string line;
  if (format == Format::kJson) {
    line = fmt::format(R"({{"time":"{}","level":"{}","daemon":{},"event":{})", Timestamp(),
                       level_name, Quoted(daemon), Quoted(event));
    for (const Field& f : fields) line += "," + Quoted(f.key) + ":" + Quoted(f.value);
    line += "}";
  } else {
    line = fmt::format("{} {} {} {}", Timestamp(), level_name, daemon, event);
    for (const Field& f : fields) line += " " + f.key + "=" + TextValue(f.value);
  }
  state.logger.info(std::string_view(line));
}

}  // namespace perigee::log
