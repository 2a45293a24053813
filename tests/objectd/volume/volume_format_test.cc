#include "base/bytes.h"
#include "objectd/volume/cluster_file.h"
#include "objectd/volume/reference_keys.h"
#include "objectd/volume/volume_layout.h"
#include "objectd/volume/volume_records.h"
#include "tests/objectd/volume/volume_fixture.h"

namespace perigee::objectd {

namespace {
std::vector<PlacedDrive> OnOneNode(const std::vector<uint64_t>& ids) {
  std::vector<PlacedDrive> drives;
  for (uint64_t id : ids) drives.push_back({id, 0});
  return drives;
}
}  // namespace

TEST_CASE("keys and values have the bytes that the format page shows") {
  CHECK(HexEncode(IntentKey(0x0102)) == "4e0000000000000102");
  IntentRow intent;
  intent.volume = 3;
  intent.first_seq = 9;
  intent.count = 2;
  intent.expires = 5;
  intent.node = 1;
  CHECK(HexEncode(IntentValue(intent)) ==
        "08031009"
        "1802"
        "200a"
        "2801");
  CHECK(HexEncode(ReferenceKey(7, 8, {9, 10})) ==
        "52"
        "00000007"
        "0000000000000008"
        "0000000000000009"
        "000000000000000a");
  CHECK(HexEncode(ListHeadKey(5)) == "4c0000000000000005");
  CHECK(HexEncode(ListExtentKey(5, 6)) == "4c00000000000000050000000000000006");
  GarbageKey garbage;
  garbage.time = 0x10;
  garbage.volume = 2;
  garbage.first = 3;
  garbage.owner = {4, 5};
  CHECK(HexEncode(EncodeGarbageKey(garbage)) ==
        "47"
        "0000000000000010"
        "01"
        "00000002"
        "0000000000000003"
        "0000000000000004"
        "0000000000000005");
  GarbageRow row;
  row.count = 6;
  CHECK(HexEncode(GarbageValue(row)) == "0806");
  CHECK(HexEncode(SequenceCounterKey(1)) == "560000000173");
  CHECK(HexEncode(VolumeKey(1)) == "5600000001");
  CHECK(HexEncode(DriveKey(1)) == "760000000000000001");
  VolumeRecord volume;
  volume.volume = 1;
  volume.k = 2;
  volume.m = 1;
  volume.drives = {5, 6, 7};
  volume.epoch = 4;
  CHECK(HexEncode(wire::Encode(volume)) ==
        "0801"
        "1002"
        "1801"
        "2203050607"
        "2804");
}

TEST_CASE("keys read back and malformed ones are refused") {
  auto garbage = DecodeGarbageKey(EncodeGarbageKey({17, GarbageKind::kList, 0, 99, {}}));
  REQUIRE(garbage.ok());
  CHECK(garbage->kind == GarbageKind::kList);
  CHECK(garbage->first == 99);
  CHECK(garbage->time == 17);
  auto reference = DecodeReferenceKey(ReferenceKey(1, 2, ListOwner(3)));
  REQUIRE(reference.ok());
  CHECK(reference->owner.generation == ~uint64_t{0});
  for (std::string_view bad : {"", "R", "Nxxxxxxxx1", "G0000000000000000000000000000000000000"}) {
    CHECK_FALSE(DecodeReferenceKey(bad).ok());
    CHECK_FALSE(DecodeGarbageKey(bad).ok());
    CHECK_FALSE(DecodeListExtentKey(bad).ok());
  }
  CHECK_FALSE(DecodeListExtentKey(ListHeadKey(1)).ok());
}

TEST_CASE("ranges hold what they name and nothing else") {
  auto in = [](const kv::Range& r, const std::string& key) {
    return key >= r.begin && (r.end.empty() || key < r.end);
  };
  CHECK(in(IntentRange(), IntentKey(1)));
  CHECK_FALSE(in(IntentRange(), IntentCounterKey()));
  CHECK(in(BlobReferences(1, 2), ReferenceKey(1, 2, {~uint64_t{0}, ~uint64_t{0}})));
  CHECK_FALSE(in(BlobReferences(1, 2), ReferenceKey(1, 3, {})));
  CHECK(in(VolumeReferences(1, 2), ReferenceKey(1, ~uint64_t{0}, {})));
  CHECK_FALSE(in(VolumeReferences(1, 2), ReferenceKey(1, 1, {})));
  CHECK_FALSE(in(VolumeReferences(1, 2), ReferenceKey(2, 0, {})));
  CHECK(in(ListExtents(4, 0), ListExtentKey(4, 0)));
  CHECK_FALSE(in(ListExtents(4, 0), ListHeadKey(4)));
  CHECK(in(GarbageUntil(10), EncodeGarbageKey({10, GarbageKind::kList, 0, 1, {}})));
  CHECK_FALSE(in(GarbageUntil(10), EncodeGarbageKey({11, GarbageKind::kExtent, 0, 0, {}})));
  CHECK_FALSE(in(VolumeRange(), MapEpochKey()));
}

TEST_CASE(
    "a cluster file has the bytes that the format page shows, and any flipped bit is noticed") {
  ClusterFile file;
  file.cluster_id = 1;
  file.k = 4;
  file.m = 2;
  file.drives.resize(1);
  file.drives[0].drive_id = 9;
  file.drives[0].dir = "/d";
  std::string bytes = EncodeClusterFile(file);
  CHECK(HexEncode(bytes.substr(0, 16)) ==
        "50474545434c5553"
        "01000000"
        "0e000000");
  CHECK(HexEncode(bytes.substr(24)) ==
        "0801"
        "1004"
        "1802"
        "2206"
        "0809"
        "1a022f64");
  auto back = DecodeClusterFile(bytes);
  REQUIRE(back.ok());
  CHECK(*back == file);
  for (size_t bit = 0; bit < bytes.size() * 8; bit++) {
    if (bit / 8 >= 20 && bit / 8 < 24) continue;  // unused
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    CHECK_FALSE(DecodeClusterFile(flipped).ok());
  }
}

TEST_CASE(
    "as many drives as the profile needs give as many rotations, so that every drive has every "
    "index once") {
  auto plans = PlanVolumes(OnOneNode({1, 2, 3, 4, 5, 6}), 4, 2, 7);
  REQUIRE(plans.size() == 6);
  CHECK(plans[0] == std::vector<uint64_t>{1, 2, 3, 4, 5, 6});
  CHECK(plans[4] == std::vector<uint64_t>{5, 6, 1, 2, 3, 4});
  for (size_t index = 0; index < 6; index++) {
    std::set<uint64_t> there;
    for (const auto& plan : plans) there.insert(plan[index]);
    CHECK(there.size() == 6);
  }
}

TEST_CASE(
    "more drives than the profile needs give other combinations too, the same for the same seed") {
  const auto drives = OnOneNode({1, 2, 3, 4, 5, 6, 7, 8});
  auto plans = PlanVolumes(drives, 4, 2, 7);
  CHECK(plans.size() == 16);
  CHECK(plans == PlanVolumes(drives, 4, 2, 7));
  CHECK(plans != PlanVolumes(drives, 4, 2, 8));
  for (const auto& plan : plans) CHECK(std::set<uint64_t>(plan.begin(), plan.end()).size() == 6);
  CHECK(PlanVolumes(OnOneNode({1, 2}), 4, 2, 7).empty());
}

TEST_CASE("over several nodes every volume is spread as evenly as its width allows") {
  // Three nodes of two drives, and one of one.
  std::vector<PlacedDrive> drives = {{1, 10}, {2, 10}, {3, 20}, {4, 20}, {5, 30}, {6, 30}, {7, 40}};
  auto most = [&](const std::vector<uint64_t>& plan) {
    std::vector<uint64_t> nodes;
    for (uint64_t id : plan) nodes.push_back(drives[id - 1].node);
    return MostOnOneNode(nodes);
  };
  std::map<uint64_t, int> used;
  for (const auto& plan : PlanVolumes(drives, 2, 1, 7)) {
    CHECK(most(plan) == 1);
    for (uint64_t id : plan) used[id]++;
  }
  for (const auto& [id, count] : used) CHECK(count >= 3);
  CHECK(used.size() == 7);
  for (const auto& plan : PlanVolumes(drives, 4, 2, 7)) {
    CHECK(most(plan) == 2);
    CHECK(std::set<uint64_t>(plan.begin(), plan.end()).size() == 6);
  }
  CHECK(PlanVolumes(drives, 2, 1, 7) == PlanVolumes(drives, 2, 1, 7));
}

TEST_CASE("the widest profile that fits is used") {
  CHECK(WidestData(4, 2, 6) == 4);
  CHECK(WidestData(4, 2, 4) == 2);
  CHECK(WidestData(4, 2, 3) == 1);
  CHECK(WidestData(4, 2, 2) == 0);
  CHECK(WidestData(1, 0, 1) == 1);
}

TEST_CASE("equal spreads pick equal volumes, and a volume that goes takes only its own with it") {
  std::vector<uint32_t> all = {1, 2, 3, 4, 5, 6}, fewer = {1, 2, 3, 5, 6};
  std::map<uint32_t, int> counts;
  for (uint64_t spread = 0; spread < 600; spread++) {
    uint32_t pick = PickVolume(all, spread);
    counts[pick]++;
    CHECK(PickVolume(all, spread) == pick);
    if (pick != 4) CHECK(PickVolume(fewer, spread) == pick);
  }
  for (uint32_t id : all) CHECK(counts[id] > 50);
}

}  // namespace perigee::objectd
