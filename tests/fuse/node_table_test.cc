#include "fuse/node_table.h"

#include <doctest/doctest.h>

#include <cerrno>

#include "fuse/attributes.h"

using namespace perigee;
using namespace perigee::fuse;

static wire::Record FileRecord(wire::FileId id) {
  wire::Record r;
  r.id = id;
  return r;
}

TEST_CASE("a file keeps its node while the kernel remembers it") {
  NodeTable table;
  auto a = table.Lookup(FileRecord(7));
  auto b = table.Lookup(FileRecord(7));
  CHECK(a == b);
  CHECK(a->node_id != 1);
  table.Forget(a->node_id, 1);
  CHECK(table.Find(a->node_id) == a);
  table.Forget(a->node_id, 1);
  CHECK(table.Find(a->node_id) == nullptr);
  CHECK(table.Lookup(FileRecord(7))->node_id != a->node_id);
}

TEST_CASE("a retired node lives on for those who opened it and lookups find its successor") {
  NodeTable table;
  auto old = table.Lookup(FileRecord(7));
  table.Retire(*old);
  auto successor = table.Lookup(FileRecord(7));
  CHECK(successor->node_id != old->node_id);
  CHECK(successor->file == old->file);
  CHECK(table.Find(old->node_id) == old);
  // Forgetting the old one leaves the successor in place.
  table.Forget(old->node_id, 1);
  CHECK(table.Find(old->node_id) == nullptr);
  CHECK(table.Lookup(FileRecord(7)) == successor);
}

TEST_CASE("the root is never forgotten, nor is more forgotten than was looked up") {
  NodeTable table;
  table.Forget(1, 1000);
  CHECK(table.Find(1) != nullptr);
  auto a = table.Lookup(FileRecord(9));
  table.Forget(a->node_id, 50);
  CHECK(table.Find(a->node_id) == nullptr);
  table.Forget(a->node_id, 1);
  CHECK(table.size() == 1);
}

TEST_CASE("stat shows the committed version, and the burst file where it is being written") {
  wire::Record r = FileRecord(3);
  r.mode = 0640;
  r.mtime = -1;  // before 1970
  CHECK(StatOf(r).st_size == 0);
  CHECK(StatOf(r).st_mtim.tv_sec == -1);
  CHECK(StatOf(r).st_mtim.tv_nsec == 999'999'999);
  r.committed.emplace();
  r.committed->size = 1000;
  struct stat st = StatOf(r);
  CHECK(st.st_size == 1000);
  CHECK(st.st_blocks == 2);
  CHECK(st.st_mode == (S_IFREG | 0640));
  CHECK(st.st_ino == 3);
  struct stat backing {};
  backing.st_size = 5;
  Overlay(backing, &st);
  CHECK(st.st_size == 5);
  CHECK(st.st_ino == 3);
}

TEST_CASE("a failure becomes the errno that programs expect") {
  CHECK(ErrnoOf(Status(Code::kNotFound, "x")) == ENOENT);
  CHECK(ErrnoOf(Status(Code::kCrossDevice, "x")) == EXDEV);
  CHECK(ErrnoOf(Status(Code::kNoSpace, "x")) == ENOSPC);
  CHECK(ErrnoOf(Status(Code::kStale, "x")) == ESTALE);
  CHECK(ErrnoOf(Status(Code::kUnavailable, "x")) == EIO);
}
