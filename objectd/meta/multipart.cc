// Multipart uploads: making, parts, listing, aborting, and cleaning up behind them. Completing:
// multipart_complete.cc.

#include "objectd/meta/multipart.h"

#include "base/bytes.h"
#include "base/failpoint.h"
#include "objectd/meta/names.h"
#include "objectd/meta/namespace_impl.h"
#include "objectd/meta/s3_path.h"
#include "objectd/meta/upload_rows.h"
#include "objectd/volume/reference.h"

namespace perigee::objectd {
namespace {

constexpr size_t kListMax = 1000;
// One cleaning transaction; a part releases at most kExtentsInsideMax rows of garbage and its own.
constexpr size_t kPartsPerChore = 32;
constexpr size_t kUploadsPerChore = 100;
constexpr int kChoresPerCall = 64;

const std::string& Done() {
  static const std::string done(1, kFormatBody);
  return done;
}

Result<uint64_t> ParseUploadId(const std::string& text) {
  uint64_t id = 0;
  for (char c : text) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0 || text.size() != 16) return NoSuchUpload(text);
    id = id << 4 | static_cast<uint64_t>(digit);
  }
  if (id == 0) return NoSuchUpload(text);
  return id;
}

PartInfo InfoOf(uint32_t number, const PartRow& row) {
  return {.number = number,
          .size = row.size,
          .etag = row.etag,
          .checksum = row.checksum,
          .modified = row.modified};
}

}  // namespace

Status NoSuchUpload(const std::string& upload_id) {
  return Status(Code::kNotFound, "NoSuchUpload: no upload '" + upload_id + "'");
}

Result<OpenUpload> FindUpload(Tree& tree, const UploadInfo& upload, kv::ReadMode mode) {
  OpenUpload open;
  PERIGEE_ASSIGN(open.id, ParseUploadId(upload.upload_id));
  PERIGEE_ASSIGN(open.bucket, FindBucket(tree, upload.bucket, kv::ReadMode::kSnapshot));
  open.row_key = keys::Upload(open.bucket.record.id, upload.key, open.id);
  if (upload.key.size() > kS3KeyBytesMax) return NoSuchUpload(upload.upload_id);
  PERIGEE_ASSIGN(auto value, tree.txn().Get(open.row_key, mode));
  if (!value) return NoSuchUpload(upload.upload_id);
  PERIGEE_ASSIGN(open.row, DecodeRow<UploadRow>(*value, "an upload"));
  return open;
}

Result<uint64_t> UploadIdOf(const UploadInfo& upload) { return ParseUploadId(upload.upload_id); }

void CloseUpload(Tree& tree, const OpenUpload& open) {
  tree.txn().Delete(open.row_key);
  tree.txn().Put(keys::EncodeChore({.due = tree.now(), .kind = Chore::kParts, .id = open.id}),
                 Done());
}

Result<UploadInfo> NamespaceImpl::CreateUpload(const std::string& bucket, const std::string& key,
                                               std::vector<wire::Attribute> headers) {
  PERIGEE_TRY(CheckKey(key));
  PERIGEE_ASSIGN(uint64_t id, NewIds(1));
  UploadInfo upload{
      .bucket = bucket, .key = key, .upload_id = HexEncode64(id), .headers = std::move(headers)};
  PERIGEE_TRY(CommitDurable([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(Node in, FindBucket(tree, bucket, kv::ReadMode::kSnapshot));
    tree.txn().ConflictOn(keys::Directory(in.record.id));
    upload.initiated = tree.now();
    tree.txn().Put(keys::Upload(in.record.id, key, id),
                   EncodeRow(UploadRow{.initiated = upload.initiated, .headers = upload.headers}));
    return Status::Ok();
  }));
  CleanUp().Ignore();  // what is left is done by a later call
  return upload;
}

Result<UploadInfo> NamespaceImpl::GetUpload(const std::string& bucket, const std::string& key,
                                            const std::string& upload_id) {
  UploadInfo upload{.bucket = bucket, .key = key, .upload_id = upload_id};
  PERIGEE_TRY(ReadDurable([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(OpenUpload open, FindUpload(tree, upload, kv::ReadMode::kSnapshot));
    upload.initiated = open.row.initiated;
    upload.headers = std::move(open.row.headers);
    return Status::Ok();
  }));
  return upload;
}

Result<PartInfo> NamespaceImpl::PutPart(const UploadInfo& upload, uint32_t number,
                                        NewContent content) {
  if (number < 1 || number > kPartNumberMax)
    return Status(Code::kInvalidArgument, "a part's number is 1 to 10000");
  if (content.inline_bytes) return Status(Code::kInvalidArgument, "parts are written as blobs");
  PERIGEE_ASSIGN(Content prepared, PrepareContent(std::move(content.extents), content.list_id,
                                                  std::move(content.intents), content.size));
  PERIGEE_ASSIGN(uint64_t part_id, NewIds(1));
  PartRow row{.part_id = part_id,
              .size = content.size,
              .etag = content.etag,
              .checksum = content.checksum,
              .layout = prepared.layout};
  PERIGEE_FAILPOINT_STATUS(meta_before_part);
  PERIGEE_TRY(CommitDurable([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(OpenUpload open, FindUpload(tree, upload, kv::ReadMode::kConflict));
    const std::string key = keys::Part(open.id, number);
    PERIGEE_ASSIGN(auto old, tree.txn().Get(key, kv::ReadMode::kConflict));
    if (old) {
      PERIGEE_ASSIGN(PartRow replaced, DecodeRow<PartRow>(*old, "a part"));
      PERIGEE_TRY(ReleaseContent(tree.txn(), {replaced.part_id, number}, replaced.layout.extents,
                                 replaced.layout.list_id, tree.now()));
    }
    row.modified = tree.now();
    tree.txn().Put(key, EncodeRow(row));
    return AcquireContent(tree.txn(), {part_id, number}, prepared.layout.extents,
                          prepared.layout.list_id, prepared.intents);
  }));
  PERIGEE_FAILPOINT_STATUS(meta_after_part);
  return InfoOf(number, row);
}

Result<std::vector<PartInfo>> NamespaceImpl::ListParts(const UploadInfo& upload, uint32_t after,
                                                       uint32_t limit) {
  std::vector<PartInfo> parts;
  PERIGEE_TRY(ReadDurable([&](Tree& tree) -> Status {
    parts.clear();
    PERIGEE_ASSIGN(OpenUpload open, FindUpload(tree, upload, kv::ReadMode::kSnapshot));
    if (after >= kPartNumberMax || limit == 0) return Status::Ok();
    kv::Range range = kv::PrefixRange(keys::PartPrefix(open.id));
    range.begin = keys::Part(open.id, after + 1);
    PERIGEE_ASSIGN(auto rows,
                   tree.txn().Scan(range, limit, kv::Direction::kForward, kv::ReadMode::kSnapshot));
    for (const auto& [key, value] : rows) {
      PERIGEE_ASSIGN(PartRow row, DecodeRow<PartRow>(value, "a part"));
      parts.push_back(InfoOf(GetBe32(std::string_view(key).substr(key.size() - 4)), row));
    }
    return Status::Ok();
  }));
  return parts;
}

Result<std::vector<UploadInfo>> NamespaceImpl::ListUploads(const std::string& bucket,
                                                           const std::string& prefix,
                                                           const std::string& after_key,
                                                           const std::string& after_upload,
                                                           uint32_t limit) {
  std::vector<UploadInfo> uploads;
  PERIGEE_TRY(ReadDurable([&](Tree& tree) -> Status {
    uploads.clear();
    if (limit == 0 || prefix.size() > kS3KeyBytesMax || after_key.size() > kS3KeyBytesMax)
      return Status::Ok();
    PERIGEE_ASSIGN(Node in, FindBucket(tree, bucket, kv::ReadMode::kSnapshot));
    const wire::FileId id = in.record.id;
    kv::Range range = kv::PrefixRange(keys::UploadPrefix(id, prefix));
    if (!after_key.empty()) {
      // Without an upload to start behind: all of that key are done.
      std::string from = keys::UploadPrefix(id, after_key) + std::string(1, '\1');
      if (auto upload = ParseUploadId(after_upload); upload.ok()) {
        from = keys::Upload(id, after_key, *upload) + std::string(1, '\0');
      }
      range.begin = std::max(range.begin, from);
    }
    if (!range.end.empty() && range.begin >= range.end) return Status::Ok();
    PERIGEE_ASSIGN(auto rows, tree.txn().Scan(range, std::min<size_t>(limit, kListMax + 1),
                                              kv::Direction::kForward, kv::ReadMode::kSnapshot));
    const size_t start = keys::UploadPrefix(id, "").size();
    for (const auto& [key, value] : rows) {
      std::string_view rest = std::string_view(key).substr(start);
      if (rest.size() < 9) return Status(Code::kCorrupt, "malformed upload key " + HexEncode(key));
      PERIGEE_ASSIGN(UploadRow row, DecodeRow<UploadRow>(value, "an upload"));
      uploads.push_back({.bucket = bucket,
                         .key = std::string(rest.substr(0, rest.size() - 9)),
                         .upload_id = HexEncode(rest.substr(rest.size() - 8)),
                         .initiated = row.initiated,
                         .headers = std::move(row.headers)});
    }
    return Status::Ok();
  }));
  return uploads;
}

Status NamespaceImpl::AbortUpload(const UploadInfo& upload) {
  PERIGEE_FAILPOINT_STATUS(meta_before_abort);
  PERIGEE_TRY(CommitDurable([&](Tree& tree) -> Status {
    PERIGEE_ASSIGN(OpenUpload open, FindUpload(tree, upload, kv::ReadMode::kConflict));
    CloseUpload(tree, open);
    return Status::Ok();
  }));
  PERIGEE_FAILPOINT_STATUS(meta_after_abort);
  CleanUp().Ignore();  // what is left is done by a later call
  return Status::Ok();
}

Status NamespaceImpl::CleanUp() {
  Status first_failure;
  kv::Range range = kv::PrefixRange(keys::ChorePrefix());
  for (int i = 0; i < kChoresPerCall; ++i) {
    std::optional<std::string> row;
    ChoreKey chore;
    // Found in a transaction of its own: most calls find nothing, and then nothing is to commit.
    PERIGEE_TRY(Read([&](Tree& tree) -> Status {
      row.reset();
      PERIGEE_ASSIGN(auto next,
                     tree.txn().Scan(range, 1, kv::Direction::kForward, kv::ReadMode::kSnapshot));
      if (next.empty()) return Status::Ok();
      PERIGEE_ASSIGN(chore, keys::DecodeChore(next[0].first));
      if (chore.due <= tree.now()) row = next[0].first;
      return Status::Ok();
    }));
    if (!row) break;
    Status done = Commit([&](Tree& tree) { return DoChore(tree, *row, chore); });
    if (done.ok()) continue;
    // One that cannot be done must not hold up those behind it.
    if (first_failure.ok()) first_failure = std::move(done);
    range.begin = *row + std::string(1, '\0');
  }
  return first_failure;
}

Status NamespaceImpl::DoChore(Tree& tree, const std::string& row, const ChoreKey& chore) {
  PERIGEE_ASSIGN(auto still, tree.txn().Get(row, kv::ReadMode::kConflict));
  if (!still) return Status::Ok();
  if (chore.kind == Chore::kCompleted) {
    tree.txn().Delete(keys::Completed(chore.id));
    tree.txn().Delete(row);
    return Status::Ok();
  }
  const bool parts = chore.kind == Chore::kParts;
  if (!parts && chore.kind != Chore::kBucketUploads)
    return Status(Code::kUnimplemented, "cleaning of an unknown kind");
  const kv::Range range =
      kv::PrefixRange(parts ? keys::PartPrefix(chore.id) : keys::UploadPrefix(chore.id, ""));
  const size_t limit = parts ? kPartsPerChore : kUploadsPerChore;
  PERIGEE_ASSIGN(auto rows,
                 tree.txn().Scan(range, limit, kv::Direction::kForward, kv::ReadMode::kConflict));
  for (const auto& [key, value] : rows) {
    tree.txn().Delete(key);
    std::string_view tail(key);
    if (parts) {
      PERIGEE_ASSIGN(PartRow part, DecodeRow<PartRow>(value, "a part"));
      PERIGEE_TRY(ReleaseContent(tree.txn(), {part.part_id, GetBe32(tail.substr(tail.size() - 4))},
                                 part.layout.extents, part.layout.list_id, tree.now()));
    } else {
      const uint64_t upload = GetBe64(tail.substr(tail.size() - 8));
      tree.txn().Put(keys::EncodeChore({.due = tree.now(), .kind = Chore::kParts, .id = upload}),
                     Done());
    }
  }
  if (rows.size() < limit) tree.txn().Delete(row);
  return Status::Ok();
}

}  // namespace perigee::objectd
