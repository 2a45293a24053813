#pragma once
// What the verbs print: JSON or text, tables, byte counts, progress bars. Main thread only.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "rdma/wire/control.h"

namespace perigee::cli {

inline constexpr int kExitDone = 0, kExitFailed = 1, kExitUsage = 2;

// Columns padded to their widest cell; the first row is the heading.
void PrintTable(const std::vector<std::vector<std::string>>& rows);
void PrintJson(const nlohmann::json& value);
// One line on stderr; the exit code: 2 for kInvalidArgument, else 1.
int Complain(const std::string& verb, const Status& status);

std::string Word(wire::Durability durability);  // "unsynced", "local", "partner", "object"
std::string Word(wire::LayoutKind kind);        // "inline", "blobs", "burst", "cold", "none"
std::string Word(wire::BurstState state);
std::string Word(wire::DriveState state);
std::string FormatTime(int64_t ns);  // "2026-11-21 10:00:00"

// A bar on stderr, on a terminal only; drawn after the first second.
class Progress {
 public:
  // Of `unit`, as "volumes"; "": of bytes.
  Progress(std::string what, uint64_t total, std::string unit = "");
  ~Progress();  // clears the line
  void Set(uint64_t done);

 private:
  std::string Amount(uint64_t n) const;

  std::string what_, unit_;
  uint64_t total_;
  int64_t started_, drawn_ = 0;
  bool terminal_;
};

}  // namespace perigee::cli
