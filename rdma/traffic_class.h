#pragma once
// TrafficClass: what a call is for. Where calls or their bulk wait, a class goes before those below
// it, and one that has to wait long rises (rdma/class_queue.h).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace perigee::rdma {

// The numbers are those of the frames.
enum class TrafficClass : uint8_t {
  kCheckpoint = 1,  // a save, an fsync or a sync waits for it
  kForeground = 2,  // somebody waits for it
  kPrefetch = 3,    // somebody is likely to ask for it soon
  kFlush = 4,       // from the burst buffer to the drives
  kRepair = 5,      // repair, moves, scrub, fsck, collector
};
inline constexpr size_t kTrafficClasses = 5;

// 0 is that of kCheckpoint.
constexpr size_t IndexOf(TrafficClass traffic) { return static_cast<size_t>(traffic) - 1; }
constexpr TrafficClass TrafficClassAt(size_t index) { return static_cast<TrafficClass>(index + 1); }

// Whether nobody waits for it, so that it must leave room for the other classes.
constexpr bool IsBackground(TrafficClass traffic) { return traffic >= TrafficClass::kFlush; }

// Of `places`, how many background calls may take; at least one.
constexpr uint64_t BackgroundPlaces(uint64_t places) {
  return places < 2 ? places : places - (places + 7) / 8;
}

constexpr std::string_view NameOf(TrafficClass traffic) {
  constexpr std::string_view kNames[kTrafficClasses] = {"checkpoint", "foreground", "prefetch",
                                                        "flush", "repair"};
  return kNames[IndexOf(traffic)];
}

// As a frame says it; 0 (a peer that knows no classes) is kForeground. Nothing: not a class.
constexpr std::optional<TrafficClass> TrafficClassOf(uint32_t number) {
  if (number == 0) return TrafficClass::kForeground;
  if (number > kTrafficClasses) return std::nullopt;
  return static_cast<TrafficClass>(number);
}

}  // namespace perigee::rdma
