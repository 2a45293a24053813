#pragma once
// Method numbers of every call between Perigee's processes. Never renumber; new ones go at the end
// of their group.

#include <cstddef>
#include <cstdint>

namespace perigee::wire {

enum class Method : uint16_t {
  // Every daemon (rdma/wire/probe.h).
  kPing = 1,
  kNetEcho = 2,
  kNetProbe = 3,

  // objectd: namespace (rdma/wire/meta.h). Sent by bufferd, which forwards those of its local
  // clients.
  kMetaLookup = 10,
  kMetaGetAttr = 11,
  kMetaReadDir = 12,
  kMetaMkdir = 13,
  kMetaRmdir = 14,
  kMetaUnlink = 15,
  kMetaRename = 16,
  kMetaSymlink = 17,
  kMetaLink = 18,
  kMetaSetAttr = 19,
  kMetaSetXattr = 20,
  kMetaRemoveXattr = 21,
  kMetaCreate = 22,
  kMetaOpenWrite = 23,
  kMetaPublish = 24,
  kMetaEndWrite = 25,
  kMetaCommitFlush = 26,
  kMetaSetDurability = 27,
  kMetaReadInline = 28,
  kMetaStatFs = 29,
  kMetaReserveIds = 30,
  kMetaFeed = 31,
  kMetaRegisterNode = 32,
  kMetaGetExtents = 33,
  kMetaMknod = 34,
  kMetaSync = 35,
  kMetaFallBack = 36,
  kMetaCreateBucket = 37,
  kMetaGetNode = 38,
  kMetaRenewDelegations = 39,
  kMetaEndWrites = 40,
  kMetaReclaimWriter = 41,
  kMetaHoldDirectory = 42,
  kMetaReleaseDirectories = 43,
  kMetaApply = 44,

  // objectd: volumes and shards (rdma/wire/shard.h).
  kVolumeMap = 50,
  kVolumeLease = 51,
  kVolumeAddExtents = 52,
  kVolumeReport = 53,
  kShardWrite = 60,
  kShardRead = 61,
  // Of drives that their node keeps, by the namespace node (rdma/wire/node.h).
  kDriveList = 62,
  kDriveDelete = 63,
  kDriveReindex = 64,
  kDriveBytes = 65,
  kDriveMend = 66,
  kDriveAudit = 67,
  kShardBatch = 68,  // several of kShardWrite, kDriveDelete or kShardRead (rdma/wire/shard_batch.h)

  // objectd: control, by its 0600 socket (rdma/wire/control.h).
  kControlObjectdStatus = 70,
  kControlDriveReplace = 71,
  kControlRepair = 72,
  kControlSyncAll = 73,
  kControlObjectdScrub = 74,
  kControlObjectdFsck = 75,
  // Storage nodes (rdma/wire/node.h).
  kNodeReport = 76,
  kNodeList = 77,
  kNodeChange = 78,

  // bufferd: clients of the node and other nodes (rdma/wire/burst.h).
  kBurstOpen = 90,
  kBurstCreate = 91,
  kBurstRelease = 92,
  kBurstPublish = 93,
  kBurstFsync = 94,
  kBurstEnsure = 95,
  kBurstTruncate = 96,
  kBurstStat = 97,
  kBurstFlush = 98,
  kBurstEvict = 99,
  kBurstWarm = 100,
  kBurstPin = 101,
  kBurstRead = 102,
  kBurstWrite = 103,
  kBurstHold = 104,
  kControlBufferdStatus = 105,
  kBurstWatch = 106,
  kControlBufferdScrub = 107,
  kControlBufferdFsck = 108,
  kBurstRecall = 109,

  // perigee-fuse: control.
  kControlFuseStatus = 110,

  // bufferd: objectd (rdma/wire/meta.h).
  kBurstWrites = 111,
  kBurstTakeDirectory = 112,

  // bufferd: the mount.
  kBurstSync = 113,
};
inline constexpr size_t kMethodCount = 128;

}  // namespace perigee::wire
