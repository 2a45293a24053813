// CompleteUpload: the parts' blobs become one object's, without copying. The object holds them in
// its own name before the parts let go. When they are too many for one commit an extent list is
// built first, in commits of its own, while the parts still hold the blobs; the last commit checks
// that the parts are still those that the list was built from.

#include <utility>

#include "base/bytes.h"
#include "base/crypto.h"
#include "base/failpoint.h"
#include "objectd/meta/multipart.h"
#include "objectd/meta/namespace_impl.h"
#include "objectd/meta/s3_path.h"
#include "objectd/volume/reference.h"

namespace perigee::objectd {
namespace {

constexpr uint64_t kPartBytesMin = 5 << 20;
constexpr Nanos kResultKept = 24 * 3600 * kSecond;
constexpr size_t kScanBatch = 1000;
constexpr int kPlansMax = 8;  // each new one because a part was replaced meanwhile

std::string_view Unquote(std::string_view etag) {
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"')
    etag = etag.substr(1, etag.size() - 2);
  return etag;
}

std::optional<std::string> HexDecode(std::string_view hex) {
  std::string raw;
  if (hex.size() % 2 != 0) return std::nullopt;
  auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int high = digit(hex[i]), low = digit(hex[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    raw.push_back(static_cast<char>(high << 4 | low));
  }
  return raw;
}

// Blobs that continue those before: one extent says both.
bool Joins(const wire::Extent& before, const wire::Extent& next) {
  return before.volume == next.volume && before.blob_bytes == next.blob_bytes &&
         before.first_seq + before.count == next.first_seq &&
         before.length == before.count * before.blob_bytes;
}

void Append(std::vector<wire::Extent>* all, wire::Extent extent, uint64_t shift) {
  extent.offset += shift;
  if (!all->empty() && Joins(all->back(), extent)) {
    all->back().length += extent.length;
    all->back().count += extent.count;
  } else {
    all->push_back(std::move(extent));
  }
}

Result<std::vector<wire::Extent>> AllExtents(Tree& tree, const wire::Layout& layout) {
  if (layout.list_id == 0) return layout.extents;
  std::vector<wire::Extent> all;
  for (uint64_t offset = 0;;) {
    PERIGEE_ASSIGN(auto some, ReadListExtents(tree.txn(), layout.list_id, offset, kScanBatch));
    for (auto& e : some) all.push_back(std::move(e));
    if (some.size() < kScanBatch) return all;
    offset = all.back().offset + all.back().length;
  }
}

// Every part of an upload. Conflict-read as one range: a part replaced meanwhile fails the commit.
Result<std::vector<std::pair<uint32_t, PartRow>>> ReadParts(Tree& tree, uint64_t upload,
                                                            kv::ReadMode mode) {
  std::vector<std::pair<uint32_t, PartRow>> parts;
  kv::Range range = kv::PrefixRange(keys::PartPrefix(upload));
  while (true) {
    PERIGEE_ASSIGN(auto rows, tree.txn().Scan(range, kScanBatch, kv::Direction::kForward, mode));
    for (const auto& [key, value] : rows) {
      PERIGEE_ASSIGN(PartRow row, DecodeRow<PartRow>(value, "a part"));
      parts.emplace_back(GetBe32(std::string_view(key).substr(key.size() - 4)), std::move(row));
    }
    if (rows.size() < kScanBatch) return parts;
    range.begin = rows.back().first + std::string(1, '\0');
  }
}

}  // namespace

struct NamespaceImpl::CompletePlan {
  std::optional<wire::Record> done;                     // by an earlier call
  std::vector<std::pair<uint32_t, uint64_t>> part_ids;  // number, id: of the parts used
  std::vector<wire::Extent> extents;
  uint64_t size = 0;
  std::string etag;
  Content content;
  wire::FileId first_id = 0;
};

Result<NamespaceImpl::CompletePlan> NamespaceImpl::PlanComplete(
    const UploadInfo& upload, const std::vector<std::pair<uint32_t, std::string>>& wanted) {
  CompletePlan plan;
  PERIGEE_TRY(ReadDurable([&](Tree& tree) -> Status {
    plan = {};
    PERIGEE_ASSIGN(uint64_t id, UploadIdOf(upload));
    PERIGEE_ASSIGN(auto result, tree.txn().Get(keys::Completed(id), kv::ReadMode::kSnapshot));
    if (result) {
      PERIGEE_ASSIGN(CompletedRow row, DecodeRow<CompletedRow>(*result, "a completed upload"));
      PERIGEE_ASSIGN(Node bucket, FindBucket(tree, upload.bucket, kv::ReadMode::kSnapshot));
      if (row.key != upload.key || row.bucket != bucket.record.id)
        return NoSuchUpload(upload.upload_id);
      plan.done = std::move(row.record);
      return Status::Ok();
    }
    PERIGEE_TRY(FindUpload(tree, upload, kv::ReadMode::kSnapshot).status());
    if (wanted.empty())
      return Status(Code::kInvalidArgument,
                    "InvalidPart: an upload is completed with at least one part");
    for (size_t i = 1; i < wanted.size(); ++i) {
      if (wanted[i].first <= wanted[i - 1].first) {
        return Status(Code::kInvalidArgument,
                      "InvalidPartOrder: the parts are not in ascending order");
      }
    }
    PERIGEE_ASSIGN(auto parts, ReadParts(tree, id, kv::ReadMode::kSnapshot));
    Hasher hasher(HashKind::kMd5);
    auto part = parts.begin();
    for (size_t i = 0; i < wanted.size(); ++i) {
      const auto& [number, etag] = wanted[i];
      while (part != parts.end() && part->first < number) ++part;
      if (part == parts.end() || part->first != number || part->second.etag != Unquote(etag)) {
        return Status(Code::kInvalidArgument, "InvalidPart: part " + std::to_string(number) +
                                                  " is not there with that ETag");
      }
      const PartRow& row = part->second;
      if (i + 1 < wanted.size() && row.size < kPartBytesMin) {
        return Status(Code::kInvalidArgument,
                      "EntityTooSmall: part " + std::to_string(number) + " is below 5 MiB");
      }
      auto digest = HexDecode(row.etag);
      hasher.Update(AsBytes(digest ? *digest : row.etag));
      PERIGEE_ASSIGN(auto extents, AllExtents(tree, row.layout));
      for (auto& e : extents) Append(&plan.extents, std::move(e), plan.size);
      plan.size += row.size;
      plan.part_ids.emplace_back(number, row.part_id);
    }
    plan.etag = HexEncode(hasher.Finish()) + "-" + std::to_string(wanted.size());
    return Status::Ok();
  }));
  return plan;
}

Status NamespaceImpl::FinishUpload(Tree& tree, const UploadInfo& upload, const CompletePlan& plan,
                                   const Preconditions& conditions, wire::Record* made) {
  PERIGEE_ASSIGN(OpenUpload open, FindUpload(tree, upload, kv::ReadMode::kConflict));
  PERIGEE_ASSIGN(auto parts, ReadParts(tree, open.id, kv::ReadMode::kConflict));
  auto part = parts.begin();
  for (const auto& [number, id] : plan.part_ids) {
    while (part != parts.end() && part->first < number) ++part;
    if (part == parts.end() || part->second.part_id != id) {
      return Status(Code::kStale, "part " + std::to_string(number) + " was replaced meanwhile");
    }
  }
  PERIGEE_ASSIGN(Node in, FindBucket(tree, upload.bucket, kv::ReadMode::kConflict));
  PERIGEE_ASSIGN(KeyPlace at, MakeKeyPlace(tree, in, upload.key, plan.first_id + 1));
  PERIGEE_ASSIGN(auto current, VisibleObject(tree, at, kv::ReadMode::kConflict));
  PERIGEE_TRY(CheckConditions(current, conditions, upload.key));
  wire::Version version{.size = plan.size,
                        .etag = plan.etag,
                        .layout = plan.content.layout,
                        .part_count = static_cast<uint32_t>(plan.part_ids.size())};
  PERIGEE_TRY(AcquireContent(tree.txn(), {plan.first_id, 1}, version.layout.extents,
                             version.layout.list_id, {}));
  PERIGEE_TRY(PutNewObject(tree, in, std::move(at), plan.first_id, std::move(version),
                           open.row.headers, made));
  CloseUpload(tree, open);
  tree.txn().Put(
      keys::Completed(open.id),
      EncodeRow(CompletedRow{.key = upload.key, .bucket = in.record.id, .record = *made}));
  tree.txn().Put(keys::EncodeChore(
                     {.due = tree.now() + kResultKept, .kind = Chore::kCompleted, .id = open.id}),
                 std::string(1, kFormatBody));
  return Status::Ok();
}

Result<wire::Record> NamespaceImpl::CompleteUpload(
    const UploadInfo& upload, const std::vector<std::pair<uint32_t, std::string>>& parts,
    const Preconditions& conditions) {
  for (int round = 0; round < kPlansMax; ++round) {
    PERIGEE_ASSIGN(CompletePlan plan, PlanComplete(upload, parts));
    if (plan.done) return std::move(*plan.done);
    PERIGEE_ASSIGN(plan.first_id, NewIds(1 + DirectoriesIn(upload.key)));
    PERIGEE_ASSIGN(plan.content, PrepareContent(std::move(plan.extents), 0, {}, plan.size));
    wire::Record made;
    PERIGEE_FAILPOINT_STATUS(meta_before_complete);
    Status finished = CommitDurable(
        [&](Tree& tree) { return FinishUpload(tree, upload, plan, conditions, &made); });
    // kStale: a part was replaced. kNotFound: another Complete may have been faster; the plan will
    // tell.
    const bool again = finished.Is(Code::kStale) || (finished.Is(Code::kNotFound) && round == 0);
    if (again) continue;
    PERIGEE_TRY(std::move(finished));
    PERIGEE_FAILPOINT_STATUS(meta_after_complete);
    CleanUp().Ignore();  // what is left is done by a later call
    return made;
  }
  return Status(Code::kBusy, "parts of the upload keep being replaced");
}

}  // namespace perigee::objectd
