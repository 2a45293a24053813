// Fsck of counts, each in one moment: all files, and the users of each extent list.

#include <algorithm>

#include "base/bytes.h"
#include "objectd/meta/fsck_page.h"
#include "objectd/meta/upload_rows.h"

namespace perigee::objectd {

using wire::FsckKind;

namespace {

constexpr size_t kRowsPerScan = 1000;
constexpr size_t kListHeadKeyBytes = 9;

std::string SpaceKey(kv::KeySpace space) { return std::string(1, static_cast<char>(space)); }

Status ForEach(FsckPage& page, const std::string& prefix,
               const std::function<Status(const std::string&, const std::string&)>& visit) {
  kv::Range range = kv::PrefixRange(prefix);
  while (true) {
    PERIGEE_ASSIGN(auto rows, page.txn().Scan(range, kRowsPerScan, kv::Direction::kForward,
                                              kv::ReadMode::kSnapshot));
    page.reply().looked += rows.size();
    for (const auto& [key, value] : rows) PERIGEE_TRY(visit(key, value));
    if (rows.size() < kRowsPerScan) return Status::Ok();
    range.begin = rows.back().first + '\0';
  }
}

// Each creation and removal of a file changes a counter, so that conflict reads of the counters
// make what was counted in the snapshot true at the commit.
Status CountFiles(FsckPage& page) {
  int64_t counted = 0, files = 0;
  for (uint8_t shard = 0; shard < kCountShards; ++shard) {
    PERIGEE_ASSIGN(auto value, page.Get(keys::FileCount(shard)));
    if (value && value->size() == 8) counted += GetLe<int64_t>(AsBytes(*value).data());
  }
  PERIGEE_TRY(ForEach(page, SpaceKey(kv::KeySpace::kIndex),
                      [&](const std::string&, const std::string& value) -> Status {
                        auto place = DecodeIndex(value);
                        files += place.ok() && !IsDirectoryComponent(place->component);
                        place.status().Ignore();  // found by the check of the index
                        return Status::Ok();
                      }));
  if (counted != files && page.Found(FsckKind::kWrongCounter,
                                     "the namespace counts " + std::to_string(counted) +
                                         " files, but has " + std::to_string(files),
                                     "sets the count"))
    page.txn().AtomicAdd(keys::FileCount(0), files - counted);
  return Status::Ok();
}

Status CountListUsers(FsckPage& page) {
  std::map<uint64_t, uint64_t> users;
  auto use = [&](const wire::Layout& layout) {
    if (layout.list_id != 0) users[layout.list_id]++;
  };
  auto use_record = [&](std::string_view value) {
    auto record = DecodeRow<wire::Record>(value, "a record");
    record.status().Ignore();  // a reference, or found by the check of the entries
    if (!record.ok()) return;
    for (const auto* v : {&record->committed, &record->previous})
      if (*v) use((*v)->layout);
  };
  for (kv::KeySpace space : {kv::KeySpace::kEntry, kv::KeySpace::kInode}) {
    PERIGEE_TRY(
        ForEach(page, SpaceKey(space), [&](const std::string&, const std::string& value) -> Status {
          use_record(value);
          return Status::Ok();
        }));
  }
  PERIGEE_TRY(ForEach(page, SpaceKey(kv::KeySpace::kUpload) + "p",
                      [&](const std::string&, const std::string& value) -> Status {
                        PERIGEE_ASSIGN(PartRow row, DecodeRow<PartRow>(value, "a part"));
                        use(row.layout);
                        return Status::Ok();
                      }));
  return ForEach(page, SpaceKey(kv::KeySpace::kExtentList),
                 [&](const std::string& key, const std::string& value) -> Status {
                   if (key.size() != kListHeadKeyBytes) return Status::Ok();
                   const uint64_t list = GetBe64(std::string_view(key).substr(1));
                   page.DependOn(key);  // whoever begins or ceases to use a list changes its head
                   auto head = DecodeListHead(value);
                   if (!head.ok()) {
                     page.Unreadable(key, head.status());
                     return Status::Ok();
                   }
                   // One that nobody uses yet, or any more, is the collector's.
                   if (head->dead || head->references == users[list]) return Status::Ok();
                   if (page.Found(FsckKind::kWrongCounter,
                                  "extent list " + std::to_string(list) + " counts " +
                                      std::to_string(head->references) + " users, but has " +
                                      std::to_string(users[list]),
                                  "sets the count")) {
                     head->references = users[list];
                     page.Put(key, ListHeadValue(*head));
                     GarbageKey garbage;
                     garbage.time = page.now();
                     garbage.kind = GarbageKind::kList;
                     garbage.first = list;
                     if (head->references == 0)
                       page.Put(EncodeGarbageKey(garbage), GarbageValue({}));
                   }
                   return Status::Ok();
                 });
}

}  // namespace

Status FsckCounters(FsckPage& page) {
  wire::FsckReply& reply = page.reply();
  Status counted = CountFiles(page);
  PERIGEE_ASSIGN(auto heads, page.txn().Scan(kv::PrefixRange(SpaceKey(kv::KeySpace::kExtentList)),
                                             2, kv::Direction::kForward, kv::ReadMode::kSnapshot));
  if (counted.ok() && !heads.empty()) counted = CountListUsers(page);
  if (counted.Is(Code::kTooLarge)) {  // the store lets no transaction run longer
    reply.notes.push_back("counts: there is too much to count in one moment");
    counted = Status::Ok();
  }
  reply.end = true;
  return counted;
}

}  // namespace perigee::objectd
