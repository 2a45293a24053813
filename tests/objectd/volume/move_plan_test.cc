#include "objectd/volume/move_plan.h"

#include <doctest/doctest.h>

namespace perigee::objectd {
namespace {

constexpr uint64_t kGib = 1 << 30;

PlanDrive Online(uint64_t id, uint64_t node, uint64_t free = 50 * kGib) {
  return {.drive_id = id,
          .node = node,
          .online = true,
          .takes = true,
          .total_bytes = 100 * kGib,
          .free_bytes = free};
}

TEST_CASE("shards of a drive that is left go to the node that has the fewest of the volume") {
  std::vector<PlanDrive> drives = {Online(1, 1), Online(2, 1), Online(3, 2), Online(4, 3)};
  drives[2].left = true;
  drives[2].takes = false;
  std::vector<PlanVolume> volumes = {{.volume = 7, .drives = {1, 3}}};
  CHECK(NextLeave(volumes, drives, {}) == PlannedMove{7, 1, 4, false});
  // Not where it is full, not where other shards of it may still be, not while it moves.
  drives[3].free_bytes = 1;
  CHECK(NextLeave(volumes, drives, {}) == PlannedMove{7, 1, 2, false});
  volumes[0].barred = {2};
  CHECK_FALSE(NextLeave(volumes, drives, {}));
  drives[3].free_bytes = 50 * kGib;
  volumes[0].moves = true;
  CHECK_FALSE(NextLeave(volumes, drives, {}));
}

TEST_CASE("a volume with more shards on a node than needed is spread, and then left alone") {
  std::vector<PlanDrive> drives = {Online(1, 1), Online(2, 1), Online(3, 1), Online(4, 2),
                                   Online(5, 3)};
  std::vector<PlanVolume> volumes = {{.volume = 1, .drives = {1, 2, 3}}};
  auto first = NextSpread(volumes, drives, {});
  REQUIRE(first);
  CHECK(first->spread);
  CHECK((first->to == 4 || first->to == 5));
  volumes[0].drives[first->index] = first->to;
  volumes[0].unverified = true;
  CHECK_FALSE(NextSpread(volumes, drives, {}));
  volumes[0].unverified = false;
  auto second = NextSpread(volumes, drives, {});
  REQUIRE(second);
  volumes[0].drives[second->index] = second->to;
  CHECK_FALSE(NextSpread(volumes, drives, {}));
}

TEST_CASE("a fuller drive is relieved, if that spreads shards no worse") {
  std::vector<PlanDrive> drives = {Online(1, 1, 10 * kGib), Online(2, 2, 30 * kGib),
                                   Online(3, 3, 30 * kGib), Online(4, 1, 90 * kGib)};
  std::vector<PlanVolume> volumes = {{.volume = 1, .drives = {1, 2, 3}}};
  CHECK(NextSpread(volumes, drives, {}) == PlannedMove{1, 0, 4, true});
  volumes[0].drives = {2, 3, 1};
  drives[0].free_bytes = 29 * kGib;  // by less than the limit... of those it could relieve
  drives[3].free_bytes = 35 * kGib;
  CHECK_FALSE(NextSpread(volumes, drives, {}));
}

TEST_CASE("what is survived counts the worst nodes and what is gone already") {
  std::vector<PlanDrive> drives = {Online(1, 1), Online(2, 1), Online(3, 2),
                                   Online(4, 2), Online(5, 3), Online(6, 3)};
  std::vector<PlanVolume> volumes = {{.volume = 1, .drives = {1, 2, 3, 4, 5, 6}}};
  CHECK(Survives(volumes, drives, {2}).nodes == 1);
  CHECK(Survives(volumes, drives, {2}).drives == 2);
  drives[0].online = false;
  CHECK(Survives(volumes, drives, {2}).nodes == 0);
  CHECK(Survives(volumes, drives, {2}).drives == 1);
  CHECK(Survives({}, drives, {}).drives == 0);
}

}  // namespace
}  // namespace perigee::objectd
