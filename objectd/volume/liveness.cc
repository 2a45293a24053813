#include "objectd/volume/liveness.h"

namespace perigee::objectd {
namespace {

constexpr size_t kPageRows = 1000;

}  // namespace

Result<bool> IsReferenced(kv::Store& store, uint32_t volume, uint64_t seq) {
  bool referenced = false;
  auto read = store.Run([&](kv::Transaction& txn) -> Status {
    PERIGEE_ASSIGN(auto rows, txn.Scan(BlobReferences(volume, seq), 1, kv::Direction::kForward,
                                       kv::ReadMode::kSnapshot));
    referenced = !rows.empty();
    return Status::Ok();
  });
  if (!read.ok()) return std::move(read).TakeStatus();
  return referenced;
}

Result<BlobPage> ReferencedBlobs(kv::Store& store, uint32_t volume, uint64_t first, size_t limit) {
  BlobPage page;
  auto read = store.Run([&](kv::Transaction& txn) -> Status {
    page = {};
    PERIGEE_ASSIGN(auto rows, txn.Scan(VolumeReferences(volume, first), limit,
                                       kv::Direction::kForward, kv::ReadMode::kSnapshot));
    for (const auto& [key, value] : rows) {
      PERIGEE_ASSIGN(ReferenceRow row, DecodeReferenceKey(key));
      if (page.seqs.empty() || page.seqs.back() != row.seq) page.seqs.push_back(row.seq);
    }
    page.end = rows.size() < limit;
    page.next = page.seqs.empty() ? first : page.seqs.back() + 1;
    return Status::Ok();
  });
  if (!read.ok()) return std::move(read).TakeStatus();
  return page;
}

Status ForEachLease(kv::Store& store, const std::function<Status(const IntentRow&)>& visit) {
  kv::Range left = IntentRange();
  while (true) {
    std::vector<kv::KeyValue> rows;
    auto read = store.Run([&](kv::Transaction& txn) -> Status {
      PERIGEE_ASSIGN(rows,
                     txn.Scan(left, kPageRows, kv::Direction::kForward, kv::ReadMode::kSnapshot));
      return Status::Ok();
    });
    if (!read.ok()) return std::move(read).TakeStatus();
    for (const auto& [key, value] : rows) {
      PERIGEE_ASSIGN(IntentRow row, DecodeIntentValue(value));
      PERIGEE_TRY(visit(row));
    }
    if (rows.size() < kPageRows) return Status::Ok();
    left.begin = rows.back().first + '\0';
  }
}

Result<LeasedRanges> LeasedRanges::Read(kv::Store& store) {
  LeasedRanges ranges;
  PERIGEE_TRY(ForEachLease(store, [&](const IntentRow& row) {
    ranges.ends_[{row.volume, row.first_seq}] = row.first_seq + row.count;
    return Status::Ok();
  }));
  return ranges;
}

bool LeasedRanges::Covers(uint32_t volume, uint64_t seq) const {
  auto it = ends_.upper_bound({volume, seq});
  if (it == ends_.begin()) return false;
  --it;
  return it->first.first == volume && seq < it->second;
}

}  // namespace perigee::objectd
