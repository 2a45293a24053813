// Golden bytes of what is stored: docs/formats/keys.md, record.md, uploads.md, change.md.

#include "base/bytes.h"
#include "objectd/meta/keys.h"
#include "objectd/meta/names.h"
#include "objectd/meta/tree.h"
#include "objectd/meta/upload_rows.h"
#include "tests/objectd/meta/fixture.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

TEST_CASE("keys have the bytes that docs/formats/keys.md says") {
  CHECK(HexEncode(keys::Entry(0x0102, "a/")) == "450000000000000102612f");
  CHECK(HexEncode(keys::Inode(3)) == "480000000000000003");
  CHECK(HexEncode(keys::Link(3, {1, "n"})) == "48000000000000000300000000000000016e");
  CHECK(HexEncode(keys::Index(3)) == "490000000000000003");
  CHECK(HexEncode(keys::Directory(3)) == "440000000000000003");
  CHECK(HexEncode(keys::DirectoryTime(3, 1)) == "43000000000000000301");
  CHECK(HexEncode(keys::FileCount(2)) == "43000000000000000002");
  CHECK(HexEncode(keys::MoveCount()) == "430000000000000000ff");
  CHECK(HexEncode(keys::Inline(3, 4)) == "5800000000000000030000000000000004");
  CHECK(HexEncode(keys::Upload(3, "k", 9)) ==
        "5575"
        "0000000000000003"
        "6b"
        "00"
        "0000000000000009");
  CHECK(HexEncode(keys::Part(9, 10000)) ==
        "5570"
        "0000000000000009"
        "00002710");
  CHECK(HexEncode(keys::Completed(9)) ==
        "5572"
        "0000000000000009");
  CHECK(HexEncode(keys::EncodeChore({.due = 5, .kind = Chore::kCompleted, .id = 9})) ==
        "5563"
        "0000000000000005"
        "02"
        "0000000000000009");
  CHECK(HexEncode(keys::Node(7)) == "4f0000000000000007");
  CHECK(keys::FileIdCounter() == "Aids.file");
  auto chore =
      *keys::DecodeChore(keys::EncodeChore({.due = 5, .kind = Chore::kCompleted, .id = 9}));
  CHECK(chore.due == 5);
  CHECK(chore.kind == Chore::kCompleted);
  CHECK(chore.id == 9);
  CHECK(*keys::DecodeLink(keys::Link(3, {1, "n"})) == Place{1, "n"});
  CHECK(keys::Successor("ab") == "ac");
  CHECK(keys::Successor("a\xff") == "b");
  CHECK(keys::Successor("\xff\xff") == "");
}

TEST_CASE("values have a format byte, and newer or broken ones are refused by name") {
  CHECK(HexEncode(EncodeIndex({5, "x/"})) == "010000000000000005782f");
  CHECK(*DecodeIndex(EncodeIndex({5, "x/"})) == Place{5, "x/"});
  CHECK(HexEncode(EncodeId(5)) == "010000000000000005");
  CHECK(HexEncode(EncodeReference(5)) == "020000000000000005");
  CHECK(DecodeIndex("\x03zzzzzzzzz").code() == Code::kUnimplemented);
  CHECK(DecodeIndex("").code() == Code::kCorrupt);
  CHECK(DecodeIndex("\x01zz").code() == Code::kCorrupt);
  CHECK(DecodeId("\x01zz").code() == Code::kCorrupt);
  CHECK(keys::DecodeLink("Hshort").code() == Code::kCorrupt);
  CHECK(keys::DecodeChore("Uc").code() == Code::kCorrupt);
  CHECK(DecodeRow<wire::Record>("\x01\xff\xff", "an entry").code() == Code::kCorrupt);
}

TEST_CASE("a record has the bytes that docs/formats/record.md says") {
  wire::Record r{.id = 300, .kind = wire::FileKind::kFile, .mode = 0644, .uid = 1000, .gid = 1000};
  r.mtime = 1'700'000'000'000'000'000;
  r.committed = wire::Version{
      .generation = 2, .size = 5, .etag = "e", .durability = wire::Durability::kObject};
  r.committed->layout = {
      .kind = wire::LayoutKind::kBlobs,
      .extents = {{.length = 5, .volume = 1, .first_seq = 9, .count = 1, .blob_bytes = 5}}};
  r.writer = wire::WriterInfo{.node = 1, .burst = 2, .generation = 3};
  CHECK(HexEncode(EncodeRow(r)) ==
        "01"
        "08ac02"
        "18a403"
        "20e807"
        "28e807"
        "388080d0e2c6bfce972f"
        "5001"
        "8a0119"
        "0802"
        "1005"
        "220165"
        "2803"
        "320e"
        "0802"
        "120a"
        "10051801200928013005"
        "9a0106"
        "080110021803");
  CHECK(*DecodeRow<wire::Record>(EncodeRow(r), "an entry") == r);
}

TEST_CASE("a record of a newer version keeps the fields this one does not know") {
  wire::Record r{.id = 300};
  std::string newer = EncodeRow(r) + std::string("\xfa\x3f\x03new", 6);  // field 1023
  auto read = *DecodeRow<wire::Record>(newer, "an entry");
  CHECK(EncodeRow(read) == newer);
}

TEST_CASE("upload rows and changes have the bytes that their documents say") {
  CHECK(HexEncode(EncodeRow(UploadRow{.initiated = 1, .headers = {{.name = "a", .value = "b"}}})) ==
        "01"
        "0802"
        "1206"
        "0a0161120162");
  PartRow part{.part_id = 1, .size = 2, .etag = "e", .checksum = "c", .modified = 3};
  part.layout.list_id = 4;
  CHECK(HexEncode(EncodeRow(part)) ==
        "01"
        "0801"
        "1002"
        "1a0165"
        "220163"
        "2806"
        "3202"
        "1804");
  CHECK(HexEncode(EncodeRow(CompletedRow{.key = "k", .bucket = 2, .record = {.id = 3}})) ==
        "01"
        "0a016b"
        "1002"
        "1a04"
        "08035001");
  wire::Change change{.kind = wire::ChangeKind::kRemoved,
                      .parent = 2,
                      .name = "n",
                      .path = "b/n",
                      .id = 3,
                      .generation = 4};
  CHECK(HexEncode(EncodeChange(change)) ==
        "01"
        "1001"
        "1802"
        "22016e"
        "2a03622f6e"
        "3003"
        "3804");
  CHECK(DecodeChange(EncodeChange(change))->path == "b/n");
}

TEST_CASE("a flipped byte in an entry is reported, never served as another file") {
  Fixture fix;
  auto b = fix.Bucket("bucket");
  auto f = fix.File(b, "f");
  std::string key = keys::Entry(b, "f"), good;
  auto put = [&](const std::string& value) {
    Must(fix.store
             ->Run([&](kv::Transaction& txn) -> Status {
               txn.Put(key, value);
               return Status::Ok();
             })
             .status());
  };
  Must(fix.store
           ->Run([&](kv::Transaction& txn) -> Status {
             PERIGEE_ASSIGN(auto value, txn.Get(key, kv::ReadMode::kSnapshot));
             good = *value;
             return Status::Ok();
           })
           .status());
  std::string newer = good, other = EncodeRow(wire::Record{.id = f + 1});
  newer[0] = 9;
  put(newer);
  CHECK(fix.Lookup(b, "f").code() == Code::kUnimplemented);
  CHECK(fix.ns->ReadDir({.dir = b}).code() == Code::kUnimplemented);
  put(other);
  CHECK(fix.ns->GetAttr({.id = f}).code() == Code::kCorrupt);
  put(good.substr(0, good.size() - 1));
  CHECK(fix.ns->GetAttr({.id = f}).code() == Code::kCorrupt);
  put(good);
  CHECK(fix.ns->GetAttr({.id = f}).ok());
}

TEST_CASE("names and keys are told from what is none") {
  std::string deep = "x";
  for (size_t i = 0; i < kS3KeyLevelsMax; ++i) deep.insert(0, "d/");
  CHECK(CheckKey(deep).ok());
  CHECK(CheckKey("/" + deep).Is(Code::kInvalidArgument));
  CHECK(CheckKey(std::string("a\0b", 3)).Is(Code::kInvalidArgument));
  CHECK(CheckKey("\xff").Is(Code::kInvalidArgument));
  CHECK(CheckKey(std::string(kS3KeyBytesMax + 1, 'k')).Is(Code::kTooLarge));
  CHECK(IsNameable("a b"));
  CHECK_FALSE(IsNameable("a/b"));
  CHECK(NameOf("a/") == "a");
  CHECK(NameOf("a") == "a");
}
