// Seeded flips and truncations over segments and superblocks of as many drives as parity covers,
// with the cluster running and between its runs: everything is read as it was written, and scrub
// makes it whole again. PERIGEE_FLIPS is how many.

#include "tests/flip_count.h"
#include "tests/objectd/volume/volume_fixture.h"

namespace perigee::objectd {
namespace {

constexpr uint64_t kFlipsPerRound = 12;

// Superblocks and the headers of segments are read at a start only: damaged while the cluster runs,
// they would be lost then, beside the two drives that the test takes away.
void Damage(TestVolumes& v, size_t drive, bool running, Random& random) {
  const std::string dir = TestVolumes::Dir(drive);
  if (!running && random.OneIn(40)) {
    REQUIRE(v.disk->FlipBit(dir + "/superblock", random.Below(200 * 8)).ok());
    return;
  }
  auto entries = v.disk->List(dir + "/segments");
  REQUIRE(entries.ok());
  if (entries->empty()) return;
  const std::string path = dir + "/segments/" + (*entries)[random.Below(entries->size())].name;
  auto info = v.disk->Stat(path);
  REQUIRE(info.ok());
  const uint64_t from = running ? kPageBytes : 0;
  if (info->size <= from) return;
  if (random.OneIn(12)) {
    auto file = v.disk->Open(path, OpenMode::kReadWrite);
    REQUIRE(file.ok());
    REQUIRE((*file)->Truncate(from + random.Below(info->size - from)).ok());
    return;
  }
  REQUIRE(v.disk->FlipBit(path, from * 8 + random.Below((info->size - from) * 8)).ok());
}

}  // namespace

TEST_CASE("flips on as many drives as parity covers are mended, and nothing wrong is ever read") {
  const uint64_t rounds = FlipCount(72) / kFlipsPerRound;
  for (uint64_t seed = 1; seed <= rounds; seed++) {
    CAPTURE(seed);
    Random random(seed);
    TestVolumes v(6, 4, 2, seed);
    std::vector<TestObject> objects;
    for (int i = 0; i < 10; i++) objects.push_back(v.Write(1 + random.Below(2'000'000)));
    const size_t one = 1 + random.Below(6), two = 1 + random.Below(6);
    const bool running = random.OneIn(2);
    if (!running) v.Stop();
    for (uint64_t i = 0; i < kFlipsPerRound; i++)
      Damage(v, random.OneIn(2) ? one : two, running, random);
    if (!running) v.Start();
    for (const TestObject& object : objects) CHECK(v.Reads(object));
    for (size_t i = 1; i <= 6; i++) {
      const DriveSlot slot = v.drives->Slots()[i - 1];
      if (slot.drive && slot.drive->online()) continue;
      v.Wipe(i);
      REQUIRE(v.manager->DriveReplace(TestVolumes::Dir(i)).ok());
    }
    REQUIRE(v.RunUntilAllOnline(6));
    wire::ScrubRequest start;
    start.action = wire::ScrubAction::kStart;
    v.manager->DoScrub(start);
    REQUIRE(v.scheduler().RunUntil([&] { return !v.manager->DoScrub({}).running; }));
    CHECK(v.manager->DoScrub({}).lost == 0);
    // Now the two others may be lost.
    v.Stop();
    const size_t three = one % 6 + 1;
    v.Hide(three);
    v.Hide(three % 6 + 1);
    v.Start();
    for (const TestObject& object : objects) CHECK(v.Reads(object));
  }
}

}  // namespace perigee::objectd
