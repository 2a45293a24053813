#pragma once
// BurstRecord: what bufferd remembers of one burst file across restarts. Stored in the index,
// framed and checked; docs/formats/burst-record.md.
//
//   frame = "PBR1" | u32 crc32c of body | body (protobuf, the field numbers below)
//   crcs  = "PBC1" | u32 crc32c of body | body (BurstCrcs)
// An unknown magic is kUnimplemented (written by a newer build), a wrong crc kCorrupt.

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "rdma/wire/burst.h"

namespace perigee::bufferd {

// Where the committed content of the record's generation is, besides in the burst file itself.
enum class Home : uint8_t {
  kNone = 0,    // nothing is published from this file
  kBurst = 1,   // only here
  kInline = 2,  // in the namespace; safe once durability is kObject
  kBlobs = 3,   // in the object tier
  kPeer = 4,    // in another node's burst buffer
};

struct BurstRecord {
  wire::BurstId burst = 0;
  wire::FileId id = 0;             // 0: the name is being created
  uint32_t dir = 0;                // of the store
  uint64_t generation = 0;         // that the file holds as published or fetched; 0: none
  uint64_t writer_generation = 0;  // of the next publish
  wire::BurstState state = wire::BurstState::kAbsent;
  wire::Durability durability = wire::Durability::kUnsynced;
  Home home = Home::kNone;
  uint64_t size = 0;               // of that generation
  int64_t mtime = 0, ctime = 0;    // of the file when it was exactly that generation
  uint64_t synced_generation = 0;  // newest whose bytes were synced in this file; 0: never
  bool writing =
      false;  // the namespace's writer is this file: bytes may be newer than `generation`
  bool registered = false;  // the namespace is known to have committed `generation`
  bool pinned = false;
  int64_t accessed = 0;            // wall ns
  std::string boot;                // boot id under which unsynced state is still true
  std::vector<uint64_t> resident;  // begin, end, begin, end … of a copy that is not whole
  bool whole = false;              // all of [0, size) is resident
  bool resident_synced = false;    // and survives power loss
  uint64_t parent = 0;             // while id is 0
  std::string name;
  uint32_t inline_crc = 0;  // kInline: of the bytes that were published
  wire::Unknown unknown;

  // The same content, by another number.
  void Renumber(uint64_t number) {
    if (synced_generation == generation) synced_generation = number;
    generation = number;
  }
  // Of this boot, or synced before the one in between.
  bool SurvivedAsClosed(const std::string& boot_now) const {
    return boot == boot_now || (generation != 0 && synced_generation == generation);
  }
  // The same of all its bytes, those of a copy included.
  bool SurvivedWhole(const std::string& boot_now) const {
    return boot == boot_now || resident_synced || (synced_generation == generation && !writing);
  }

  static void Fields(auto& s, auto& v) {
    v(1, s.burst);
    v(2, s.id);
    v(3, s.dir);
    v(4, s.generation);
    v(5, s.writer_generation);
    v(6, s.state);
    v(7, s.durability);
    v(8, s.home);
    v(9, s.size);
    v(10, s.mtime);
    v(11, s.ctime);
    v(12, s.synced_generation);
    v(13, s.writing);
    v(14, s.registered);
    v(15, s.pinned);
    v(16, s.accessed);
    v(17, s.boot);
    v(18, s.resident);
    v(19, s.whole);
    v(20, s.resident_synced);
    v(21, s.parent);
    v(22, s.name);
    v(23, s.inline_crc);
    v.Rest(s.unknown);
  }
};

inline constexpr uint64_t kCrcBlockBytes = 1 << 20;

// crc32c of each kCrcBlockBytes of a sealed file, the last block shorter.
struct BurstCrcs {
  uint64_t generation = 0;
  uint64_t size = 0;
  std::vector<uint32_t> crcs;
  wire::Unknown unknown;
  static void Fields(auto& s, auto& v) {
    v(1, s.generation);
    v(2, s.size);
    v(3, s.crcs);
    v.Rest(s.unknown);
  }
};

std::string EncodeRecord(const BurstRecord& record);
Result<BurstRecord> DecodeRecord(std::string_view stored);
std::string EncodeCrcs(const BurstCrcs& crcs);
Result<BurstCrcs> DecodeCrcs(std::string_view stored);

}  // namespace perigee::bufferd
