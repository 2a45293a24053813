#include "base/failpoint.h"

#ifdef PERIGEE_FAILPOINTS

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <mutex>

#include "base/event.h"

namespace perigee::failpoint {
namespace {

constexpr auto kCount = static_cast<size_t>(Id::kCount);
constexpr std::array<std::string_view, kCount> kNames = {
#define PERIGEE_DECLARE_FAILPOINT(name) #name,
#include "base/failpoints.def"
#undef PERIGEE_DECLARE_FAILPOINT
};

struct Armed {
  enum class Action { kKill, kError, kDelay };
  size_t index = 0;
  Action action = Action::kKill;
  uint64_t delay_ms = 0;
  uint64_t at = 1;  // which hit since it was armed; 0: every one
  uint64_t seen = 0;
};

// Process-wide by nature: failpoints are places in the code.
std::array<std::atomic<uint64_t>, kCount> g_hits{};
std::atomic<bool> g_any_armed{false};
std::mutex g_mu;  // guards g_armed
std::vector<Armed> g_armed;

Status Bad(std::string_view item, std::string_view why) {
  return Status(Code::kInvalidArgument,
                "failpoint '" + std::string(item) + "': " + std::string(why));
}

bool ParseNumber(std::string_view text, uint64_t* out) {
  auto [end, err] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return err == std::errc() && end == text.data() + text.size();
}

// name=action[@n]
Result<Armed> ParseItem(std::string_view item) {
  size_t eq = item.find('=');
  if (eq == item.npos) return Bad(item, "want name=action[@n]");
  std::string_view name = item.substr(0, eq);
  std::string_view action = item.substr(eq + 1);
  Armed armed;
  while (armed.index < kCount && kNames[armed.index] != name) ++armed.index;
  if (armed.index == kCount) return Bad(item, "no failpoint of that name");
  if (size_t at = action.find('@'); at != action.npos) {
    std::string_view n = action.substr(at + 1);
    if (n == "*") {
      armed.at = 0;
    } else if (!ParseNumber(n, &armed.at) || armed.at == 0) {
      return Bad(item, "the count after @ is a number from 1, or *");
    }
    action = action.substr(0, at);
  }
  constexpr std::string_view kDelay = "delay:";
  if (action == "kill") {
    armed.action = Armed::Action::kKill;
  } else if (action == "error") {
    armed.action = Armed::Action::kError;
  } else if (action.starts_with(kDelay) &&
             ParseNumber(action.substr(kDelay.size()), &armed.delay_ms)) {
    armed.action = Armed::Action::kDelay;
  } else {
    return Bad(item, "the action is kill, error or delay:MS");
  }
  return armed;
}

// What this hit of `index` does, if anything.
bool Due(size_t index, Armed* out) {
  std::lock_guard lock(g_mu);
  bool due = false;
  for (Armed& armed : g_armed) {
    if (armed.index != index) continue;
    ++armed.seen;
    if (due || (armed.at != 0 && armed.seen != armed.at)) continue;
    due = true;
    *out = armed;
  }
  return due;
}

}  // namespace

Status Hit(Id id) {
  auto index = static_cast<size_t>(id);
  g_hits[index].fetch_add(1, std::memory_order_relaxed);
  if (!g_any_armed.load(std::memory_order_acquire)) return Status::Ok();
  Armed armed;
  if (!Due(index, &armed)) return Status::Ok();
  switch (armed.action) {
    case Armed::Action::kKill:
      kill(getpid(), SIGKILL);
      for (;;) pause();  // the signal may reach another thread first
    case Armed::Action::kError:
      return Status(Code::kIo, "injected by failpoint " + std::string(kNames[index]));
    case Armed::Action::kDelay:
      // An event nobody sets: waits in manual time where that governs.
      Event().WaitFor(static_cast<Nanos>(armed.delay_ms) * kMillisecond);
      return Status::Ok();
  }
  return Status::Ok();
}

Status Arm(std::string_view spec) {
  std::vector<Armed> parsed;
  while (!spec.empty()) {
    size_t comma = std::min(spec.find(','), spec.size());
    PERIGEE_ASSIGN(Armed armed, ParseItem(spec.substr(0, comma)));
    parsed.push_back(armed);
    spec.remove_prefix(std::min(comma + 1, spec.size()));
  }
  std::lock_guard lock(g_mu);
  g_armed.insert(g_armed.end(), parsed.begin(), parsed.end());
  g_any_armed.store(!g_armed.empty(), std::memory_order_release);
  return Status::Ok();
}

Status ArmFromEnvironment() {
  const char* spec = std::getenv("PERIGEE_FAILPOINTS");
  if (spec == nullptr) return Status::Ok();
  return Arm(spec).With("PERIGEE_FAILPOINTS");
}

void DisarmAll() {
  std::lock_guard lock(g_mu);
  g_armed.clear();
  g_any_armed.store(false, std::memory_order_release);
}

uint64_t Hits(Id id) { return g_hits[static_cast<size_t>(id)].load(std::memory_order_relaxed); }

std::vector<std::string> Names() { return {kNames.begin(), kNames.end()}; }

}  // namespace perigee::failpoint

#endif  // PERIGEE_FAILPOINTS
