#pragma once
// Namespace: one tree of directories for every door, over the ordered store. ARCHITECTURE section 3
// is its law; docs/formats/keys.md lists its keys.
//
// The POSIX side takes and gives the messages of rdma/wire/meta.h; errors as said there. The S3
// side takes bucket and key. Calls block on the store. S3 changes and calls marked `sync` return
// when durable; S3 reads return what is durable. What a kNotFound of the S3 side is about begins
// its message: "NoSuchBucket", "NoSuchKey", "NoSuchUpload". Thread-safe.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "client/blob/given_up_leases.h"
#include "objectd/kv/store.h"
#include "objectd/meta/delegations.h"
#include "objectd/meta/directory_holds.h"
#include "objectd/meta/record_summary.h"
#include "rdma/wire/meta.h"
#include "rdma/wire/shard.h"

namespace perigee::objectd {

struct NamespaceOptions {
  uint64_t inline_bytes_max = 16 << 10;
  // Asked before anything new is made (deletes never are); null: there is always room. kNoSpace.
  std::function<Status()> room;
  Delegations* delegations = nullptr;  // null: none are given
  DirectoryHolds* holds = nullptr;     // null: no directory is given to a node to hold
};

// If-Match / If-None-Match on the current object: etags, or "*".
struct Preconditions {
  std::optional<std::string> if_match;
  std::optional<std::string> if_none_match;
};

// One of several: its outcome is that of DeleteObject.
struct Deletion {
  std::string key;
  Preconditions conditions;
  Status outcome;
};

struct ObjectWithBytes {
  wire::Record record;
  std::optional<std::string> inline_bytes;
};

// Content that a commit puts into place: inline bytes, or blobs with the intents they were written
// under.
struct NewContent {
  uint64_t size = 0;
  std::string etag;
  std::string checksum;
  std::optional<std::string> inline_bytes;
  std::vector<wire::Extent> extents;
  uint64_t list_id = 0;
  std::vector<uint64_t> intents;
  std::shared_ptr<const client::HeldLeases> held;  // those of `intents`
};

struct ListQuery {
  std::string prefix, delimiter;
  std::string after;      // keys and common prefixes > after
  uint32_t limit = 1000;  // keys + common prefixes
};
struct ListPage {
  std::vector<std::pair<std::string, RecordSummary>> objects;  // full key; committed versions only
  std::vector<std::string> common_prefixes;
  bool truncated = false;
  std::string next_after;  // the last key or common prefix of this page
};

struct UploadInfo {
  std::string bucket, key, upload_id;
  int64_t initiated = 0;
  std::vector<wire::Attribute> headers;
};
struct PartInfo {
  uint32_t number = 0;
  uint64_t size = 0;
  std::string etag, checksum;
  int64_t modified = 0;
};

class Namespace {
 public:
  // Makes the root on an empty store.
  static Result<std::unique_ptr<Namespace>> Create(kv::Store& store, Clock& clock,
                                                   metrics::Registry& metrics,
                                                   NamespaceOptions options);
  virtual ~Namespace() = default;

  // POSIX door (meta_service.cc registers these with the RPC router).
  virtual Result<wire::RecordReply> Lookup(const wire::LookupRequest& q) = 0;
  virtual Result<wire::RecordReply> GetAttr(const wire::GetAttrRequest& q) = 0;
  virtual Result<wire::ReadDirReply> ReadDir(const wire::ReadDirRequest& q) = 0;
  virtual Result<wire::RecordReply> Mkdir(const wire::MakeRequest& q) = 0;
  virtual Result<wire::RecordReply> Rmdir(const wire::RemoveRequest& q) = 0;
  virtual Result<wire::RecordReply> Unlink(const wire::RemoveRequest& q) = 0;
  virtual Result<wire::RenameReply> Rename(const wire::RenameRequest& q) = 0;
  virtual Result<wire::RecordReply> Symlink(const wire::MakeRequest& q) = 0;
  virtual Result<wire::RecordReply> Mknod(const wire::MakeRequest& q) = 0;
  virtual Result<wire::RecordReply> Link(const wire::LinkRequest& q) = 0;
  virtual Result<wire::RecordReply> SetAttr(const wire::SetAttrRequest& q) = 0;
  virtual Result<wire::RecordReply> SetXattr(const wire::XattrRequest& q) = 0;
  virtual Result<wire::RecordReply> RemoveXattr(const wire::XattrRequest& q) = 0;
  virtual Result<wire::RecordReply> CreateFile(const wire::MakeRequest& q) = 0;
  virtual Result<wire::RecordReply> OpenWrite(const wire::OpenWriteRequest& q) = 0;
  virtual Result<wire::RecordReply> Publish(const wire::PublishRequest& q,
                                            std::string_view inline_bytes) = 0;
  virtual Result<wire::RecordReply> EndWrite(const wire::EndWriteRequest& q) = 0;
  // Ends the write of a writer that is gone; what it may still publish is no generation of the
  // file.
  virtual Result<wire::RecordReply> TakeFromWriter(wire::FileId id,
                                                   const wire::WriterInfo& writer) = 0;
  virtual Result<wire::EndWritesReply> EndWrites(const wire::EndWritesRequest& q) = 0;
  virtual Result<wire::RecordReply> CommitFlush(const wire::CommitFlushRequest& q) = 0;
  virtual Result<wire::RecordReply> SetDurability(const wire::SetDurabilityRequest& q) = 0;
  virtual Result<wire::RecordReply> FallBack(const wire::FallBackRequest& q) = 0;
  virtual Result<std::string> ReadInline(wire::FileId id, uint64_t generation) = 0;
  virtual Result<wire::ReserveIdsReply> ReserveIds(const wire::ReserveIdsRequest& q) = 0;
  virtual Result<wire::HoldDirectoryReply> HoldDirectory(const wire::HoldDirectoryRequest& q) = 0;
  virtual Status ReleaseDirectories(const wire::ReleaseDirectoriesRequest& q) = 0;
  virtual Result<wire::ApplyReply> Apply(const wire::ApplyRequest& q,
                                         std::string_view inline_bytes) = 0;
  virtual Result<wire::FeedReply> Feed(const wire::FeedRequest& q) = 0;
  virtual uint64_t FileCount() = 0;
  virtual Status Sync() = 0;  // everything visible now is durable on return
  virtual uint64_t inline_bytes_max() const = 0;

  // S3 door.
  virtual Result<wire::Record> CreateBucket(
      const wire::CreateBucketRequest& q) = 0;                 // kAlreadyExists, kInvalidArgument
  virtual Status DeleteBucket(const std::string& bucket) = 0;  // kNotFound, kNotEmpty
  virtual Result<wire::Record> HeadBucket(const std::string& bucket) = 0;
  virtual Result<std::vector<std::pair<std::string, wire::Record>>> ListBuckets() = 0;
  virtual Result<wire::Record> PutObject(const std::string& bucket, const std::string& key,
                                         NewContent content, std::vector<wire::Attribute> headers,
                                         const Preconditions& conditions) = 0;
  virtual Result<wire::Record> GetObject(const std::string& bucket, const std::string& key) = 0;
  // With its bytes, where they are inline: both of the same moment.
  virtual Result<ObjectWithBytes> ReadObject(const std::string& bucket, const std::string& key) = 0;
  // ok when absent. The record that was removed, if any.
  virtual Result<std::optional<wire::Record>> DeleteObject(const std::string& bucket,
                                                           const std::string& key,
                                                           const Preconditions& conditions) = 0;
  // In one commit where that holds them all, else in as many as it takes. What is refused keeps
  // none of the others.
  virtual void DeleteObjects(const std::string& bucket, std::span<Deletion> deletions) = 0;
  // Shares the content. `headers` replace the source's when given. Burst content is kUnimplemented:
  // copy the bytes.
  virtual Result<wire::Record> CopyObject(const std::string& from_bucket,
                                          const std::string& from_key, const std::string& bucket,
                                          const std::string& key,
                                          std::optional<std::vector<wire::Attribute>> headers,
                                          const Preconditions& source_conditions,
                                          const Preconditions& conditions) = 0;
  virtual Result<ListPage> ListObjects(const std::string& bucket, const ListQuery& query) = 0;

  virtual Result<UploadInfo> CreateUpload(const std::string& bucket, const std::string& key,
                                          std::vector<wire::Attribute> headers) = 0;
  virtual Result<UploadInfo> GetUpload(const std::string& bucket, const std::string& key,
                                       const std::string& upload_id) = 0;
  virtual Result<PartInfo> PutPart(const UploadInfo& upload, uint32_t number,
                                   NewContent content) = 0;  // kNotFound: no upload
  virtual Result<std::vector<PartInfo>> ListParts(const UploadInfo& upload, uint32_t after,
                                                  uint32_t limit) = 0;
  virtual Result<std::vector<UploadInfo>> ListUploads(const std::string& bucket,
                                                      const std::string& prefix,
                                                      const std::string& after_key,
                                                      const std::string& after_upload,
                                                      uint32_t limit) = 0;
  // parts: (number, etag) ascending. kInvalidArgument: unknown part, wrong etag, wrong order.
  // Repeating it after success gives the same record for a day.
  virtual Result<wire::Record> CompleteUpload(
      const UploadInfo& upload, const std::vector<std::pair<uint32_t, std::string>>& parts,
      const Preconditions& conditions) = 0;
  virtual Status AbortUpload(const UploadInfo& upload) = 0;
  // Some of the work that uploads leave behind (parts to release, results over a day old), in
  // bounded transactions. Uploads do some of it by themselves; the daemon calls it every minute or
  // so.
  virtual Status CleanUp() { return Status::Ok(); }
};

}  // namespace perigee::objectd
