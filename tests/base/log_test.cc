#include "base/log.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "temp_dir.h"

using namespace perigee;

// What `body` writes to stderr, by line.
template <class Body>
static std::vector<std::string> Lines(Body body) {
  TempDir temp;
  std::string path = temp / "err";
  int saved = dup(2);
  int fd = open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  dup2(fd, 2);
  body();
  dup2(saved, 2);
  close(saved);
  close(fd);
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST_CASE("a text line has time, level, daemon, event and fields, quoted where needed") {
  log::Configure("perigee-objectd", log::Level::kInfo, log::Format::kText);
  auto lines = Lines([] {
    log::Warn("drive_lost", {{"dir", "/mnt/d1"},
                             {"drive", 7},
                             {"remedy", "perigee drive replace /mnt/d1"},
                             {"empty", ""},
                             {"evil", "a\nb=\"c\""}});
  });
  REQUIRE(lines.size() == 1);
  CAPTURE(lines[0]);
  // 2024-01-02T03:04:05.678Z
  std::string shape = lines[0].substr(0, 24);
  for (char& c : shape) c = c >= '0' && c <= '9' ? '9' : c;
  CHECK(shape == "9999-99-99T99:99:99.999Z");
  CHECK(
      lines[0].substr(24) ==
      R"( warn perigee-objectd drive_lost dir=/mnt/d1 drive=7 remedy="perigee drive replace /mnt/d1")"
      R"( empty="" evil="a\nb=\"c\"")");
}

TEST_CASE("a JSON line parses, whatever bytes a field holds") {
  log::Configure("perigee-bufferd", log::Level::kDebug, log::Format::kJson);
  auto lines = Lines([] {
    log::Debug("odd", {{"bytes", std::string("a\xff\x01\"\\\n", 6)},
                       {"error", Status(Code::kIo, "bad drive")}});
  });
  log::Configure("perigee", log::Level::kInfo, log::Format::kText);
  REQUIRE(lines.size() == 1);
  auto json = nlohmann::json::parse(lines[0]);
  CHECK(json["level"] == "debug");
  CHECK(json["daemon"] == "perigee-bufferd");
  CHECK(json["event"] == "odd");
  CHECK(json["bytes"] == "a\xef\xbf\xbd\x01\"\\\n");
  CHECK(json["error"] == "I/O error: bad drive");
  CHECK(json["time"].get<std::string>().size() == 24);
}

TEST_CASE("what is below the level is not written") {
  log::Configure("perigee", log::Level::kWarn, log::Format::kText);
  auto lines = Lines([] {
    log::Debug("a");
    log::Info("b");
    log::Warn("c");
    log::Error("d");
  });
  log::Configure("perigee", log::Level::kInfo, log::Format::kText);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].ends_with(" warn perigee c"));
  CHECK(lines[1].ends_with(" error perigee d"));
}
