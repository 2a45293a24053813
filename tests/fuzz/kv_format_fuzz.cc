// The key-value store's own rows and batches, and the feed index over marks and gaps as they may
// have been stored. Batches are whole ones: RocksDB's log checks them, and its parser asserts.

#include "base/checksum.h"
#include "objectd/kv/feed_index.h"
#include "objectd/kv/store_format.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::objectd::kv;

void CheckRows(fuzz::Input input) {
  const std::string_view bytes = input.Rest();
  if (auto head = DecodeHead(bytes); head.ok()) PERIGEE_CHECK(EncodeHead(*head) == bytes);
  if (auto number = DecodeU64(bytes); number.ok()) PERIGEE_CHECK(EncodeU64(*number) == bytes);
  if (auto format = DecodeFormat(bytes); format.ok()) PERIGEE_CHECK(EncodeFormat(*format) == bytes);
  (void)PositionOfKey(bytes).ok();

  std::string record = "PKVS";
  record.append(bytes.substr(0, 4 + kStoreIdBytes));
  const uint32_t crc = Crc32c(AsBytes(record));
  record.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  if (auto format = DecodeFormat(record); format.ok())
    PERIGEE_CHECK(format->version == kFormatVersion || format->version == 0);
}

void CheckKeys(fuzz::Input input) {
  const Position position = input.Number<uint64_t>();
  for (const std::string& key :
       {MarkKey(position), GapKey(position), EventKey(position, input.Number<uint32_t>())}) {
    auto found = PositionOfKey(key);
    PERIGEE_CHECK(found.ok() && *found == position);
  }
}

void CheckBatch(fuzz::Input input) {
  CommitContent content;
  content.head = {input.Number<uint64_t>(), input.Number<uint64_t>(), input.Number<uint64_t>()};
  if (input.Number<uint8_t>() & 1) content.format = FormatRecord{.store_id = std::string(16, 'i')};
  while (!input.empty()) {
    const uint8_t what = input.Number<uint8_t>() % 3;
    std::string text = "E" + std::string(input.Text());
    if (what == 0) content.events.push_back(std::move(text));
    if (what == 1) content.writes.emplace_back(std::move(text), std::nullopt);
    if (what == 2) content.writes.emplace_back(std::move(text), std::string(input.Text()));
  }
  auto head = HeadOfBatch(EncodeBatch(content));
  PERIGEE_CHECK(head.ok() && EncodeHead(*head) == EncodeHead(content.head));
}

void CheckFeed(fuzz::Input input) {
  FeedIndex index(1 + input.Number<uint8_t>());
  const Position low_water = input.Number<uint16_t>();
  std::vector<FeedIndex::Mark> marks;
  std::vector<FeedIndex::Gap> gaps;
  Position at = low_water;  // what is stored lies behind it
  for (uint8_t left = input.Number<uint8_t>() % 16; left > 0; --left)
    marks.push_back({at += input.Number<uint8_t>(), input.Number<uint8_t>()});
  for (uint8_t left = input.Number<uint8_t>() % 16; left > 0; --left) {
    const Position last = at += input.Number<uint8_t>();
    gaps.push_back({last, at += input.Number<uint8_t>()});
  }
  index.Restore(low_water, input.Number<uint16_t>(), std::move(marks), std::move(gaps));
  for (int steps = 0; steps < 1000 && !input.empty(); ++steps) {
    const uint8_t by = input.Number<uint8_t>();
    const Position before = index.low_water();
    if (by == 0xff) {
      (void)index.AddGap({at, at + 10});
      at += 10;
    } else {
      (void)index.Commit(++at, by);
    }
    PERIGEE_CHECK(index.low_water() >= before && index.low_water() <= at);
    PERIGEE_CHECK(index.Check(at, at).ok() == !index.Lost(at));
    PERIGEE_CHECK(index.Check(at + 1, at).code() == Code::kResync);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  constexpr void (*kChecks[])(fuzz::Input) = {CheckRows, CheckKeys, CheckBatch, CheckFeed};
  kChecks[input.Number<uint8_t>() % std::size(kChecks)](input);
  return 0;
}
