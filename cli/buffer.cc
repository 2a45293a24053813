// perigee flush, evict, warm, pin: what is in this node's burst buffer.

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/output.h"
#include "client/buffer/burst_session.h"
#include "rdma/rpc.h"
#include "rdma/wire/control.h"

namespace perigee::cli {

using nlohmann::json;

namespace {

constexpr Nanos kWait = 3600 * kSecond;

// Whether files that are left mean that the verb did not do its work.
enum class Leftovers { kFailure, kExpected };

struct BufferVerb : Verb {
  BufferVerb(const std::string& verb, const std::string& summary) : Verb(verb, summary) {
    options.AddPositional(&targets, "OBJECT", 0, 0);
  }

  // One call per target (none: everything), added up; prints the sum.
  // With `moved_counters`, also what bufferd has moved meanwhile, by those of its counters.
  template <class CallFn>
  int RunAll(wire::BurstTarget target, const std::string& done_word, CallFn call,
             Leftovers leftovers = Leftovers::kFailure,
             const std::vector<std::string>& moved_counters = {}) {
    auto session = client::BurstSession::Over(connections->bufferd());
    uint64_t moved_before = Sum(moved_counters);
    if (targets.empty()) targets.push_back("");
    uint64_t files = 0, bytes = 0, left = 0;
    std::vector<std::string> reasons;
    Nanos begin = RealClock::Get().Monotonic();
    for (const auto& t : targets) {
      target.path = t.empty() ? "" : ObjectPath(state, t);
      auto reply = call(*session, target);
      if (!reply.ok()) return Fail(reply.status().With(t.empty() ? "everything" : t));
      files += reply->files;
      bytes += reply->bytes;
      left += reply->left;
      reasons.insert(reasons.end(), reply->reasons.begin(), reply->reasons.end());
    }
    double seconds = static_cast<double>(RealClock::Get().Monotonic() - begin) / kSecond;
    uint64_t moved = Sum(moved_counters) - moved_before;
    if (json) {
      PrintJson({{"files", files},
                 {"bytes", bytes},
                 {"moved_bytes", moved},
                 {"left", left},
                 {"reasons", reasons},
                 {"seconds", seconds}});
    } else {
      std::cout << done_word << " " << files << " files, " << FormatBytes(bytes);
      if (moved > 0)
        std::cout << " (" << FormatBytes(moved) << " moved, "
                  << static_cast<uint64_t>(static_cast<double>(moved) / seconds / 1e6) << " MB/s)";
      if (left > 0) std::cout << "; " << left << " left";
      std::cout << "\n";
      for (const auto& r : reasons) std::cout << "  " << r << "\n";
    }
    return left == 0 || leftovers == Leftovers::kExpected ? kExitDone : kExitFailed;
  }

  std::vector<std::string> targets;

 private:
  uint64_t Sum(const std::vector<std::string>& counters) {
    if (counters.empty()) return 0;
    auto status = rdma::Call<wire::BufferdStatusReply>(
        *connections->bufferd(), wire::Method::kControlBufferdStatus, wire::Empty{}, {}, {});
    uint64_t sum = 0;
    if (!status.ok()) return sum;  // the figure is a courtesy
    for (const wire::NamedCount& c : status->counters)
      if (std::find(counters.begin(), counters.end(), c.name) != counters.end()) sum += c.value;
    return sum;
  }
};

}  // namespace

int RunFlush(int argc, char** argv) {
  BufferVerb v("flush", "Copies to the object tier what is only in this node's burst buffer.");
  bool wait = false, hold = false, resume = false;
  v.options.AddFlag("wait", &wait, "return when it is there");
  v.options.AddFlag("hold", &hold, "stop flushing in the background until --resume");
  v.options.AddFlag("resume", &resume, "flush in the background again");
  v.options.SetExamples("  perigee flush --wait data/run7/\n  perigee flush --hold\n");
  if (!v.Start(argc, argv)) return v.exit_code;
  if (hold || resume) {
    if (hold && resume)
      return v.Fail(Status(Code::kInvalidArgument, "--hold and --resume: give one of them"));
    if (!v.targets.empty() || wait)
      return v.Fail(Status(Code::kInvalidArgument, "--hold and --resume take nothing else"));
    wire::BurstTarget target;
    target.on = hold;
    return v.RunAll(
        target, hold ? "held; waiting:" : "resumed; waiting:",
        [](client::BurstSession& session, const wire::BurstTarget& t) { return session.Hold(t); },
        Leftovers::kExpected);
  }
  wire::BurstTarget target;
  target.wait = wait;
  target.timeout_ms = static_cast<uint32_t>(kWait / kMillisecond);
  return v.RunAll(target, wait ? "flushed" : "queued",
                  [](client::BurstSession& s, const wire::BurstTarget& t) { return s.Flush(t); },
                  wait ? Leftovers::kFailure : Leftovers::kExpected, {"bytes_flushed"});
}

int RunEvict(int argc, char** argv) {
  BufferVerb v(
      "evict",
      "Drops the local copies of objects that the object tier has. Reads fetch them again.");
  v.options.SetExamples(
      "  perigee evict              everything that may go\n  perigee evict data/run7/\n");
  if (!v.Start(argc, argv)) return v.exit_code;
  // Asked for everything, some of it is always too new to go.
  return v.RunAll(
      {}, "evicted", [](client::BurstSession& s, const wire::BurstTarget& t) { return s.Evict(t); },
      v.targets.empty() ? Leftovers::kExpected : Leftovers::kFailure);
}

int RunWarm(int argc, char** argv) {
  BufferVerb v("warm", "Brings objects from the object tier into this node's burst buffer.");
  bool wait = false;
  v.options.AddFlag("wait", &wait, "return when they are there");
  v.options.SetExamples("  perigee warm --wait data/epoch/\n");
  if (!v.Start(argc, argv)) return v.exit_code;
  if (v.targets.empty())
    return v.Fail(Status(Code::kInvalidArgument, "which objects? perigee warm OBJECT..."));
  wire::BurstTarget target;
  target.wait = wait;
  target.timeout_ms = static_cast<uint32_t>(kWait / kMillisecond);
  return v.RunAll(target, wait ? "warmed" : "queued",
                  [](client::BurstSession& s, const wire::BurstTarget& t) { return s.Warm(t); },
                  wait ? Leftovers::kFailure : Leftovers::kExpected,
                  {"bytes_filled_blobs", "bytes_filled_inline", "bytes_filled_peer"});
}

int RunPin(int argc, char** argv) {
  BufferVerb v("pin", "Keeps objects in this node's burst buffer: they are not evicted.");
  bool off = false;
  v.options.AddFlag("off", &off, "let them go again");
  v.options.SetExamples("  perigee pin data/base-model/\n  perigee pin --off data/base-model/\n");
  if (!v.Start(argc, argv)) return v.exit_code;
  if (v.targets.empty())
    return v.Fail(Status(Code::kInvalidArgument, "which objects? perigee pin OBJECT..."));
  wire::BurstTarget target;
  target.on = !off;
  return v.RunAll(target, off ? "unpinned" : "pinned",
                  [](client::BurstSession& s, const wire::BurstTarget& t) { return s.Pin(t); });
}

}  // namespace perigee::cli
