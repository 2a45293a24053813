// perigee fsck: namespace, references, drives and burst buffer held against each other.

#include "rdma/wire/fsck.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/commands.h"
#include "cli/output.h"
#include "rdma/rpc.h"

namespace perigee::cli {

using nlohmann::json;
using wire::FsckCheck;
using wire::FsckFinding;

namespace {

constexpr rdma::CallOptions kPage{.timeout = 120 * kSecond, .traffic = rdma::TrafficClass::kRepair};
constexpr size_t kNamedPerCall = 10'000;
constexpr int kRoundsMax = 20;  // of mending: what lies deeper is found once what is above is whole
constexpr int kBetweenRoundsMs = 1000;

// Which check is at work, on a terminal.
class Ticker {
 public:
  ~Ticker() {
    if (drawn_) std::fprintf(stderr, "\r\033[K");
  }
  void Show(std::string_view check, uint64_t looked) {
    if (!terminal_) return;
    drawn_ = true;
    std::fprintf(stderr, "\r\033[Kchecking %.*s: %llu", static_cast<int>(check.size()),
                 check.data(), static_cast<unsigned long long>(looked));
    std::fflush(stderr);
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
  bool drawn_ = false;
};

struct Round {
  std::vector<FsckFinding> findings;
  std::set<std::string> notes;
  std::map<std::string, uint64_t> looked;
};

class Checker {
 public:
  Checker(Connections& connections, bool repair)
      : objectd_(connections.objectd()), bufferd_(connections.bufferd()), repair_(repair) {}

  Result<Round> Run() {
    Round round;
    named_.clear();
    for (auto i = static_cast<int>(wire::kFsckFirst); i <= static_cast<int>(wire::kFsckLast); ++i)
      PERIGEE_TRY(RunOne(static_cast<FsckCheck>(i), &round));
    PERIGEE_TRY(RunBurst(&round));
    return round;
  }

 private:
  Status RunOne(FsckCheck check, Round* round) {
    uint64_t& looked = round->looked[std::string(NameOf(check))];
    wire::FsckRequest q;
    q.check = check;
    q.repair = repair_;
    while (true) {
      auto reply =
          rdma::Call<wire::FsckReply>(*objectd_, wire::Method::kControlObjectdFsck, q, {}, kPage);
      if (!reply.ok()) return reply.status().With(std::string(NameOf(check)));
      looked += reply->looked;
      ticker_.Show(NameOf(check), looked);
      Take(&reply->findings, round);
      round->notes.insert(reply->notes.begin(), reply->notes.end());
      named_.insert(named_.end(), reply->bursts.begin(), reply->bursts.end());
      if (reply->end) return Status::Ok();
      q.cursor = reply->cursor;
    }
  }

  // What bufferd has and the namespace does not name, and the other way round.
  Status RunBurst(Round* round) {
    std::set<wire::BurstId> unrecorded;
    for (size_t at = 0; at == 0 || at < named_.size(); at += kNamedPerCall) {
      wire::BurstFsckRequest q;
      q.repair = repair_ && at == 0;
      const size_t end = std::min(at + kNamedPerCall, named_.size());
      q.named.assign(named_.begin() + static_cast<ptrdiff_t>(at),
                     named_.begin() + static_cast<ptrdiff_t>(end));
      PERIGEE_ASSIGN(auto reply, Ask(q, round));
      if (at > 0) continue;
      unrecorded.insert(reply.unrecorded.begin(), reply.unrecorded.end());
      for (const wire::NamedBurst& named : named_)
        if (named.node == reply.node) unrecorded.erase(named.burst);
    }
    if (unrecorded.empty()) return Status::Ok();
    if (repair_) {
      wire::BurstFsckRequest q;
      q.repair = true;
      q.unnamed.assign(unrecorded.begin(), unrecorded.end());
      return Ask(q, round).status();
    }
    for (wire::BurstId burst : unrecorded)
      round->findings.push_back({wire::FsckKind::kLeakedBurstFile,
                                 "burst file " + HexEncode64(burst) + ": has no record",
                                 "removes it",
                                 false,
                                 {}});
    return Status::Ok();
  }

  Result<wire::BurstFsckReply> Ask(const wire::BurstFsckRequest& q, Round* round) {
    ticker_.Show("burst store", round->looked["burst store"]);
    PERIGEE_ASSIGN(auto reply, rdma::Call<wire::BurstFsckReply>(
                                   *bufferd_, wire::Method::kControlBufferdFsck, q, {}, kPage));
    round->looked["burst store"] = reply.looked;
    Take(&reply.findings, round);
    return reply;
  }

  static void Take(std::vector<FsckFinding>* from, Round* round) {
    for (FsckFinding& finding : *from) round->findings.push_back(std::move(finding));
  }

  const std::shared_ptr<rdma::Channel> objectd_, bufferd_;
  const bool repair_;
  std::vector<wire::NamedBurst> named_;
  Ticker ticker_;
};

json ToJson(const std::vector<FsckFinding>& findings) {
  json out = json::array();
  for (const FsckFinding& f : findings)
    out.push_back({{"kind", NameOf(f.kind)}, {"what", f.what}, {"remedy", f.remedy}});
  return out;
}

void Print(const std::vector<FsckFinding>& findings, bool done) {
  for (const FsckFinding& f : findings) {
    std::cout << NameOf(f.kind) << "  " << f.what << "\n"
              << (done               ? "    mended: " + f.remedy
                  : f.remedy.empty() ? std::string("    no repair: write or restore the content")
                                     : "    --repair: " + f.remedy)
              << "\n";
  }
}

// The findings of the last round are what is left; of those before, what was mended.
struct Outcome {
  std::vector<FsckFinding> mended, left;
  std::set<std::string> notes;
  std::map<std::string, uint64_t> looked;
};

Result<Outcome> CheckAll(Connections& connections, bool repair) {
  Outcome outcome;
  Checker checker(connections, repair);
  std::map<std::string, FsckFinding> mended;
  for (int i = 0; i < kRoundsMax; ++i) {
    if (i > 0) (void)::poll(nullptr, 0, kBetweenRoundsMs);
    PERIGEE_ASSIGN(Round round, checker.Run());
    outcome.looked = std::move(round.looked);
    outcome.notes = std::move(round.notes);
    outcome.left = std::move(round.findings);
    bool again = false;
    for (const FsckFinding& f : outcome.left) {
      again = again || f.mended;
      if (f.mended) mended[f.what] = f;
    }
    if (!again) break;
  }
  for (const FsckFinding& f : outcome.left) mended.erase(f.what);
  for (auto& [what, finding] : mended) outcome.mended.push_back(std::move(finding));
  return outcome;
}

}  // namespace

int RunFsck(int argc, char** argv) {
  Verb v("fsck",
         "Holds the namespace, the references of blobs, the drives and the burst buffer against "
         "each other while everything runs, and prints what does not agree and what --repair would "
         "do about it. Changes nothing without --repair. Exits 0 when all agree (with --repair: "
         "when all was mended), else 1. Contents are checked by `perigee scrub`.");
  bool repair = false;
  v.options.AddFlag("repair", &repair, "mend what can be mended");
  v.options.SetExamples("  perigee fsck\n  perigee fsck --repair\n  perigee fsck --json\n");
  if (!v.Start(argc, argv)) return v.exit_code;
  auto outcome = CheckAll(*v.connections, repair);
  if (!outcome.ok()) return v.Fail(outcome.status());
  if (v.json) {
    PrintJson({{"clean", outcome->left.empty()},
               {"looked", outcome->looked},
               {"mended", ToJson(outcome->mended)},
               {"found", ToJson(outcome->left)},
               {"notes", outcome->notes}});
  } else {
    Print(outcome->mended, true);
    Print(outcome->left, false);
    for (const std::string& note : outcome->notes) std::cout << "not checked: " << note << "\n";
    uint64_t looked = 0;
    for (const auto& [check, n] : outcome->looked) looked += n;
    std::cout << "looked at " << looked << " rows, shards and files: ";
    if (!outcome->mended.empty()) std::cout << outcome->mended.size() << " mended, ";
    if (outcome->left.empty())
      std::cout << "everything agrees\n";
    else
      std::cout << outcome->left.size() << (repair ? " left\n" : " found\n");
  }
  return outcome->left.empty() ? kExitDone : kExitFailed;
}

}  // namespace perigee::cli
