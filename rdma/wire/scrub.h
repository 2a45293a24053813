#pragma once
// Scrub: reading back what is stored and checking it, asked for by each daemon's 0600 socket.
// kControlObjectdScrub: the shards on the drives. kControlBufferdScrub: this node's burst files.

#include <string>
#include <vector>

#include "rdma/wire/codec.h"

namespace perigee::wire {

enum class ScrubAction : uint8_t { kStatus = 0, kStart = 1, kStop = 2 };

// -> ScrubReport. Start while a pass runs goes on with that pass, at the rate given.
struct ScrubRequest {
  ScrubAction action = ScrubAction::kStatus;
  uint64_t rate = 0;  // bytes a second; 0: the daemon's own
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.action);
    v(2, s.rate);
    v.Rest(s.unknown);
  }
};

// The pass that runs, or the last one. Times are wall ns.
struct ScrubReport {
  bool running = false;
  uint64_t rate = 0;
  int64_t started = 0;    // 0: there was none
  int64_t ended = 0;      // 0: it runs, or was stopped
  int64_t completed = 0;  // when the last whole pass ended; 0: never
  uint64_t checked = 0;   // shards, or burst files
  uint64_t bytes = 0, bytes_total = 0;
  uint64_t damaged = 0;               // found bad
  uint64_t mended = 0;                // of them whole again, or no longer needed
  uint64_t lost = 0;                  // of them beyond repair
  std::vector<std::string> findings;  // in words, the first 64
  Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.running);
    v(2, s.rate);
    v(3, s.started);
    v(4, s.ended);
    v(5, s.completed);
    v(6, s.checked);
    v(7, s.bytes);
    v(8, s.bytes_total);
    v(9, s.damaged);
    v(10, s.mended);
    v(11, s.lost);
    v(12, s.findings);
    v.Rest(s.unknown);
  }
};
inline constexpr size_t kScrubFindingsMax = 64;

}  // namespace perigee::wire
