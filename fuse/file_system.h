#pragma once
// FileSystem: the mount's operations, from libfuse's low-level API to calls at the node's bufferd.
//
// Reads and writes of files that are wholly in the burst buffer go from the kernel to the burst
// file (passthrough) and are never seen here. Others are opened in cached mode: reads ask bufferd
// to make a range resident, then pread the burst file; writes pwrite it. close(2) publishes
// (FLUSH). OPEN validates with the namespace: that is close-to-open. Thread rule: libfuse calls the
// operations from many threads.

#include <sys/stat.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "client/buffer/burst_session.h"
#include "client/meta/meta_client.h"
#include "fuse/device.h"
#include "fuse/kept_opens.h"
#include "fuse/node_table.h"
#include "rdma/wire/control.h"

struct fuse_lowlevel_ops;

namespace perigee::fuse {

struct FileSystemOptions {
  double entry_timeout_s = 1.0;
  double attr_timeout_s = 1.0;
  uint32_t wait_fill_ms =
      2000;  // OPEN waits so long for residency before it answers in cached mode
  uint32_t read_ahead_kib = 8192;
};

// An open file. fh of the kernel is a pointer to it.
struct Handle {
  std::shared_ptr<Node> node;
  uint64_t burst_handle = 0;
  rdma::OwnedFd fd;  // read-only, or read-write when `writable_fd`
  bool writer = false;
  bool writable_fd = false;
  bool direct = false;  // O_DIRECT beside passthrough: I/O through here, mmap to the backing file
  bool ensure = false;  // not resident at open: ask for ranges first
  bool slow_writes = false;    // buffer nearly full: write through bufferd, which slows
  uint32_t users = 1;          // opens of the kernel; guarded by the node
  std::shared_ptr<Kept> kept;  // null: closed by its last user
};

// An open directory: the page of entries last fetched, and where pages began.
struct DirHandle {
  std::shared_ptr<Node> node;
  std::mutex mu;
  std::vector<std::string>
      page_after;            // guarded by mu; page_after[p] is the cursor that fetches page p
  size_t page = ~size_t{0};  // guarded by mu; the one in `items`
  std::vector<wire::DirItem> items;  // guarded by mu
  bool end = false;                  // guarded by mu; `items` is the last page
};

class FileSystem : public SessionData {
 public:
  FileSystem(client::BurstSession* burst, FileSystemOptions options)
      : meta_(&burst->meta()),
        burst_(burst),
        options_(options),
        kept_([this](Node& node) { DropKept(node); }) {}

  // Once nothing is served any more, and before the device goes: what is kept open is closed.
  void Stop();

  static const fuse_lowlevel_ops& Operations();
  wire::FuseStatusReply Describe() const;
  // Once, when mounted. The registry is not exposed after this has gone.
  void ExposeMetrics(metrics::Registry* registry) const;

 private:
  friend struct Ops;

  struct stat Attributes(const wire::Record& record, Node& node);
  struct Attr {
    struct stat st;
    double timeout_s;  // how long the kernel may keep them
  };
  Result<Attr> GetAttr(Node& node, Handle* handle);
  Result<Attr> GetDirectoryAttr(Node& node);
  Result<struct stat> GetFileAttr(Node& node, Handle* handle);
  // This mount changed the directory, or names in it, other than by a new file.
  void Changed(Node& node);
  void Changed(wire::FileId file);
  Result<std::shared_ptr<Handle>> OpenFile(const std::shared_ptr<Node>& node, int flags,
                                           uint32_t* open_flags);
  // Decides the mode and makes the handle from bufferd's answer; gives the handle back on failure.
  Result<std::shared_ptr<Handle>> Admit(const std::shared_ptr<Node>& node, int flags,
                                        client::OpenedBurst opened, uint32_t* open_flags);
  // The open that `node` keeps, for one more user; null: there is none that still holds.
  std::shared_ptr<Handle> OpenKept(Node& node, uint32_t* open_flags);
  // What is still true of `node`, by its delegation.
  std::optional<wire::Record> Delegated(Node& node);
  uint32_t AnswerFlags(const Node& node, bool writer) const;  // with the node's lock held
  Result<wire::Record> ForXattr(Node& node, const std::string& name);
  // Null: bufferd has not delegated it.
  std::shared_ptr<Kept> MakeKept(client::OpenedBurst* opened);
  void Keep(const std::shared_ptr<Handle>& handle, std::shared_ptr<Kept> kept);
  // Nobody uses what the node only keeps open, if so: closed, before it is opened otherwise.
  void DropKept(Node& node);
  void Release(const std::shared_ptr<Handle>& handle);
  void Close(Handle& handle);
  Result<wire::Record> LookupRecord(wire::FileId parent, const std::string& name);
  Result<int> WritableFd(Handle& handle);  // opens one when the handle has none

  client::MetaClient* meta_;
  client::BurstSession* burst_;
  FileSystemOptions options_;
  NodeTable nodes_;
  KeptOpens kept_;
  std::atomic<bool> closing_{false};  // bufferd releases with the connection what is left
  mutable std::mutex why_mu_;
  std::string degraded_;  // guarded by why_mu_; why a passthrough open was refused last

  std::atomic<uint64_t> opens_passthrough_ = 0, opens_cached_ = 0, opens_direct_ = 0;
  std::atomic<uint64_t> opens_kept_ = 0;  // of these, answered without a call
  std::atomic<uint64_t> reads_ = 0, read_bytes_ = 0, writes_ = 0, write_bytes_ = 0;
  std::atomic<uint64_t> publishes_ = 0, stale_opens_ = 0, passthrough_refused_ = 0;
};

}  // namespace perigee::fuse
