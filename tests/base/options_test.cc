#include "base/options.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>

#include "temp_dir.h"

using namespace perigee;

namespace {

struct Settings {
  std::string name = "n0";
  std::vector<std::string> disks;
  uint64_t budget = 10ull << 30;
  uint64_t threads = 4;
  Nanos linger = 2 * kSecond;
  bool verbose = false;
  bool sync = true;
  std::vector<std::string> paths;
};

// A program nobody has a configuration file for.
struct Program {
  Settings s;
  Options options{"perigee-options-test", "Tests options."};
  Program() {
    options.AddString("name", &s.name, "what it is called");
    options.AddStrings("disk", &s.disks, "a drive", "DIR");
    options.AddBytes("budget-bytes", &s.budget, "how much");
    options.AddCount("threads", &s.threads, 1, 64, "how many");
    options.AddDuration("linger", &s.linger, "how long");
    options.AddFlag("verbose", &s.verbose, "say more");
    options.AddFlag("sync", &s.sync, "sync each write");
    options.AddPositional(&s.paths, "PATH", 0, 2);
    options.SetExamples("  perigee-options-test --threads 2 /a");
  }
  Status Parse(std::vector<const char*> args) {
    args.insert(args.begin(), "perigee-options-test");
    auto outcome = options.Parse(static_cast<int>(args.size()), args.data());
    if (outcome.ok()) REQUIRE(*outcome == Options::Outcome::kRun);
    return outcome.status();
  }
};

std::string ErrorOf(std::vector<const char*> args) {
  Program p;
  Status st = p.Parse(std::move(args));
  CHECK((st.ok() || st.Is(Code::kInvalidArgument)));
  return st.message();
}

struct Env {
  const char* name;
  Env(const char* n, const char* value) : name(n) { setenv(n, value, 1); }
  ~Env() { unsetenv(name); }
};

}  // namespace

TEST_CASE("without anything the defaults stay") {
  Program p;
  REQUIRE(p.Parse({}).ok());
  CHECK(p.s.name == "n0");
  CHECK(p.s.budget == 10ull << 30);
  CHECK(p.s.sync);
  CHECK(p.s.disks.empty());
}

TEST_CASE("every kind of option can be given as a flag") {
  Program p;
  REQUIRE(p.Parse({"--name", "x y", "--disk=/d{1...2}", "--disk", "/e", "--budget-bytes", "64K",
                   "--threads=8", "--linger", "500ms", "--verbose", "--no-sync", "/a", "--", "--b"})
              .ok());
  CHECK(p.s.name == "x y");
  CHECK(p.s.disks == std::vector<std::string>{"/d1", "/d2", "/e"});
  CHECK(p.s.budget == 65536);
  CHECK(p.s.threads == 8);
  CHECK(p.s.linger == 500 * kMillisecond);
  CHECK(p.s.verbose);
  CHECK_FALSE(p.s.sync);
  CHECK(p.s.paths == std::vector<std::string>{"/a", "--b"});
}

TEST_CASE("a flag wins over the environment, and that over the file") {
  TempDir temp;
  std::string conf = temp / "c.conf";
  std::ofstream(conf) << "# comment\nname = file\nbudget-bytes = 1M\nthreads = 2\ndisk = /a\ndisk "
                         "= /b{1...2}\nverbose = yes\n"
                         "sync = false\n";
  Env name("PERIGEE_NAME", "environment"), budget("PERIGEE_BUDGET_BYTES", "2M");
  {
    Program p;
    REQUIRE(p.Parse({"--config", conf.c_str(), "--name", "flag"}).ok());
    CHECK(p.s.name == "flag");
    CHECK(p.s.budget == 2 << 20);
    CHECK(p.s.threads == 2);
    CHECK(p.s.disks == std::vector<std::string>{"/a", "/b1", "/b2"});
    CHECK(p.s.verbose);
    CHECK_FALSE(p.s.sync);
  }
  Env config("PERIGEE_CONFIG", conf.c_str()), disks("PERIGEE_DISK", "/x,/y{1...2}"),
      sync("PERIGEE_SYNC", "true");
  Program p;
  REQUIRE(p.Parse({}).ok());
  CHECK(p.s.name == "environment");
  CHECK(p.s.threads == 2);
  CHECK(p.s.disks == std::vector<std::string>{"/x", "/y1", "/y2"});
  CHECK(p.s.sync);
}

TEST_CASE("errors are one line with the option, the value and what is allowed") {
  CHECK(ErrorOf({"--threads", "99"}) == "--threads: '99' is not a number from 1 to 64");
  CHECK(ErrorOf({"--threads", "-1"}) == "--threads: '-1' is not a number from 1 to 64");
  CHECK(ErrorOf({"--threads", "99999999999999999999"}) ==
        "--threads: '99999999999999999999' is not a number from 1 to 64");
  CHECK(ErrorOf({"--budget-bytes", "12Q"}) ==
        "--budget-bytes: '12Q' is not a size such as 4096, 64K, 512M or 10G");
  CHECK(ErrorOf({"--linger", "soon"}) ==
        "--linger: 'soon' is not a duration such as 500ms, 2s, 10m or 1h");
  CHECK(ErrorOf({"--name"}) == "--name needs a value: TEXT");
  CHECK(ErrorOf({"--name="}) == "--name needs a value: TEXT");
  CHECK(ErrorOf({"--name", "a", "--name", "b"}) == "--name is given more than once");
  CHECK(ErrorOf({"--nam", "a"}) == "unknown option --nam; --help lists them");
  CHECK(ErrorOf({"-q"}).find("unknown option") == 0);
  CHECK(ErrorOf({"--verbose=maybe"}) == "--verbose is a flag and takes no value");
  CHECK(ErrorOf({"--sync", "--no-sync"}) == "--sync and --no-sync exclude each other");
  CHECK(ErrorOf({"--no-verbose"}) == "unknown option --no-verbose; --help lists them");
  CHECK(ErrorOf({"a", "b", "c"}) == "unexpected argument 'c'");
  CHECK(ErrorOf({"--disk", "/d{1..4}"}).find("--disk: '/d{1..4}' is not a pattern") == 0);
  Env threads("PERIGEE_THREADS", "none");
  CHECK(ErrorOf({}) == "PERIGEE_THREADS: 'none' is not a number from 1 to 64");
  CHECK(ErrorOf({"--threads", "2"}) == "");
}

TEST_CASE("errors of the file name the file") {
  TempDir temp;
  std::string conf = temp / "c.conf";
  auto error_of = [&](const char* text) {
    std::ofstream(conf) << text;
    return ErrorOf({"--config", conf.c_str()});
  };
  CHECK(error_of("threads = x\n") == conf + ": threads: 'x' is not a number from 1 to 64");
  CHECK(error_of("colour = red\n") == conf + ": unknown option 'colour'");
  CHECK(error_of("just words\n") == conf + ": 'just words' is not of the form name = value");
  CHECK(error_of("threads = 1\nthreads = 2\n") == conf + ": threads is given more than once");
  CHECK(error_of("verbose = perhaps\n") == conf + ": verbose: 'perhaps' is not true or false");
  CHECK(error_of("") == "");
  std::string none = temp / "none.conf";
  CHECK(ErrorOf({"--config", none.c_str()}) ==
        "configuration file: " + none + ": No such file or directory");
  CHECK(ErrorOf({"--config", temp.path().c_str()}).find(temp.path()) != std::string::npos);
}

TEST_CASE("a verb passes over what other verbs' options are in the file") {
  TempDir temp;
  std::string conf = temp / "c.conf";
  std::ofstream(conf) << "other = 1\nlong = true\n";
  bool is_long = false;
  Options options("perigee test-verb", "Lists.");
  options.AddFlag("long", &is_long, "all of it");
  const char* args[] = {"perigee", "--config", conf.c_str()};
  CHECK(options.Parse(3, args).ok());
  CHECK(is_long);
}

TEST_CASE("positional arguments are counted") {
  auto parse = [](size_t least, size_t most, std::vector<const char*> args) {
    std::vector<std::string> paths{"default"};
    Options options("perigee-options-test", "");
    options.AddPositional(&paths, "PATH", least, most);
    args.insert(args.begin(), "x");
    return options.Parse(static_cast<int>(args.size()), args.data()).status().message();
  };
  CHECK(parse(1, 1, {}) == "needs PATH");
  CHECK(parse(1, 0, {}) == "needs PATH or more");
  CHECK(parse(2, 2, {"a"}) == "needs 2 PATH");
  CHECK(parse(1, 0, {"a", "b", "c"}) == "");
  Options none("perigee-options-test", "");
  const char* args[] = {"x", "stray"};
  CHECK(none.Parse(2, args).status().message() == "unexpected argument 'stray'");
}

TEST_CASE("help shows usage, each option with its default, and the examples") {
  Program p;
  std::string help = p.options.Help();
  for (const char* part :
       {"Tests options.", "Usage: perigee-options-test [options] [PATH...]", "--budget-bytes SIZE",
        "(default 10G)", "(default 2s)", "--no-sync",
        "Examples:\n  perigee-options-test --threads 2 /a\n", "--help", "--config FILE"}) {
    CAPTURE(part);
    CHECK(help.find(part) != help.npos);
  }
}

TEST_CASE("sizes, durations and their errors") {
  CHECK(*ParseBytes("0") == 0);
  CHECK(*ParseBytes("4096") == 4096);
  CHECK(*ParseBytes("64K") == 65536);
  CHECK(*ParseBytes("64k") == 65536);
  CHECK(*ParseBytes("3MiB") == 3 << 20);
  CHECK(*ParseBytes("1T") == 1ull << 40);
  CHECK(*ParseBytes("16383P") == 16383ull << 50);
  for (const char* bad : {"", "K", "-1", "1.5G", "1 K", "16384P", "18446744073709551616", "64KB",
                          "iB", "64iB", "0x10", "+1"}) {
    CAPTURE(bad);
    CHECK(ParseBytes(bad).code() == Code::kInvalidArgument);
  }
  CHECK(*ParseDuration("0") == 0);
  CHECK(*ParseDuration("500ms") == 500 * kMillisecond);
  CHECK(*ParseDuration("10m") == 600 * kSecond);
  CHECK(*ParseDuration("1d") == 86400 * kSecond);
  for (const char* bad : {"", "s", "5", "-1s", "1.5s", "2 s", "1h30m", "9999999999h"}) {
    CAPTURE(bad);
    CHECK(ParseDuration(bad).code() == Code::kInvalidArgument);
  }
}

TEST_CASE("braces expand to ranges, several of them to every combination") {
  using Names = std::vector<std::string>;
  CHECK(*ExpandBraces("plain") == Names{"plain"});
  CHECK(*ExpandBraces("d{1...3}") == Names{"d1", "d2", "d3"});
  CHECK(*ExpandBraces("n{1...2}/d{09...10}x") == Names{"n1/d09x", "n1/d10x", "n2/d09x", "n2/d10x"});
  CHECK(*ExpandBraces("{18446744073709551615...18446744073709551615}") ==
        Names{"18446744073709551615"});
  for (const char* bad : {"{", "}", "d{}", "d{1}", "d{3...1}", "d{a...b}", "d{1..3}", "}{",
                          "d{1...3", "{1...{2...3}}", "{0...4096}", "{1...100}{1...100}"}) {
    CAPTURE(bad);
    CHECK(ExpandBraces(bad).code() == Code::kInvalidArgument);
  }
}

TEST_CASE("bytes are shown short") {
  CHECK(FormatBytes(0) == "0 B");
  CHECK(FormatBytes(1023) == "1023 B");
  CHECK(FormatBytes(1024) == "1 KiB");
  CHECK(FormatBytes(1536ull << 20) == "1.5 GiB");
  CHECK(FormatBytes((1ull << 20) - 1) == "1 MiB");
  CHECK(FormatBytes(UINT64_MAX) == "16 EiB");
}

TEST_CASE("addresses are host and port, IPv6 in brackets") {
  auto at = ParseHostPort("127.0.0.1:9000");
  REQUIRE(at.ok());
  CHECK((at->host == "127.0.0.1" && at->port == 9000));
  CHECK((ParseHostPort("[::1]:0")->host == "::1"));
  CHECK((ParseHostPort("node-1.example:65535")->port == 65535));
  for (const char* bad : {"", ":9000", "host", "host:", "host:x", "host:65536", "host:-1", "::1:80",
                          "[]:80", "[host]:80", "[::1]", "a b:1", "http://h:80", "h:80 "}) {
    CAPTURE(bad);
    CHECK(ParseHostPort(bad).code() == Code::kInvalidArgument);
  }
}
