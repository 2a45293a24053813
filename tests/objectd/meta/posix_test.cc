#include "tests/objectd/meta/fixture.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

TEST_CASE_FIXTURE(Fixture, "mkdir at the root makes a bucket and refuses what cannot be one") {
  CHECK(Must(ns->Mkdir(Make(wire::kRootId, "models"))).record.bucket.has_value());
  CHECK(ns->HeadBucket("models").ok());
  for (const char* bad : {"ab", "Models", "a_b", "-ab", "1.2.3.4", "a..b", "ab.", "xn--abc"}) {
    INFO(bad);
    CHECK(ns->Mkdir(Make(wire::kRootId, bad)).code() == Code::kInvalidArgument);
  }
  CHECK(ns->Mkdir(Make(wire::kRootId, "models")).code() == Code::kAlreadyExists);
  CHECK(ns->CreateFile(Make(wire::kRootId, "file")).code() == Code::kPermissionDenied);
  CHECK(ns->Symlink({.parent = wire::kRootId, .name = "link", .symlink = "x"}).code() ==
        Code::kPermissionDenied);
}

TEST_CASE_FIXTURE(Fixture, "names the kernel cannot have are refused") {
  auto b = Bucket("bucket");
  CHECK(ns->Mkdir(Make(b, "")).code() == Code::kInvalidArgument);
  CHECK(ns->Mkdir(Make(b, ".")).code() == Code::kInvalidArgument);
  CHECK(ns->Mkdir(Make(b, "..")).code() == Code::kInvalidArgument);
  CHECK(ns->Mkdir(Make(b, "a/b")).code() == Code::kInvalidArgument);
  CHECK(ns->Mkdir(Make(b, std::string(256, 'a'))).code() == Code::kTooLarge);
  CHECK(ns->Mkdir(Make(b, std::string(255, 'a'))).ok());
  CHECK(Lookup(b, std::string(256, 'a')).code() == Code::kTooLarge);
}

TEST_CASE_FIXTURE(Fixture,
                  "lookup finds by name, by path and by id, and says what is wrong otherwise") {
  auto b = Bucket("bucket");
  auto d = Dir(b, "d");
  auto f = File(d, "f", "hello");
  CHECK(Must(Lookup(d, "f")).record.id == f);
  CHECK(Must(Path("bucket/d/f")).record.id == f);
  CHECK(Must(Path("bucket//d/./f")).record.id == f);
  auto by_id = Must(ns->GetAttr({.id = f}));
  CHECK(by_id.parent == d);
  CHECK(by_id.name == "f");
  CHECK(Must(ns->GetAttr({.id = wire::kRootId})).record.kind == wire::FileKind::kDirectory);
  CHECK(Path("bucket/none/f").code() == Code::kNotFound);
  CHECK(Path("bucket/d/f/g").code() == Code::kNotDirectory);
  CHECK(Lookup(f, "g").code() == Code::kNotDirectory);
  CHECK(Lookup(99999, "g").code() == Code::kStale);
  CHECK(ns->GetAttr({.id = 99999}).code() == Code::kStale);
}

TEST_CASE_FIXTURE(Fixture, "a directory goes by rmdir only, when empty, and its id is then stale") {
  auto b = Bucket("bucket");
  auto d = Dir(b, "d");
  File(d, "f");
  CHECK(Unlink(b, "d") == Code::kIsDirectory);
  CHECK(Rmdir(d, "f") == Code::kNotDirectory);
  CHECK(Rmdir(b, "d") == Code::kNotEmpty);
  CHECK(Unlink(d, "f") == Code::kOk);
  CHECK(Unlink(d, "f") == Code::kNotFound);
  CHECK(Rmdir(b, "d") == Code::kOk);
  CHECK(ns->CreateFile(Make(d, "late")).code() == Code::kStale);
  CHECK(Rmdir(wire::kRootId, "bucket") == Code::kOk);
  CHECK(ns->HeadBucket("bucket").code() == Code::kNotFound);
}

TEST_CASE_FIXTURE(Fixture, "mkdir by path makes what is missing and takes what is there") {
  auto reply = Must(ns->Mkdir({.name = "bucket/a/b/c", .mode = 0750, .parents = true}));
  CHECK(Must(Path("bucket/a/b/c")).record.id == reply.record.id);
  CHECK(Must(ns->Mkdir({.name = "bucket/a/b/c", .mode = 0750, .parents = true})).record.id ==
        reply.record.id);
  auto a = Must(Path("bucket/a")).record.id;
  File(a, "f");
  CHECK(ns->Mkdir({.name = "bucket/a/f", .parents = true}).code() == Code::kAlreadyExists);
  CHECK(ns->Mkdir({.name = "bucket/a/f/g", .parents = true}).code() == Code::kNotDirectory);
  CHECK(ns->Mkdir({.name = "B/a", .parents = true}).code() == Code::kInvalidArgument);
}

TEST_CASE_FIXTURE(Fixture, "readdir pages through everything the mount can name, in order") {
  auto b = Bucket("bucket");
  Strings expected;
  for (int i = 0; i < 30; ++i) {
    std::string name = "n" + std::to_string(100 + i);
    if (i % 3 == 0)
      Dir(b, name);
    else
      File(b, name);
    expected.push_back(name);
  }
  Must(Put("bucket", "."));
  Must(Put("bucket", "../x"));
  Must(Put("bucket", "//x"));
  Must(Put("bucket", std::string(300, 'z')));
  for (uint32_t page : {1u, 2u, 7u, 1000u}) CHECK(Names(b, page) == expected);
}

TEST_CASE_FIXTURE(Fixture,
                  "a directory hides the object of its name on the mount, and S3 still has both") {
  auto b = Bucket("bucket");
  Must(Put("bucket", "a", "object"));
  Must(Put("bucket", "a/b", "inside"));
  Must(Put("bucket", "a-c", "between"));
  CHECK(Must(Lookup(b, "a")).record.kind == wire::FileKind::kDirectory);
  for (uint32_t page : {1u, 2u, 10u}) CHECK(Names(b, page) == Strings{"a-c", "a"});
  CHECK(Must(Get("bucket", "a")) == "object");
  CHECK(Must(Get("bucket", "a/b")) == "inside");
  CHECK(Unlink(b, "a") == Code::kIsDirectory);
  auto a = Must(Lookup(b, "a")).record.id;
  CHECK(Unlink(a, "b") == Code::kOk);
  CHECK(Rmdir(b, "a") == Code::kOk);
  CHECK(Must(Lookup(b, "a")).record.kind == wire::FileKind::kFile);
}

TEST_CASE_FIXTURE(Fixture, "directory times follow changes inside, and utimens sets them back") {
  auto b = Bucket("bucket");
  auto d = Dir(b, "d");
  const int64_t made = Must(ns->GetAttr({.id = d})).record.mtime;
  clock.Advance(5 * kSecond);
  File(d, "f");
  auto later = Must(ns->GetAttr({.id = d})).record;
  CHECK(later.mtime == made + 5 * kSecond);
  CHECK(later.ctime == made + 5 * kSecond);
  clock.Advance(kSecond);
  CHECK(Unlink(d, "f") == Code::kOk);
  CHECK(Must(Path("bucket/d")).record.mtime == made + 6 * kSecond);
  auto set = Must(ns->SetAttr({.id = d, .set_mtime = true, .mtime = 77}));
  CHECK(set.record.mtime == 77);
  CHECK(Must(ns->GetAttr({.id = d})).record.mtime == 77);
  CHECK(Must(ns->GetAttr({.id = d})).record.ctime == made + 6 * kSecond);
  clock.Advance(kSecond);
  Dir(d, "sub");
  CHECK(Must(ns->ReadDir({.dir = b})).items[0].record.mtime == made + 7 * kSecond);
}

TEST_CASE_FIXTURE(
    Fixture, "links count, live in one bucket, and keep the content until the last name goes") {
  auto b = Bucket("bucket");
  auto other = Bucket("other");
  auto d = Dir(b, "d");
  auto f = File(b, "f", "shared");
  CHECK(ns->Link({.id = f, .new_parent = other, .new_name = "g"}).code() == Code::kCrossDevice);
  CHECK(ns->Link({.id = d, .new_parent = b, .new_name = "g"}).code() == Code::kPermissionDenied);
  CHECK(Must(ns->Link({.id = f, .new_parent = d, .new_name = "g"})).record.nlink == 2);
  CHECK(ns->Link({.id = f, .new_parent = d, .new_name = "g"}).code() == Code::kAlreadyExists);
  CHECK(Must(ns->Link({.id = f, .new_parent = d, .new_name = "h"})).record.nlink == 3);
  Must(ns->SetAttr({.id = f, .set_mode = true, .mode = 0600}));
  CHECK(Must(Path("bucket/d/g")).record.mode == 0600);
  CHECK(Must(Get("bucket", "d/h")) == "shared");
  CHECK(Unlink(b, "f") == Code::kOk);
  CHECK(Must(ns->GetAttr({.id = f})).parent == d);
  CHECK(Must(Rename(d, "g", b, "moved")).moved.id == f);
  CHECK(Must(Rename(d, "h", b, "moved")).moved.id == f);  // the same file: nothing happens
  CHECK(Names(d) == Strings{"h"});
  CHECK(Unlink(d, "h") == Code::kOk);
  CHECK(Must(Path("bucket/moved")).record.nlink == 1);
  CHECK(Must(Get("bucket", "moved")) == "shared");
  CHECK(Unlink(b, "moved") == Code::kOk);
  CHECK(ns->ReadInline(f, 1).code() == Code::kStale);
}

TEST_CASE_FIXTURE(Fixture, "S3 replaces one name of a linked file and leaves the others") {
  auto b = Bucket("bucket");
  auto f = File(b, "f", "old");
  Must(ns->Link({.id = f, .new_parent = b, .new_name = "g"}));
  auto put = Must(Put("bucket", "f", "new"));
  CHECK(put.id != f);
  CHECK(Must(Get("bucket", "g")) == "old");
  CHECK(Must(ns->GetAttr({.id = f})).record.nlink == 1);
}

TEST_CASE_FIXTURE(Fixture, "extended attributes obey their flags and their bounds") {
  auto b = Bucket("bucket");
  auto f = File(b, "f");
  CHECK(ns->SetXattr({.id = f, .name = "user.a", .value = "1", .flags = 2}).code() ==
        Code::kNotFound);
  CHECK(Must(ns->SetXattr({.id = f, .name = "user.a", .value = "1", .flags = 1}))
            .record.xattrs.size() == 1);
  CHECK(ns->SetXattr({.id = f, .name = "user.a", .value = "2", .flags = 1}).code() ==
        Code::kAlreadyExists);
  CHECK(Must(ns->SetXattr({.id = f, .name = "user.a", .value = "2"})).record.xattrs[0].value ==
        "2");
  CHECK(ns->SetXattr({.id = f, .name = "user.b", .value = std::string(40000, 'x')}).code() ==
        Code::kTooLarge);
  Must(ns->SetXattr({.id = f, .name = "user.b", .value = std::string(20000, 'x')}));
  CHECK(ns->SetXattr({.id = f, .name = "user.c", .value = std::string(20000, 'x')}).code() ==
        Code::kNoSpace);
  CHECK(Must(ns->RemoveXattr({.id = f, .name = "user.b"})).record.xattrs.size() == 1);
  CHECK(ns->RemoveXattr({.id = f, .name = "user.b"}).code() == Code::kNotFound);
}

TEST_CASE_FIXTURE(Fixture,
                  "a caller to be checked is held to permission bits, groups and the sticky bit") {
  auto b = Bucket("bucket");
  Must(ns->SetAttr({.id = b, .set_mode = true, .mode = 01777}));
  const wire::Caller ann{.enforce = true, .uid = 10, .gid = 10, .groups = {50}};
  const wire::Caller bob{.enforce = true, .uid = 20, .gid = 20};
  const wire::Caller carl{.enforce = true, .uid = 30, .gid = 30, .groups = {50}};
  const wire::Caller root{.enforce = true};
  wire::MakeRequest q = Make(b, "ann", 0750);
  q.caller = ann;
  q.uid = 20;  // ann cannot make files of bob's
  q.gid = 50;
  auto d = Must(ns->Mkdir(q)).record;
  CHECK(d.uid == 10);
  CHECK(d.gid == 50);
  q = Make(d.id, "f", 0640);
  q.caller = bob;
  CHECK(ns->CreateFile(q).code() == Code::kPermissionDenied);
  q.caller = carl;
  CHECK(ns->CreateFile(q).code() == Code::kPermissionDenied);
  CHECK(ns->ReadDir({.caller = carl, .dir = d.id}).ok());
  CHECK(ns->ReadDir({.caller = bob, .dir = d.id}).code() == Code::kPermissionDenied);
  q.caller = ann;
  auto f = Must(ns->CreateFile(q)).record;
  CHECK(ns->Lookup({.caller = bob, .path = "bucket/ann/f"}).code() == Code::kPermissionDenied);
  CHECK(ns->Lookup({.caller = carl, .path = "bucket/ann/f"}).ok());
  CHECK(ns->OpenWrite({.caller = carl, .id = f.id, .node = 1, .burst = 1}).code() ==
        Code::kPermissionDenied);
  CHECK(ns->OpenWrite({.caller = root, .id = f.id, .node = 1, .burst = 1}).ok());
  // Sticky: bob may write to the bucket, but not take away what is ann's.
  CHECK(ns->Rmdir({.caller = bob, .parent = b, .name = "ann"}).code() == Code::kPermissionDenied);
  CHECK(ns->Rename({.caller = bob, .parent = b, .name = "ann", .new_parent = b, .new_name = "x"})
            .code() == Code::kPermissionDenied);
  CHECK(ns->Rename({.caller = ann, .parent = b, .name = "ann", .new_parent = b, .new_name = "x"})
            .ok());
  // Attributes.
  CHECK(ns->SetAttr({.caller = bob, .id = f.id, .set_mode = true, .mode = 0777}).code() ==
        Code::kPermissionDenied);
  CHECK(ns->SetAttr({.caller = ann, .id = f.id, .set_uid = true, .uid = 20}).code() ==
        Code::kPermissionDenied);
  CHECK(ns->SetAttr({.caller = ann, .id = f.id, .set_gid = true, .gid = 99}).code() ==
        Code::kPermissionDenied);
  CHECK(ns->SetAttr({.caller = ann, .id = f.id, .set_gid = true, .gid = 50}).ok());
  CHECK(ns->SetAttr({.caller = carl, .id = f.id, .set_mtime = true, .mtime = 5}).code() ==
        Code::kPermissionDenied);
  CHECK(ns->SetAttr({.caller = ann, .id = f.id, .set_mtime = true, .mtime = 5}).ok());
}

TEST_CASE_FIXTURE(Fixture, "a set-group-id directory hands its group down") {
  auto b = Bucket("bucket");
  auto d = Dir(b, "d");
  Must(ns->SetAttr({.id = d, .set_mode = true, .set_gid = true, .mode = 02775, .gid = 44}));
  auto sub = Must(ns->Mkdir(Make(d, "sub"))).record;
  CHECK(sub.gid == 44);
  CHECK((sub.mode & 02000) != 0);
  CHECK(Must(ns->GetAttr({.id = Create(sub.id, "f", 1, 1)})).record.gid == 44);
}

TEST_CASE_FIXTURE(Fixture, "mknod and symlink keep what they were given") {
  auto b = Bucket("bucket");
  auto link = Must(ns->Symlink({.parent = b, .name = "l", .symlink = "../target"})).record;
  CHECK(link.kind == wire::FileKind::kSymlink);
  CHECK(Must(Lookup(b, "l")).record.symlink == "../target");
  auto pipe =
      Must(ns->Mknod({.parent = b, .name = "p", .mode = 0600, .kind = wire::FileKind::kFifo}))
          .record;
  CHECK(pipe.kind == wire::FileKind::kFifo);
  CHECK(ns->Mknod({.parent = b, .name = "d", .kind = wire::FileKind::kDirectory}).code() ==
        Code::kInvalidArgument);
  Must(ns->Mknod({.parent = b, .name = "empty", .mode = 0600}));
  CHECK(Keys("bucket") == Strings{"empty"});  // S3 sees regular files only
  CHECK(ns->FileCount() == 3);
}

TEST_CASE_FIXTURE(Fixture,
                  "a create or mkdir with a reserved id may be repeated, also once it was moved") {
  wire::FileId bucket = Must(ns->Mkdir(Make(wire::kRootId, "models"))).record.id;
  wire::FileId first = Must(ns->ReserveIds({.count = 2})).first;
  wire::MakeRequest q = Make(bucket, "f", 0644);
  q.id = first;
  CHECK(Must(ns->CreateFile(q)).record.id == first);
  Must(Rename(bucket, "f", bucket, "g"));
  auto again = Must(ns->CreateFile(q));
  CHECK(again.record.id == first);
  CHECK(again.name == "g");
  CHECK(Names(bucket) == Strings{"g"});
  wire::MakeRequest d = Make(bucket, "g");
  d.id = first + 1;
  CHECK(ns->Mkdir(d).code() == Code::kAlreadyExists);
  d.name = "d";
  CHECK(Must(ns->Mkdir(d)).record.id == first + 1);
  CHECK(Must(ns->Mkdir(d)).record.id == first + 1);
}
