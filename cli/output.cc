#include "cli/output.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/options.h"

namespace perigee::cli {

void PrintTable(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
    }
    std::cout << line << '\n';
  }
}

void PrintJson(const nlohmann::json& value) {
  std::cout << value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
}

int Complain(const std::string& verb, const Status& status) {
  std::cerr << "perigee " << verb << ": " << status.message() << std::endl;
  return status.Is(Code::kInvalidArgument) ? kExitUsage : kExitFailed;
}

std::string Word(wire::Durability d) {
  switch (d) {
    case wire::Durability::kUnsynced:
      return "unsynced";
    case wire::Durability::kLocal:
      return "local";
    case wire::Durability::kPartner:
      return "partner";
    case wire::Durability::kObject:
      return "object";
  }
  return "unknown";
}

std::string Word(wire::LayoutKind k) {
  switch (k) {
    case wire::LayoutKind::kNone:
      return "none";
    case wire::LayoutKind::kInline:
      return "inline";
    case wire::LayoutKind::kBlobs:
      return "blobs";
    case wire::LayoutKind::kBurst:
      return "burst";
    case wire::LayoutKind::kCold:
      return "cold";
  }
  return "unknown";
}

std::string Word(wire::BurstState s) {
  switch (s) {
    case wire::BurstState::kAbsent:
      return "absent";
    case wire::BurstState::kWriting:
      return "writing";
    case wire::BurstState::kPublished:
      return "published";
    case wire::BurstState::kSealed:
      return "sealed";
    case wire::BurstState::kFlushing:
      return "flushing";
    case wire::BurstState::kClean:
      return "clean";
  }
  return "unknown";
}

std::string Word(wire::DriveState s) { return std::string(NameOf(s)); }

std::string FormatTime(int64_t ns) {
  time_t s = ns / kSecond;
  tm parts;
  localtime_r(&s, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

Progress::Progress(std::string what, uint64_t total, std::string unit)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(std::max<uint64_t>(total, 1)),
      started_(RealClock::Get().Monotonic()),
      terminal_(isatty(STDERR_FILENO)) {}

Progress::~Progress() {
  if (drawn_ != 0) std::fprintf(stderr, "\r\033[K");
}

std::string Progress::Amount(uint64_t n) const {
  return unit_.empty() ? FormatBytes(n) : std::to_string(n);
}

void Progress::Set(uint64_t done) {
  Nanos now = RealClock::Get().Monotonic();
  if (!terminal_ || now - started_ < kSecond || now - drawn_ < 100 * kMillisecond) return;
  drawn_ = now;
  constexpr int kWidth = 30;
  done = std::min(done, total_);
  auto filled = static_cast<int>(done * kWidth / total_);
  std::fprintf(stderr, "\r\033[K%s [%.*s%*s] %3d%%  %s of %s %s", what_.c_str(), filled,
               "##############################", kWidth - filled, "",
               static_cast<int>(done * 100 / total_), Amount(done).c_str(), Amount(total_).c_str(),
               unit_.c_str());
  std::fflush(stderr);
}

}  // namespace perigee::cli
