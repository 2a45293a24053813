#pragma once
// What the RocksStore tests share: a directory of their own, a membership record in memory, and a
// file system that can lose what was not synced, fail, or hang.

#include <doctest/doctest.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/event.h"
#include "objectd/kv/rocks_store.h"
#include "tests/objectd/kv/store_conformance.h"

namespace perigee::objectd::kv::testing {

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "perigee-kv-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string Path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

class FakeMembership final : public MirrorMembership {
 public:
  Status Eject(uint64_t drive_id, const std::string& reason) override {
    std::function<Status()> hook;
    {
      std::lock_guard lock(mu_);
      hook = on_eject_;
    }
    if (hook) PERIGEE_TRY(hook());
    std::lock_guard lock(mu_);
    std::erase(in_sync_, drive_id);
    ejected_.emplace_back(drive_id, reason);
    return Status::Ok();
  }
  Status Admit(uint64_t drive_id) override {
    std::lock_guard lock(mu_);
    if (refuse_admissions_) return Status(Code::kIo, "superblocks cannot be written");
    in_sync_.push_back(drive_id);
    return Status::Ok();
  }
  void Set(std::vector<uint64_t> in_sync) {
    std::lock_guard lock(mu_);
    in_sync_ = std::move(in_sync);
  }
  void OnEject(std::function<Status()> hook) {
    std::lock_guard lock(mu_);
    on_eject_ = std::move(hook);
  }
  void RefuseAdmissions(bool refuse) {
    std::lock_guard lock(mu_);
    refuse_admissions_ = refuse;
  }
  std::vector<uint64_t> in_sync() {
    std::lock_guard lock(mu_);
    return in_sync_;
  }
  std::vector<std::pair<uint64_t, std::string>> ejected() {
    std::lock_guard lock(mu_);
    return ejected_;
  }

 private:
  std::mutex mu_;
  std::vector<uint64_t> in_sync_;
  std::vector<std::pair<uint64_t, std::string>> ejected_;
  std::function<Status()> on_eject_;
  bool refuse_admissions_ = false;
};

// A file system under RocksDB that knows which bytes of each file were synced, and asks a hook
// before each operation.
class FaultFs final : public rocksdb::FileSystemWrapper {
 public:
  // "append", "sync" or "read", and the path; a failed status is what RocksDB gets. May block.
  using Hook = std::function<Status(std::string_view op, const std::string& path)>;

  FaultFs() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  static const char* kClassName() { return "FaultFs"; }
  const char* Name() const override { return kClassName(); }

  void SetHook(Hook hook) {
    std::lock_guard lock(mu_);
    hook_ = hook ? std::make_shared<Hook>(std::move(hook)) : nullptr;
  }
  // Copies `from` to `to` as the drive would look after a power cut now: of files written here,
  // only what was synced.
  void CopySynced(const std::string& from, const std::string& to) {
    std::lock_guard lock(mu_);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(from)) {
      std::string path = entry.path().string(), target = to + path.substr(from.size());
      if (entry.is_directory()) {
        std::filesystem::create_directories(target);
        continue;
      }
      std::filesystem::create_directories(std::filesystem::path(target).parent_path());
      std::filesystem::copy_file(path, target, std::filesystem::copy_options::overwrite_existing);
      auto synced = synced_.find(path);
      if (synced != synced_.end() && synced->second < std::filesystem::file_size(target)) {
        std::filesystem::resize_file(target, synced->second);
      }
    }
  }

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus st = target()->NewWritableFile(path, options, file, debug);
    if (!st.ok()) return st;
    Synced(path, 0);
    *file = std::make_unique<Writable>(*this, path, std::move(*file));
    return st;
  }
  rocksdb::IOStatus NewRandomAccessFile(const std::string& path,
                                        const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                                        rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus st = target()->NewRandomAccessFile(path, options, file, debug);
    if (st.ok()) *file = std::make_unique<Readable>(*this, path, std::move(*file));
    return st;
  }
  // Names survive a power cut here, so that syncing directories is nothing.
  rocksdb::IOStatus NewDirectory(const std::string& path, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* dir,
                                 rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus st = target()->NewDirectory(path, options, dir, debug);
    if (st.ok()) *dir = std::make_unique<Directory>();
    return st;
  }
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus st = target()->RenameFile(from, to, options, debug);
    std::lock_guard lock(mu_);
    auto it = synced_.find(from);
    if (st.ok() && it != synced_.end()) {
      synced_[to] = it->second;
      synced_.erase(from);
    }
    return st;
  }

 private:
  class Readable final : public rocksdb::FSRandomAccessFileOwnerWrapper {
   public:
    Readable(FaultFs& fs, std::string path, std::unique_ptr<rocksdb::FSRandomAccessFile> file)
        : FSRandomAccessFileOwnerWrapper(std::move(file)), fs_(fs), path_(std::move(path)) {}
    rocksdb::IOStatus Read(uint64_t offset, size_t n, const rocksdb::IOOptions& options,
                           rocksdb::Slice* result, char* scratch,
                           rocksdb::IODebugContext* debug) const override {
      rocksdb::IOStatus st = fs_.Ask("read", path_);
      return st.ok() ? target()->Read(offset, n, options, result, scratch, debug) : st;
    }
    rocksdb::IOStatus MultiRead(rocksdb::FSReadRequest* reqs, size_t n,
                                const rocksdb::IOOptions& options,
                                rocksdb::IODebugContext* debug) override {
      rocksdb::IOStatus st = fs_.Ask("read", path_);
      return st.ok() ? target()->MultiRead(reqs, n, options, debug) : st;
    }

   private:
    FaultFs& fs_;
    const std::string path_;
  };

  class Directory final : public rocksdb::FSDirectory {
   public:
    rocksdb::IOStatus Fsync(const rocksdb::IOOptions&, rocksdb::IODebugContext*) override {
      return rocksdb::IOStatus::OK();
    }
  };

  class Writable final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    Writable(FaultFs& fs, std::string path, std::unique_ptr<rocksdb::FSWritableFile> file)
        : FSWritableFileOwnerWrapper(std::move(file)), fs_(fs), path_(std::move(path)) {}
    using FSWritableFileOwnerWrapper::Append;
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override {
      rocksdb::IOStatus st = fs_.Ask("append", path_);
      return st.ok() ? target()->Append(data, options, debug) : st;
    }
    // The drive is only pretended: noting the size is the sync.
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
      rocksdb::IOStatus st = fs_.Ask("sync", path_);
      if (!st.ok()) return st;
      st = target()->Flush(options, debug);
      if (st.ok()) fs_.Synced(path_, target()->GetFileSize(options, debug));
      return st;
    }
    rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                            rocksdb::IODebugContext* debug) override {
      return Sync(options, debug);
    }

   private:
    FaultFs& fs_;
    const std::string path_;
  };

  rocksdb::IOStatus Ask(std::string_view op, const std::string& path) {
    std::shared_ptr<Hook> hook;
    {
      std::lock_guard lock(mu_);
      hook = hook_;
    }
    if (!hook) return rocksdb::IOStatus::OK();
    Status st = (*hook)(op, path);
    return st.ok() ? rocksdb::IOStatus::OK() : rocksdb::IOStatus::IOError(st.message());
  }
  void Synced(const std::string& path, uint64_t size) {
    std::lock_guard lock(mu_);
    synced_[path] = size;
  }

  std::mutex mu_;
  std::shared_ptr<Hook> hook_;
  std::map<std::string, uint64_t> synced_;
};

// A cluster's worth of mirrors in one temporary directory, drive ids from 1.
struct RocksFixture {
  TempDir dir;
  FakeMembership membership;
  ManualClock clock;
  std::shared_ptr<FaultFs> fs = std::make_shared<FaultFs>();
  std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(fs);
  RocksStoreOptions options;
  std::unique_ptr<RocksStore> store;

  RocksFixture() {
    options.membership = &membership;
    options.clock = &clock;
    options.env = env.get();
    options.memory_bytes = 16 << 20;
  }
  ~RocksFixture() {
    fs->SetHook(nullptr);
    store.reset();
  }

  MirrorPlace Place(uint64_t drive) {
    return {drive, dir.Path("drive" + std::to_string(drive)) + "/meta"};
  }
  std::string Dir(uint64_t drive) { return Place(drive).dir; }

  RocksStore& Create(int mirrors) {
    std::vector<uint64_t> ids;
    for (int i = 1; i <= mirrors; ++i) ids.push_back(static_cast<uint64_t>(i));
    membership.Set(ids);
    options.create = true;
    MustOpen();
    options.create = false;
    return *store;
  }
  Result<RocksStore*> TryOpen() {
    store.reset();
    options.mirrors.clear();
    for (uint64_t id : membership.in_sync()) options.mirrors.push_back(Place(id));
    Result<std::unique_ptr<RocksStore>> opened = RocksStore::Open(options);
    PERIGEE_TRY(opened.status());
    store = std::move(*opened);
    return store.get();
  }
  RocksStore& MustOpen() {
    Result<RocksStore*> opened = TryOpen();
    INFO(opened.status().ToString());
    REQUIRE(opened.ok());
    return **opened;
  }
  // Restarts as after a power cut: every drive keeps only what was synced.
  RocksStore& PowerCut() {
    for (uint64_t id : membership.in_sync()) fs->CopySynced(Dir(id), Dir(id) + ".cut");
    store.reset();
    for (uint64_t id : membership.in_sync()) {
      std::filesystem::remove_all(Dir(id));
      std::filesystem::rename(Dir(id) + ".cut", Dir(id));
    }
    return MustOpen();
  }

  // For the conformance suite.
  static constexpr int kMirrors = 2;
  static constexpr int kModelSize = 20;
  Store& Open(uint64_t feed_events_kept) {
    options.feed_events_kept = feed_events_kept;
    return Create(kMirrors);
  }
  Store& Reopen() { return PowerCut(); }
};

// Everything in the store of one mirror alone.
inline std::vector<KeyValue> ContentOf(RocksFixture& f, uint64_t drive) {
  RocksStoreOptions options = f.options;
  options.mirrors = {f.Place(drive)};
  Result<std::unique_ptr<RocksStore>> opened = RocksStore::Open(options);
  INFO(opened.status().ToString());
  REQUIRE(opened.ok());
  return ScanNow(**opened, {"", ""}, 1'000'000);
}

// Waits, on the real clock, for what other threads are about to do.
inline bool Eventually(const std::function<bool()>& holds) {
  Event never;
  for (int i = 0; i < 2000 && !holds(); ++i) never.WaitFor(5 * kMillisecond);
  return holds();
}

}  // namespace perigee::objectd::kv::testing
