#pragma once
// NamespaceImpl: Namespace over Tree. One file for each family of operations; all go through Commit
// and Read here, which run a closure over one Tree, again while it loses races, and wait for
// durability where that is promised.
//   posix_ops.cc  lookup, listing, making and removing     attr_ops.cc    attributes
//   rename.cc     rename and exchange                      writer_ops.cc  writers, publishing, tier
//   moves bucket_ops.cc buckets                                  s3_objects.cc  objects by key
//   s3_list.cc    listings                                 multipart.cc   uploads
//   held_ops.cc   directories that nodes hold
//   namespace_impl.cc  creation, feed, ids, the rest
// Thread-safe: no state but the store's, two id allocators' and the path cache's.

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "objectd/meta/namespace.h"
#include "objectd/meta/tree.h"

namespace perigee::objectd {

wire::RecordReply ReplyOf(Node node);
// kStale unless the node is the one that a call expects under its name (0: any).
Status CheckId(const Node& node, wire::FileId expected);

class NamespaceImpl final : public Namespace {
 public:
  NamespaceImpl(kv::Store& store, Clock& clock, metrics::Registry& metrics,
                NamespaceOptions options);
  Status MakeRoot();

  Result<wire::RecordReply> Lookup(const wire::LookupRequest& q) override;
  Result<wire::RecordReply> GetAttr(const wire::GetAttrRequest& q) override;
  Result<wire::ReadDirReply> ReadDir(const wire::ReadDirRequest& q) override;
  Result<wire::RecordReply> Mkdir(const wire::MakeRequest& q) override;
  Result<wire::RecordReply> Rmdir(const wire::RemoveRequest& q) override;
  Result<wire::RecordReply> Unlink(const wire::RemoveRequest& q) override;
  Result<wire::RenameReply> Rename(const wire::RenameRequest& q) override;
  Result<wire::RecordReply> Symlink(const wire::MakeRequest& q) override;
  Result<wire::RecordReply> Mknod(const wire::MakeRequest& q) override;
  Result<wire::RecordReply> Link(const wire::LinkRequest& q) override;
  Result<wire::RecordReply> SetAttr(const wire::SetAttrRequest& q) override;
  Result<wire::RecordReply> SetXattr(const wire::XattrRequest& q) override;
  Result<wire::RecordReply> RemoveXattr(const wire::XattrRequest& q) override;
  Result<wire::RecordReply> CreateFile(const wire::MakeRequest& q) override;
  Result<wire::RecordReply> OpenWrite(const wire::OpenWriteRequest& q) override;
  Result<wire::RecordReply> Publish(const wire::PublishRequest& q,
                                    std::string_view inline_bytes) override;
  Result<wire::RecordReply> EndWrite(const wire::EndWriteRequest& q) override;
  Result<wire::RecordReply> TakeFromWriter(wire::FileId id,
                                           const wire::WriterInfo& writer) override;
  Result<wire::EndWritesReply> EndWrites(const wire::EndWritesRequest& q) override;
  Result<wire::RecordReply> CommitFlush(const wire::CommitFlushRequest& q) override;
  Result<wire::RecordReply> SetDurability(const wire::SetDurabilityRequest& q) override;
  Result<wire::RecordReply> FallBack(const wire::FallBackRequest& q) override;
  Result<std::string> ReadInline(wire::FileId id, uint64_t generation) override;
  Result<wire::ReserveIdsReply> ReserveIds(const wire::ReserveIdsRequest& q) override;
  Result<wire::HoldDirectoryReply> HoldDirectory(const wire::HoldDirectoryRequest& q) override;
  Status ReleaseDirectories(const wire::ReleaseDirectoriesRequest& q) override;
  Result<wire::ApplyReply> Apply(const wire::ApplyRequest& q,
                                 std::string_view inline_bytes) override;
  Result<wire::FeedReply> Feed(const wire::FeedRequest& q) override;
  uint64_t FileCount() override;
  Status Sync() override;
  uint64_t inline_bytes_max() const override { return options_.inline_bytes_max; }

  Result<wire::Record> CreateBucket(const wire::CreateBucketRequest& q) override;
  Status DeleteBucket(const std::string& bucket) override;
  Result<wire::Record> HeadBucket(const std::string& bucket) override;
  Result<std::vector<std::pair<std::string, wire::Record>>> ListBuckets() override;
  Result<wire::Record> PutObject(const std::string& bucket, const std::string& key,
                                 NewContent content, std::vector<wire::Attribute> headers,
                                 const Preconditions& conditions) override;
  Result<wire::Record> GetObject(const std::string& bucket, const std::string& key) override;
  Result<ObjectWithBytes> ReadObject(const std::string& bucket, const std::string& key) override;
  Result<std::optional<wire::Record>> DeleteObject(const std::string& bucket,
                                                   const std::string& key,
                                                   const Preconditions& conditions) override;
  void DeleteObjects(const std::string& bucket, std::span<Deletion> deletions) override;
  Result<wire::Record> CopyObject(const std::string& from_bucket, const std::string& from_key,
                                  const std::string& bucket, const std::string& key,
                                  std::optional<std::vector<wire::Attribute>> headers,
                                  const Preconditions& source_conditions,
                                  const Preconditions& conditions) override;
  Result<ListPage> ListObjects(const std::string& bucket, const ListQuery& query) override;

  Result<UploadInfo> CreateUpload(const std::string& bucket, const std::string& key,
                                  std::vector<wire::Attribute> headers) override;
  Result<UploadInfo> GetUpload(const std::string& bucket, const std::string& key,
                               const std::string& upload_id) override;
  Result<PartInfo> PutPart(const UploadInfo& upload, uint32_t number, NewContent content) override;
  Result<std::vector<PartInfo>> ListParts(const UploadInfo& upload, uint32_t after,
                                          uint32_t limit) override;
  Result<std::vector<UploadInfo>> ListUploads(const std::string& bucket, const std::string& prefix,
                                              const std::string& after_key,
                                              const std::string& after_upload,
                                              uint32_t limit) override;
  Result<wire::Record> CompleteUpload(const UploadInfo& upload,
                                      const std::vector<std::pair<uint32_t, std::string>>& parts,
                                      const Preconditions& conditions) override;
  Status AbortUpload(const UploadInfo& upload) override;
  Status CleanUp() override;

 private:
  using Body = std::function<Status(Tree& tree)>;
  // What every entry made from a directory's inside needs to know of it.
  struct Parent {
    wire::FileId bucket = 0;
    wire::Record record;
  };
  // What happens to a multipart upload's parts when they become an object.
  struct CompletePlan;

  // Mount side: visible on return. S3 side, fsync: durable on return; what a refusal was based on
  // is durable too.
  Status Commit(const Body& body);
  Status CommitDurable(const Body& body);
  Status Commit(const Body& body, bool durable) {
    return durable ? CommitDurable(body) : Commit(body);
  }
  Status Read(const Body& body);
  Status ReadDurable(const Body& body);
  // For a call that may come from the node that holds a directory it is about.
  Status CommitFor(const wire::Caller& caller, const Body& body) {
    return CommitAs(caller.node, body);
  }
  Status CommitAs(wire::NodeId node, const Body& body);
  Status ReadFor(const wire::Caller& caller, const Body& body);
  // `changed`: Tree::TakeChanged of the run that counted.
  Result<kv::Position> Run(const Body& body, std::vector<wire::FileId>* changed = nullptr,
                           wire::NodeId asker = 0);
  void Settle(const std::vector<wire::FileId>& changed);

  Result<uint64_t> NewIds(uint64_t count);  // for what is made now: when there is room
  Result<uint64_t> TakeIds(uint64_t count);

  // `wanted`: access.h bits.
  Result<Parent> OpenParent(Tree& tree, wire::FileId dir, const wire::Caller& caller,
                            uint32_t wanted, kv::ReadMode mode);
  wire::Record NewRecord(const Tree& tree, const Parent& parent, const wire::MakeRequest& q,
                         wire::FileId id, wire::FileKind kind);
  using Fill = std::function<void(wire::Record*)>;
  Result<wire::RecordReply> Make(const wire::MakeRequest& q, wire::FileKind kind, const Fill& fill);
  static Fill WrittenAs(const wire::MakeRequest& q);  // kMetaCreate's; refers to `q`
  // The bodies of calls that Apply makes, too; what their arguments must be is checked before.
  Status MakeIn(Tree& tree, const wire::MakeRequest& q, wire::FileId id, wire::FileKind kind,
                const Fill& fill, wire::RecordReply* reply);
  Status CheckPublish(const wire::PublishRequest& q, std::string_view inline_bytes) const;
  Status PublishIn(Tree& tree, const wire::PublishRequest& q, std::string_view inline_bytes,
                   wire::RecordReply* reply);
  Status SetAttrIn(Tree& tree, const wire::SetAttrRequest& q, wire::RecordReply* reply);
  Result<wire::RecordReply> MakePath(const wire::MakeRequest& q);
  Status MakeBucket(Tree& tree, wire::FileId id, const std::string& name, uint32_t uid,
                    uint32_t gid, uint32_t mode, wire::Record* made);
  Status RemoveBucket(Tree& tree, const Node& bucket);
  Result<wire::RecordReply> ChangeXattrs(
      const wire::XattrRequest& q,
      const std::function<Status(std::vector<wire::Attribute>*)>& change);

  // Content as one commit can take it: a list is built ahead, in commits of their own, when there
  // are too many extents or blobs. The result has at most kExtentsInsideMax extents, or list_id.
  struct Content {
    wire::Layout layout;
    std::vector<uint64_t> intents;
  };
  Result<Content> PrepareContent(std::vector<wire::Extent> extents, uint64_t list_id,
                                 std::vector<uint64_t> intents, uint64_t size);
  Result<uint64_t> BuildList(const std::vector<wire::Extent>& extents,
                             const std::vector<uint64_t>& intents);

  Status FinishUpload(Tree& tree, const UploadInfo& upload, const CompletePlan& plan,
                      const Preconditions& conditions, wire::Record* made);
  Result<CompletePlan> PlanComplete(const UploadInfo& upload,
                                    const std::vector<std::pair<uint32_t, std::string>>& parts);
  Status DoChore(Tree& tree, const std::string& row, const ChoreKey& chore);

  kv::Store& store_;
  Clock& clock_;
  const NamespaceOptions options_;
  kv::IdAllocator ids_;
  kv::IdAllocator lists_;
  PathCache paths_;
  metrics::Counter* commits_;
  metrics::Counter* reads_;
  metrics::Counter* lost_races_;
};

}  // namespace perigee::objectd
