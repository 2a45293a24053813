// Every message that is sent or stored: the first byte picks the type, the rest is its encoding.
// What decodes encodes to bytes that decode to the same.

#include <array>

#include "bufferd/burst_record.h"
#include "bufferd/scrub.h"
#include "objectd/meta/upload_rows.h"
#include "objectd/volume/cluster_file.h"
#include "objectd/volume/reference_keys.h"
#include "objectd/volume/scrub_row.h"
#include "objectd/volume/volume_records.h"
#include "rdma/hello.h"
#include "rdma/wire/control.h"
#include "rdma/wire/fsck.h"
#include "rdma/wire/probe.h"
#include "rdma/wire/scrub.h"
#include "rdma/wire/shard_batch.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::wire;

template <class M>
void Check(std::string_view bytes) {
  Result<M> message = Decode<M>(bytes);
  if (!message.ok()) return;
  const std::string encoded = Encode(*message);
  Result<M> again = Decode<M>(encoded);
  PERIGEE_CHECK(again.ok());
  PERIGEE_CHECK(Encode(*again) == encoded);
}

using Checker = void (*)(std::string_view);
template <class... M>
constexpr std::array<Checker, sizeof...(M)> ForAll() {
  return {Check<M>...};
}
// Only ever longer: the corpus names types by their place.
constexpr auto kCheckers = ForAll<
    Extent, Layout, Version, WriterInfo, Attribute, BucketSettings, Record, Caller, Empty,
    RecordReply, LookupRequest, GetAttrRequest, ReadDirRequest, DirItem, ReadDirReply, MakeRequest,
    RemoveRequest, RenameRequest, RenameReply, LinkRequest, SetAttrRequest, XattrRequest,
    OpenWriteRequest, PublishRequest, EndWriteRequest, CommitFlushRequest, SetDurabilityRequest,
    FallBackRequest, ReadInlineRequest, GetExtentsRequest, GetExtentsReply, StatFsReply,
    ReserveIdsRequest, ReserveIdsReply, Change, FeedRequest, FeedReply, RegisterNodeRequest,
    RegisterNodeReply, GetNodeRequest, GetNodeReply, CreateBucketRequest, DriveInfo, VolumeInfo,
    VolumeMapReply, LeaseRequest, LeaseReply, AddExtentsRequest, AddExtentsReply, BlobId,
    ShardHeader, ShardWriteRequest, ShardReadRequest, ShardReadReply, VolumeReportRequest,
    BurstOpenRequest, BurstCreateRequest, BurstOpenReply, BurstHandleRequest, BurstEnsureRequest,
    BurstWriteRequest, BurstTruncateRequest, BurstTarget, BurstStatReply, BurstBatchReply,
    BurstReadRequest, BurstWatchRequest, BurstWatchReply, PreflightItem, NamedCount,
    ObjectdStatusReply, DriveReplaceRequest, RiskRow, BufferdStatusReply, FuseStatusReply,
    rdma::HelloStart, rdma::HelloChallenge, rdma::HelloAnswer, rdma::HelloVerdict,
    bufferd::BurstRecord, bufferd::BurstCrcs, objectd::UploadRow, objectd::PartRow,
    objectd::CompletedRow, objectd::ClusterDrive, objectd::ClusterFile, objectd::IntentRow,
    objectd::ListHead, objectd::GarbageRow, objectd::VolumeRecord, objectd::DriveRecord,
    ScrubRequest, ScrubReport, objectd::BadShard, objectd::ScrubRow, bufferd::ScrubRow, FsckFinding,
    FsckRequest, NamedBurst, FsckReply, BurstFsckRequest, BurstFsckReply, WriterOf,
    EndWritesRequest, EndWritesReply, NetEchoRequest, NetProbeRequest, NetProbeRow, NetProbeReply,
    NodeReportRequest, NodeReportReply, NodeListReply, NodeChangeRequest, DriveListRequest,
    DriveListReply, ShardName, DriveAskRequest, DriveCount, DriveAuditReply,
    objectd::StorageNodeRow, ShardBatchRequest, ShardOutcome, ShardBatchReply, ReclaimWriterRequest,
    BurstWritesReply, HoldDirectoryRequest, HoldDirectoryReply, ReleaseDirectoriesRequest, ApplyOp,
    ApplyRequest, BurstTakeDirectoryRequest>();

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const uint8_t type = input.Number<uint8_t>();
  kCheckers[type % kCheckers.size()](input.Rest());
  return 0;
}
