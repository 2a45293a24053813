#include "tests/powercut/image.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <string>
#include <string_view>

namespace perigee::powercut {
namespace {

using namespace std::string_view_literals;

Ino File(Image& image, const std::string& name, Ino dir = Image::kRoot) {
  Ino ino = 0;
  CHECK(image.Make(dir, name, S_IFREG | 0600, {}, &ino) == 0);
  return ino;
}

std::string Text(const Image& image, Ino ino) {
  std::string out(image.Stat(ino).size, '?');
  CHECK(image.Read(ino, 0, out) == out.size());
  return out;
}

TEST_CASE(
    "a synced file with a synced name survives every cut, whatever was not synced beside it") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Image image;
    Ino a = File(image, "a");
    image.Write(a, 0, std::string(5000, 'x'));
    image.Sync(a);
    image.Sync(Image::kRoot);
    Ino b = File(image, "b");
    image.Write(b, 0, std::string(9000, 'y'));
    image.Cut(seed);
    REQUIRE(image.Find(Image::kRoot, "a") == a);
    CHECK(Text(image, a) == std::string(5000, 'x'));
  }
}

TEST_CASE(
    "what was not synced is lost in some cuts, there in others, and torn by sectors in some") {
  int whole = 0, old = 0, torn = 0, nameless = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    Image image;
    Ino a = File(image, "a");
    image.Write(a, 0, std::string(Image::kPage, 'o'));
    image.Sync(a);
    image.Write(a, 0, std::string(Image::kPage, 'n'));
    image.Cut(seed);
    if (image.Find(Image::kRoot, "a") == 0) {
      ++nameless;
      continue;
    }
    std::string seen = Text(image, a);
    REQUIRE(seen.size() == Image::kPage);
    for (size_t at = 0; at < seen.size(); at += Image::kSector)
      CHECK(seen.substr(at, Image::kSector) == std::string(Image::kSector, seen[at]));
    if (seen == std::string(Image::kPage, 'n'))
      ++whole;
    else if (seen == std::string(Image::kPage, 'o'))
      ++old;
    else
      ++torn;
  }
  CHECK(whole > 20);
  CHECK(old > 20);
  CHECK(torn > 20);
  CHECK(nameless > 20);
}

TEST_CASE("a page never shows a later write without the earlier ones to it") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Image image;
    Ino a = File(image, "a");
    image.Sync(Image::kRoot);
    image.Write(a, 0, "1"sv);
    image.Write(a, 2000, "2"sv);
    image.Write(a, Image::kPage, "the last page, which may be torn"sv);
    image.Cut(seed);
    std::string seen = Text(image, a);
    if (seen.size() > 2000 && seen[2000] == '2') CHECK(seen[0] == '1');
  }
}

TEST_CASE("a synced file without a synced name is gone when its directory was not written back") {
  int gone = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Image image;
    image.Sync(File(image, "a"));
    image.Cut(seed);
    gone += image.Find(Image::kRoot, "a") == 0;
  }
  CHECK(gone > 10);
  CHECK(gone < 60);
}

TEST_CASE("a rename is there whole or not at all, and a sync of either directory keeps it") {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Image image;
    Ino one = 0, two = 0;
    REQUIRE(image.Make(Image::kRoot, "one", S_IFDIR | 0700, {}, &one) == 0);
    REQUIRE(image.Make(Image::kRoot, "two", S_IFDIR | 0700, {}, &two) == 0);
    image.Sync(Image::kRoot);
    Ino moved = File(image, "f", one);
    File(image, "g", two);
    image.Sync(one);
    image.Sync(two);
    REQUIRE(image.Rename(one, "f", two, "g", true) == 0);
    bool synced = seed % 2 == 0;
    if (synced) image.Sync(seed % 4 == 0 ? one : two);
    image.Cut(seed);
    bool at_old = image.Find(one, "f") == moved, at_new = image.Find(two, "g") == moved;
    CHECK(at_old != at_new);
    CHECK(image.Find(two, "g") != 0);
    if (synced) CHECK(at_new);
  }
}

TEST_CASE(
    "an unlinked file comes back unless its directory was synced, with what was synced of it") {
  int back = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Image image;
    Ino a = File(image, "a");
    image.Write(a, 0, "kept"sv);
    image.Sync(a);
    image.Sync(Image::kRoot);
    REQUIRE(image.Unlink(Image::kRoot, "a") == 0);
    for (int i = 0; i < 600; ++i) {  // enough for what is not needed to be collected
      File(image, "t");
      image.Unlink(Image::kRoot, "t");
    }
    if (seed % 2) image.Sync(Image::kRoot);
    image.Cut(seed);
    bool there = image.Find(Image::kRoot, "a") == a;
    if (seed % 2) CHECK(!there);
    if (there) CHECK(Text(image, a) == "kept");
    back += there;
  }
  CHECK(back > 5);
}

TEST_CASE("truncation, holes and hard links") {
  Image image;
  Ino a = File(image, "a");
  image.Write(a, 0, std::string(3 * Image::kPage, 'x'));
  image.Punch(a, Image::kPage, Image::kPage);
  CHECK(image.Stat(a).bytes == 2 * Image::kPage);
  CHECK(image.Seek(a, 0, false) == Image::kPage);
  CHECK(image.Seek(a, Image::kPage, true) == 2 * Image::kPage);
  CHECK(Text(image, a)[Image::kPage] == 0);
  image.Truncate(a, 10);
  image.Truncate(a, 20);
  CHECK(Text(image, a) == std::string(10, 'x') + std::string(10, '\0'));
  REQUIRE(image.Link(a, Image::kRoot, "b") == 0);
  REQUIRE(image.Unlink(Image::kRoot, "a") == 0);
  image.Sync(a);
  image.Sync(Image::kRoot);
  image.Cut(1);
  CHECK(image.Find(Image::kRoot, "b") == a);
  CHECK(image.Stat(a).links == 1);
  CHECK(Text(image, a).size() == 20);
}

TEST_CASE("what lies below a kept name is durable at once") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Image image({"log"});
    Ino dir = 0;
    REQUIRE(image.Make(Image::kRoot, "log", S_IFDIR | 0700, {}, &dir) == 0);
    Ino a = File(image, "a", dir);
    image.Write(a, 0, "line\n"sv);
    image.Cut(seed);
    REQUIRE(image.Find(dir, "a") == a);
    CHECK(image.Find(Image::kRoot, "log") == dir);
    CHECK(Text(image, a) == "line\n");
  }
}

}  // namespace
}  // namespace perigee::powercut
