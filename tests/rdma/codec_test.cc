#include "rdma/wire/codec.h"

#include <doctest/doctest.h>

#include "rdma/transport.h"
#include "rdma/wire/control.h"
#include "rdma/wire/meta.h"

using namespace perigee;
using namespace perigee::wire;

namespace {

// `count` elements of a repeated field, all of them empty.
std::string Empties(char tag, size_t count) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) bytes.append({static_cast<char>(tag << 3 | 2), '\0'});
  return bytes;
}

template <class M>
void CheckRefused(std::string_view bytes) {
  auto decoded = Decode<M>(bytes);
  CHECK(decoded.code() == Code::kCorrupt);
  CHECK(decoded.status().message().find("too many elements") != std::string::npos);
}

}  // namespace

TEST_CASE("a message of empty elements is refused before it takes more than its share of memory") {
  CheckRefused<ReadDirReply>(Empties(1, rdma::kHeaderBytesMax / 2));
  CheckRefused<ReadDirReply>(Empties(1, kDecodedSlackBytes / sizeof(DirItem) * 2));
  CheckRefused<Record>(Empties(13, rdma::kHeaderBytesMax / 2));
  // Nor when they lie deeper, and each level by itself would pass.
  std::string item = Empties(13, 20);
  item.insert(0, {'\x1a', static_cast<char>(item.size())});
  std::string page;
  for (int i = 0; i < 5000; ++i) page.append({'\x0a', static_cast<char>(item.size())}).append(item);
  CheckRefused<ReadDirReply>(page);
}

TEST_CASE("real pages are far from that bound, however short what they list") {
  ReadDirReply page;
  for (uint64_t id = 2; Encode(page).size() < rdma::kHeaderBytesMax / 8; ++id) {
    for (int i = 0; i < 64; ++i) {
      DirItem& item = page.items.emplace_back();
      item.key = item.name = "a";
      item.record.id = id;
      item.record.kind = FileKind::kDirectory;
      item.record.mode = 0755;
      item.record.atime = item.record.mtime = item.record.ctime = item.record.btime =
          1'700'000'000 * int64_t{1'000'000'000};
    }
  }
  const std::string bytes = Encode(page);
  auto decoded = Decode<ReadDirReply>(bytes);
  REQUIRE(decoded.ok());
  CHECK(decoded->items.size() == page.items.size());
  CHECK(page.items.size() * sizeof(DirItem) < 2 * DecodedBytesMax(bytes.size()) / 3);

  FeedReply feed;
  feed.changes.resize(3000);
  for (Change& change : feed.changes) {
    change.position = change.id = 2;
    change.kind = ChangeKind::kRemoved;
  }
  CHECK(Decode<FeedReply>(Encode(feed)).ok());
  ObjectdStatusReply status;
  status.counters.resize(500);  // few of them are no matter
  CHECK(Decode<ObjectdStatusReply>(Encode(status)).ok());
}
