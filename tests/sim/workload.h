#pragma once
// Workload: users of both GPU nodes and of the S3 door, each with keys of their own until the next
// look, and the faults that befall the cluster meanwhile; then looks, in peace, at what every door
// shows.

#include <string>
#include <vector>

#include "base/random.h"
#include "tests/sim/cluster.h"
#include "tests/sim/model.h"

namespace perigee::sim {

struct Faults {
  bool messages = false;    // lost, late, duplicated, and connections reset
  bool partitions = false;  // between any two hosts
  bool kills = false;       // of any process
  bool power = false;       // cuts: what was not synced is lost
  bool any() const { return messages || partitions || kills || power; }
};

class Workload {
 public:
  Workload(Cluster& cluster, uint64_t seed, Faults faults);
  // Forms the cluster, makes bucket and directories.
  void SetUp();
  // Users act while faults befall the cluster; afterwards it is whole again.
  void Round();
  // Every door shows the same, and it is what was acknowledged.
  void Look();
  // All content reaches the drives, which hold all of it and nothing else.
  void Settle();
  // What was seen that must not be.
  const std::vector<std::string>& deviations() const { return deviations_; }
  uint64_t acknowledged() const { return acknowledged_; }

 private:
  static constexpr size_t kDoors = 3;  // both GPU nodes, S3
  static constexpr char kBucket[] = "data";
  struct Rename {
    Key* from;
    Key* to;
    Content content;
  };

  void Act(size_t door, std::vector<Key*> keys, uint64_t seed);
  void Save(GpuNode& gpu, Key& key, Random& random);
  void Unpack(GpuNode& gpu, Random& random, std::vector<Key*>* mine);
  void Close(GpuNode& gpu, Key& key, const std::string& what, const wire::BurstOpenReply& open,
             const std::string& bytes, uint64_t sync);
  void Remove(GpuNode& gpu, Key& key);
  void Move(GpuNode& gpu, Key& from, Key& to);
  void Put(Key& key, Random& random);
  void Delete(Key& key);
  void Peek(size_t door, Key& key);
  Result<std::string> Read(size_t door, const Key& key);
  std::pair<wire::FileId, std::string> PlaceOf(const Key& key) const;
  std::string NewContent(Random& random);
  void Befall();
  void Disturb();
  void PowerWasCut(size_t host);
  void Mend();
  Result<Content> Settled(size_t door, const Key& key);
  void CheckListings();
  void Note(const std::string& who, const std::string& what, const Status& outcome);
  void Deviation(const std::string& text);
  bool Await(const std::string& what, Nanos time, const std::function<bool()>& holds);

  Cluster& cluster_;
  Random random_;
  const Faults faults_;
  std::vector<std::unique_ptr<Key>> keys_;
  std::vector<Rename> renames_;  // not answered since the last look
  std::map<std::string, wire::FileId> dirs_;
  std::vector<std::string> deviations_;
  uint64_t acknowledged_ = 0;
  size_t unpacked_ = 0;
  uint64_t reads_ = 0;
  size_t acting_ = 0;
  bool power_cut_ = false;  // since the last look
};

}  // namespace perigee::sim
