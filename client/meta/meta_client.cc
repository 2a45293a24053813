#include "client/meta/meta_client.h"

#include <unistd.h>

namespace perigee::client {

using wire::Method;

wire::Caller StampCaller(const rdma::Peer& peer, const wire::Caller& claimed) {
  if (peer.role == rdma::Role::kNode || peer.uid == 0 || peer.uid == geteuid()) return claimed;
  wire::Caller caller;
  caller.enforce = true;
  caller.uid = peer.uid;
  caller.gid = peer.gid;
  return caller;
}

Result<wire::RecordReply> MetaClient::Lookup(const wire::LookupRequest& q) {
  return Read<wire::RecordReply>(Method::kMetaLookup, q);
}

Result<wire::RecordReply> MetaClient::GetAttr(const wire::GetAttrRequest& q) {
  return Read<wire::RecordReply>(Method::kMetaGetAttr, q);
}

Result<wire::ReadDirReply> MetaClient::ReadDir(const wire::ReadDirRequest& q) {
  return Read<wire::ReadDirReply>(Method::kMetaReadDir, q);
}

Result<wire::RecordReply> MetaClient::Mkdir(const wire::MakeRequest& q) {
  return AskRecord(Method::kMetaMkdir, q);
}

Result<wire::RecordReply> MetaClient::Rmdir(const wire::RemoveRequest& q) {
  return AskRecord(Method::kMetaRmdir, q);
}

Result<wire::RecordReply> MetaClient::Unlink(const wire::RemoveRequest& q) {
  return AskRecord(Method::kMetaUnlink, q);
}

Result<wire::RenameReply> MetaClient::Rename(const wire::RenameRequest& q) {
  return Ask<wire::RenameReply>(Method::kMetaRename, q, options_.timeout);
}

Result<wire::RecordReply> MetaClient::Symlink(const wire::MakeRequest& q) {
  return AskRecord(Method::kMetaSymlink, q);
}

Result<wire::RecordReply> MetaClient::Link(const wire::LinkRequest& q) {
  return AskRecord(Method::kMetaLink, q);
}

Result<wire::RecordReply> MetaClient::SetAttr(const wire::SetAttrRequest& q) {
  return AskRecord(Method::kMetaSetAttr, q);
}

Result<wire::RecordReply> MetaClient::SetXattr(const wire::XattrRequest& q) {
  return AskRecord(Method::kMetaSetXattr, q);
}

Result<wire::RecordReply> MetaClient::RemoveXattr(const wire::XattrRequest& q) {
  return AskRecord(Method::kMetaRemoveXattr, q);
}

Result<wire::RecordReply> MetaClient::Create(const wire::MakeRequest& q) {
  return AskRecord(Method::kMetaCreate, q);
}

Result<wire::RecordReply> MetaClient::OpenWrite(const wire::OpenWriteRequest& q) {
  return AskRecord(Method::kMetaOpenWrite, q);
}

Result<wire::RecordReply> MetaClient::Publish(const wire::PublishRequest& q,
                                              ConstBytes inline_bytes) {
  Nanos timeout = q.sync ? options_.durable_timeout : options_.timeout;
  return Ask<wire::RecordReply>(Method::kMetaPublish, q, timeout, inline_bytes);
}

Result<wire::RecordReply> MetaClient::EndWrite(const wire::EndWriteRequest& q) {
  return AskRecord(Method::kMetaEndWrite, q);
}

Result<wire::EndWritesReply> MetaClient::EndWrites(const wire::EndWritesRequest& q) {
  PERIGEE_ASSIGN(auto reply,
                 Ask<wire::EndWritesReply>(Method::kMetaEndWrites, q, options_.timeout));
  if (reply.codes.size() != q.writes.size())
    return Status(Code::kInternal, "EndWrites did not answer for each");
  return reply;
}

Result<wire::RecordReply> MetaClient::CommitFlush(const wire::CommitFlushRequest& q) {
  return Ask<wire::RecordReply>(Method::kMetaCommitFlush, q, options_.durable_timeout);
}

Result<wire::RecordReply> MetaClient::SetDurability(const wire::SetDurabilityRequest& q) {
  Nanos timeout = q.sync ? options_.durable_timeout : options_.timeout;
  return Ask<wire::RecordReply>(Method::kMetaSetDurability, q, timeout);
}

Result<std::string> MetaClient::ReadInline(const wire::ReadInlineRequest& q) {
  PERIGEE_ASSIGN(auto reply, rdma::CallFull<wire::Empty>(
                                 *channel_, Method::kMetaReadInline, q, {},
                                 {.timeout = options_.timeout, .traffic = options_.traffic}));
  return std::string(AsView(std::as_const(reply.bulk).span()));
}

Result<wire::StatFsReply> MetaClient::StatFs() {
  return Read<wire::StatFsReply>(Method::kMetaStatFs, wire::Empty{});
}

Result<wire::ReserveIdsReply> MetaClient::ReserveIds(const wire::ReserveIdsRequest& q) {
  return Ask<wire::ReserveIdsReply>(Method::kMetaReserveIds, q, options_.durable_timeout);
}

Result<wire::FeedReply> MetaClient::Feed(const wire::FeedRequest& q) {
  return Ask<wire::FeedReply>(Method::kMetaFeed, q, options_.timeout + q.wait_ms * kMillisecond);
}

Result<wire::RegisterNodeReply> MetaClient::RegisterNode(const wire::RegisterNodeRequest& q) {
  return Ask<wire::RegisterNodeReply>(Method::kMetaRegisterNode, q, options_.timeout);
}

Result<wire::GetExtentsReply> MetaClient::GetExtents(const wire::GetExtentsRequest& q) {
  return Read<wire::GetExtentsReply>(Method::kMetaGetExtents, q);
}

Result<wire::RecordReply> MetaClient::Mknod(const wire::MakeRequest& q) {
  return AskRecord(Method::kMetaMknod, q);
}

Result<uint64_t> MetaClient::SyncedInstance() {
  PERIGEE_ASSIGN(auto reply,
                 Ask<wire::SyncReply>(Method::kMetaSync, wire::Empty{}, options_.durable_timeout));
  return reply.instance;
}

Result<wire::RecordReply> MetaClient::ReclaimWriter(const wire::ReclaimWriterRequest& q) {
  return AskRecord(Method::kMetaReclaimWriter, q);
}

Result<wire::RecordReply> MetaClient::FallBack(const wire::FallBackRequest& q) {
  return AskRecord(Method::kMetaFallBack, q);
}

Result<wire::RecordReply> MetaClient::CreateBucket(const wire::CreateBucketRequest& q) {
  return AskRecord(Method::kMetaCreateBucket, q);
}

}  // namespace perigee::client
