// A process with a RocksStore is killed at each failpoint of its paths; what it had acknowledged
// must be there afterwards, whole, on every mirror in sync.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iterator>
#include <sstream>

#include "base/disk.h"
#include "base/failpoint.h"
#include "tests/objectd/kv/rocks_fixture.h"

#ifdef PERIGEE_FAILPOINTS

namespace perigee::objectd::kv::testing {
namespace {

constexpr const char* kDirVariable = "PERIGEE_KV_CRASH_DIR";
constexpr const char* kSpecVariable = "PERIGEE_KV_CRASH_AT";
constexpr int kTransactions = 24, kAddAt = 8, kEjectAt = 16;

// Who is in sync, in a file, as the superblocks would have it.
class FileMembership final : public MirrorMembership {
 public:
  explicit FileMembership(const std::string& root) : path_(root + "/in_sync") {}
  Status Eject(uint64_t drive_id, const std::string&) override {
    std::vector<uint64_t> ids = Read();
    std::erase(ids, drive_id);
    return Write(ids);
  }
  Status Admit(uint64_t drive_id) override {
    std::vector<uint64_t> ids = Read();
    ids.push_back(drive_id);
    return Write(ids);
  }
  Status Write(const std::vector<uint64_t>& ids) {
    std::string text;
    for (uint64_t id : ids) text += std::to_string(id) + "\n";
    return WriteFileAtomically(*disk_, path_, text);
  }
  std::vector<uint64_t> Read() {
    Result<std::string> text = ReadWholeFile(*disk_, path_, 4096);
    if (!text.ok()) return {};
    std::istringstream in(*text);
    return {std::istream_iterator<uint64_t>(in), {}};
  }

 private:
  const std::string path_;
  std::unique_ptr<Disk> disk_ = CreatePosixDisk();
};

RocksStoreOptions OptionsOf(const std::string& root, FileMembership& membership) {
  RocksStoreOptions options;
  options.membership = &membership;
  options.memory_bytes = 16 << 20;
  for (uint64_t id : membership.Read()) {
    options.mirrors.push_back({id, root + "/drive" + std::to_string(id) + "/meta"});
  }
  return options;
}

Status CommitNumber(Store& store, int i) {
  return store.RunDurable([&](Transaction& txn) {
    txn.Put("a" + std::to_string(1000 + i), "value");
    txn.Put("X" + std::to_string(1000 + i), std::string(2000, 'x'));
    txn.AtomicAdd("n", 1);
    txn.Emit(std::to_string(i));
    return Status::Ok();
  });
}

// Runs in a process of its own and is expected to be killed.
TEST_CASE("crash child" * doctest::skip()) {
  const char* root = std::getenv(kDirVariable);
  const char* spec = std::getenv(kSpecVariable);
  if (root == nullptr || spec == nullptr) return;
  FileMembership membership(root);
  auto store = RocksStore::Open(OptionsOf(root, membership));
  REQUIRE(store.ok());
  REQUIRE(failpoint::Arm(spec).ok());
  int acked = open((std::string(root) + "/acked").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  REQUIRE(acked >= 0);
  for (int i = 0; i < kTransactions; ++i) {
    if (i == kAddAt) {
      REQUIRE((*store)->AddMirror({3, std::string(root) + "/drive3/meta"}).ok());
    }
    if (i == kEjectAt) REQUIRE((*store)->EjectMirror(1, "crash test").ok());
    REQUIRE(CommitNumber(**store, i).ok());
    REQUIRE(write(acked, "x", 1) == 1);
  }
}

// The signal that ended the child; 0 when it ended by itself.
int RunChild(const std::string& root, const std::string& spec) {
  std::string dir = std::string(kDirVariable) + "=" + root;
  std::string at = std::string(kSpecVariable) + "=" + spec;
  const char* argv[] = {"crash_child", "--no-skip", "-tc=crash child", nullptr};
  std::vector<char*> env;
  for (char** e = environ; *e != nullptr; ++e) env.push_back(*e);
  env.push_back(dir.data());
  env.push_back(at.data());
  env.push_back(nullptr);
  posix_spawn_file_actions_t quiet;
  posix_spawn_file_actions_init(&quiet);
  posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, (root + "/child.log").c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&quiet, STDOUT_FILENO, STDERR_FILENO);
  pid_t pid = 0;
  int spawned =
      posix_spawn(&pid, "/proc/self/exe", &quiet, nullptr, const_cast<char**>(argv), env.data());
  posix_spawn_file_actions_destroy(&quiet);
  REQUIRE(spawned == 0);
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

// Numbers committed; checks that they are whole and without holes.
int CheckWhole(Store& store) {
  int n = static_cast<int>(ScanNow(store, PrefixRange("a")).size());
  for (int i = 0; i < n; ++i) {
    CHECK(GetNow(store, "a" + std::to_string(1000 + i)) == "value");
    CHECK(GetNow(store, "X" + std::to_string(1000 + i)) == std::string(2000, 'x'));
  }
  CHECK(GetNow(store, "n").value_or(Le64(0)) == Le64(static_cast<uint64_t>(n)));
  FeedPage feed = MustReadFeed(store, 0);
  CHECK(feed.events.size() == static_cast<size_t>(n));
  return n;
}

TEST_CASE("a process killed at any failpoint loses nothing that it acknowledged") {
  for (const char* spec :
       {"kv_commit_before=kill@5", "kv_commit_after=kill@6", "kv_mirror_before_write=kill@14",
        "kv_mirror_after_write=kill@15", "kv_mirror_before_sync=kill@7",
        "kv_mirror_after_sync=kill@8", "kv_durable_before_reply=kill@5", "kv_copy_before_sync=kill",
        "kv_copy_after_sync=kill", "kv_admit_before=kill", "kv_admit_after=kill",
        "kv_eject_before=kill", "kv_eject_after=kill"}) {
    CAPTURE(spec);
    TempDir dir;
    std::string root = dir.Path("root");
    std::filesystem::create_directories(root);
    FileMembership membership(root);
    REQUIRE(membership.Write({1, 2}).ok());
    RocksStoreOptions options = OptionsOf(root, membership);
    options.create = true;
    REQUIRE(RocksStore::Open(options).ok());

    CHECK(RunChild(root, spec) == SIGKILL);

    std::error_code none;
    auto acked = std::filesystem::file_size(root + "/acked", none);
    auto store = RocksStore::Open(OptionsOf(root, membership));
    INFO(store.status().ToString());
    REQUIRE(store.ok());
    int n = CheckWhole(**store);
    CHECK(n >= static_cast<int>(none ? 0 : acked));
    std::vector<uint64_t> in_sync = (*store)->InSync(), recorded = membership.Read();
    std::sort(in_sync.begin(), in_sync.end());
    std::sort(recorded.begin(), recorded.end());
    CHECK(in_sync == recorded);
    REQUIRE(CommitNumber(**store, n).ok());
    for (size_t i = 0; i + 1 < in_sync.size(); ++i) {
      REQUIRE((*store)->EjectMirror(in_sync[i], "look at the others alone").ok());
      CHECK(CheckWhole(**store) == n + 1);
    }
  }
}

}  // namespace
}  // namespace perigee::objectd::kv::testing

#endif
