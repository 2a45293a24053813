// perigee scrub: everything stored is read back and checked, on the drives and in the burst buffer.

#include "rdma/wire/scrub.h"

#include <poll.h>

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/output.h"
#include "rdma/rpc.h"

namespace perigee::cli {

using nlohmann::json;
using wire::ScrubAction;

namespace {

constexpr rdma::CallOptions kSoon{.timeout = 30 * kSecond};
constexpr int kLookEveryMs = 200;

struct Tier {
  const char* name;
  const char* unit;
  std::shared_ptr<rdma::Channel> channel;
  wire::Method method;
  wire::ScrubReport report;
};

json ToJson(const wire::ScrubReport& r) {
  return {{"running", r.running},     {"rate", r.rate},
          {"started", r.started},     {"ended", r.ended},
          {"completed", r.completed}, {"checked", r.checked},
          {"bytes", r.bytes},         {"bytes_total", r.bytes_total},
          {"damaged", r.damaged},     {"mended", r.mended},
          {"lost", r.lost},           {"findings", r.findings}};
}

void Print(const Tier& tier) {
  const wire::ScrubReport& r = tier.report;
  std::cout << tier.name << "  ";
  if (r.started == 0) {
    std::cout << "never scrubbed\n";
    return;
  }
  if (r.running)
    std::cout << "running since " << FormatTime(r.started) << " at " << FormatBytes(r.rate)
              << "/s, " << FormatBytes(r.bytes) << " of " << FormatBytes(r.bytes_total);
  else
    std::cout << (r.ended != 0 ? "ended " + FormatTime(r.ended)
                               : "stopped; began " + FormatTime(r.started));
  std::cout << ": " << r.checked << " " << tier.unit << ", " << FormatBytes(r.bytes);
  if (r.damaged == 0)
    std::cout << ", nothing wrong\n";
  else
    std::cout << "; " << r.damaged << " damaged, " << r.mended << " mended, " << r.lost
              << " LOST\n";
  for (const std::string& finding : r.findings) std::cout << "  " << finding << "\n";
  if (r.damaged > r.findings.size())
    std::cout << "  and " << r.damaged - r.findings.size() << " more: see the daemon's log\n";
}

Status Ask(Tier* tier, ScrubAction action, uint64_t rate) {
  wire::ScrubRequest q;
  q.action = action;
  q.rate = rate;
  auto reply = rdma::Call<wire::ScrubReport>(*tier->channel, tier->method, q, {}, kSoon);
  if (!reply.ok()) return reply.status().With(tier->name);
  tier->report = std::move(*reply);
  return Status::Ok();
}

Status AskAll(std::vector<Tier>* tiers, ScrubAction action, uint64_t rate = 0) {
  for (Tier& tier : *tiers) PERIGEE_TRY(Ask(&tier, action, rate));
  return Status::Ok();
}

bool Running(const std::vector<Tier>& tiers) {
  return std::any_of(tiers.begin(), tiers.end(), [](const Tier& t) { return t.report.running; });
}

Status WaitForEnd(std::vector<Tier>* tiers) {
  uint64_t total = 0;
  for (const Tier& tier : *tiers) total += tier.report.bytes_total;
  Progress progress("scrubbing", total);
  while (Running(*tiers)) {
    (void)::poll(nullptr, 0, kLookEveryMs);
    PERIGEE_TRY(AskAll(tiers, ScrubAction::kStatus));
    uint64_t done = 0;
    for (const Tier& tier : *tiers) done += tier.report.bytes;
    progress.Set(done);
  }
  return Status::Ok();
}

}  // namespace

int RunScrub(int argc, char** argv) {
  Verb v("scrub",
         "Reads every shard on the drives and every burst file back and checks it; what is bad is "
         "rebuilt or fetched again. Waits for the end, and exits 1 when damage is left that could "
         "not be mended. `start` returns at once; `status` and `stop` are about the pass that "
         "runs. The daemons also scrub by themselves, once a week (--scrub-interval).");
  std::vector<std::string> words;
  uint64_t rate = 0;
  v.options.AddPositional(&words, "start | status | stop", 0, 1);
  v.options.AddBytes("rate", &rate, "bytes a second that each daemon reads (0: its --scrub-rate)");
  v.options.SetExamples(
      "  perigee scrub --rate 500M\n  perigee scrub start\n  perigee scrub status --json\n");
  if (!v.Start(argc, argv)) return v.exit_code;
  const std::string word = words.empty() ? "" : words[0];
  if (word != "" && word != "start" && word != "status" && word != "stop")
    return v.Fail(Status(Code::kInvalidArgument, "start, status, stop, or nothing"));
  std::vector<Tier> tiers = {
      {"drives      ", "shards", v.connections->objectd(), wire::Method::kControlObjectdScrub, {}},
      {"burst buffer", "files", v.connections->bufferd(), wire::Method::kControlBufferdScrub, {}}};
  const ScrubAction action = word == "status" ? ScrubAction::kStatus
                             : word == "stop" ? ScrubAction::kStop
                                              : ScrubAction::kStart;
  Status done = AskAll(&tiers, action, rate);
  if (done.ok() && word.empty()) done = WaitForEnd(&tiers);
  if (!done.ok()) return v.Fail(done);
  uint64_t lost = 0;
  for (const Tier& tier : tiers) lost += tier.report.lost;
  if (v.json) {
    PrintJson({{"objectd", ToJson(tiers[0].report)}, {"bufferd", ToJson(tiers[1].report)}});
  } else {
    for (const Tier& tier : tiers) Print(tier);
  }
  return lost == 0 ? kExitDone : kExitFailed;
}

}  // namespace perigee::cli
