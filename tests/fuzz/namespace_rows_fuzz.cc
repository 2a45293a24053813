// Keys and values that the namespace and the volumes keep in the store. A key that decodes encodes
// to itself.

#include "objectd/meta/keys.h"
#include "objectd/meta/upload_rows.h"
#include "objectd/volume/reference_keys.h"
#include "objectd/volume/volume_records.h"
#include "rdma/wire/meta.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::objectd;

void CheckNamespaceKeys(std::string_view key) {
  if (auto place = keys::DecodeLink(key); place.ok())
    PERIGEE_CHECK(keys::Link(GetBe64(key.substr(1)), *place).substr(1) == key.substr(1));
  if (auto chore = keys::DecodeChore(key); chore.ok())
    PERIGEE_CHECK(keys::EncodeChore(*chore).substr(2) == key.substr(2));
  if (key.size() >= 9)
    PERIGEE_CHECK(keys::EntryComponent(keys::Entry(1, key.substr(9))) == key.substr(9));
  const std::string successor = keys::Successor(key);
  if (!successor.empty()) PERIGEE_CHECK(successor > key && !successor.starts_with(key));
}

void CheckVolumeKeys(std::string_view key) {
  if (auto intent = DecodeIntentKey(key); intent.ok()) PERIGEE_CHECK(IntentKey(*intent) == key);
  if (auto row = DecodeReferenceKey(key); row.ok())
    PERIGEE_CHECK(ReferenceKey(row->volume, row->seq, row->owner) == key);
  if (auto garbage = DecodeGarbageKey(key); garbage.ok())
    PERIGEE_CHECK(EncodeGarbageKey(*garbage) == key);
  if (auto offset = DecodeListExtentKey(key); offset.ok())
    PERIGEE_CHECK(ListExtentKey(GetBe64(key.substr(1)), *offset) == key);
  if (IsVolumeKey(key)) PERIGEE_CHECK(VolumeKey(GetBe32(key.substr(1))) == key);
}

void CheckValues(std::string_view value) {
  if (auto place = DecodeIndex(value); place.ok()) PERIGEE_CHECK(EncodeIndex(*place) == value);
  if (auto id = DecodeId(value); id.ok()) PERIGEE_CHECK(EncodeId(*id) == value);
  if (auto epoch = DecodeEpoch(value); epoch.ok()) PERIGEE_CHECK(EncodeEpoch(*epoch) == value);
  (void)DecodeIntentValue(value).ok();
  (void)DecodeListHead(value).ok();
  (void)DecodeListExtent(value).ok();
  (void)DecodeGarbageValue(value).ok();
}

template <class Row>
void CheckRow(std::string_view value) {
  auto row = DecodeRow<Row>(value, "a row");
  if (!row.ok()) return;
  const std::string encoded = EncodeRow(*row);
  auto again = DecodeRow<Row>(encoded, "a row");
  PERIGEE_CHECK(again.ok() && EncodeRow(*again) == encoded);
}

void CheckRows(std::string_view value) {
  CheckRow<wire::Record>(value);
  CheckRow<UploadRow>(value);
  CheckRow<PartRow>(value);
  CheckRow<CompletedRow>(value);
  CheckRow<wire::RegisterNodeRequest>(value);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes = AsView(ConstBytes(data, size));
  CheckNamespaceKeys(bytes);
  CheckVolumeKeys(bytes);
  CheckValues(bytes);
  CheckRows(bytes);
  return 0;
}
