#pragma once
// BurstSession: this node's burst buffer, as the mount, Python and the CLI use it: the calls of
// rdma/wire/burst.h, typed, over a `local` channel to bufferd.
//
// Handles are the session's own and outlive bufferd: when the connection was lost, the next call
// with a handle waits up to reconnect_timeout for bufferd, opens the same burst file again by id,
// and goes on (kStale when another burst file serves that id by now). Calls that may be repeated
// without harm are; so is a Create that is not exclusive: kAlreadyExists may then be about the file
// it made itself. An exclusive one is not: after kUnavailable it may have happened.
// Descriptors belong to the caller and stay valid whatever becomes of the session.
// Thread-safe; blocks (base/event.h).

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/event.h"
#include "client/meta/meta_client.h"
#include "rdma/rpc.h"
#include "rdma/transport.h"
#include "rdma/wire/burst.h"
#include "rdma/wire/control.h"

namespace perigee::client {

struct BurstSessionOptions {
  Nanos timeout = 60 * kSecond;            // of one call
  Nanos wait_timeout = 3600 * kSecond;     // of calls that wait for a flush or a fill
  Nanos reconnect_timeout = 15 * kSecond;  // how long to wait for a bufferd that is away
};

// An open burst file.
struct OpenedBurst {
  uint64_t handle = 0;  // the session's
  wire::BurstId burst = 0;
  wire::OpenKind kind = wire::OpenKind::kDescriptor;
  wire::Record record;
  uint64_t size = 0;
  bool low_space = false;  // write through Write
  rdma::OwnedFd fd;
  std::optional<wire::Delegation> delegation;  // when it was wanted
  rdma::OwnedFd delegation_page;               // when it is not the one known
};

class BurstSession {
 public:
  using Options = BurstSessionOptions;

  // `socket`: bufferd's, e.g. "/run/perigee/bufferd.sock". Brings a transport and a slab pool of
  // its own; connects with the first call, as the user this process runs as.
  static Result<std::unique_ptr<BurstSession>> Connect(const std::string& socket,
                                                       Options options = {});
  // Over a channel that the caller has.
  static std::unique_ptr<BurstSession> Over(std::shared_ptr<rdma::Channel> channel,
                                            Options options = {});
  ~BurstSession();

  // kCached: Ensure a range before reading it from the descriptor.
  Result<OpenedBurst> Open(const wire::BurstOpenRequest& request);
  enum class Exclusive { kNo, kYes };
  Result<OpenedBurst> Create(const wire::BurstCreateRequest& request,
                             Exclusive exclusive = Exclusive::kYes);
  Result<wire::BurstStatReply> Publish(uint64_t handle);
  Result<wire::BurstStatReply> Fsync(uint64_t handle, wire::Durability durability);
  // kLocal of what the node has of a file, open or not. Nothing: ok.
  Status Sync(wire::FileId id);
  Status Ensure(uint64_t handle, uint64_t offset, uint64_t length);
  Status Write(uint64_t handle, uint64_t offset, ConstBytes data);  // any length, in pieces
  Result<wire::BurstStatReply> Truncate(uint64_t handle, uint64_t size);
  Result<wire::BurstStatReply> TruncateFile(wire::FileId id, uint64_t size,
                                            const wire::Caller& caller = {});
  // A lost connection has released it already: ok.
  Status Release(uint64_t handle);

  Result<wire::BurstStatReply> Stat(const wire::BurstTarget& target);
  Result<wire::BurstBatchReply> Flush(const wire::BurstTarget& target);
  Result<wire::BurstBatchReply> Evict(const wire::BurstTarget& target);
  Result<wire::BurstBatchReply> Warm(const wire::BurstTarget& target);
  Result<wire::BurstBatchReply> Pin(const wire::BurstTarget& target);
  Result<wire::BurstBatchReply> Hold(const wire::BurstTarget& target);
  // At most kPieceBytesMax; from another node's buffer too, when the channel leads there.
  Result<rdma::Piece> Read(const wire::BurstReadRequest& request);
  Result<wire::BurstWatchReply> Watch(const wire::BurstWatchRequest& request);
  Result<wire::BufferdStatusReply> BufferdStatus();

  MetaClient& meta() { return meta_; }  // the namespace, through bufferd
  rdma::Channel& channel() { return *channel_; }

 private:
  struct Handle {
    uint64_t remote = 0;  // bufferd's number
    uint64_t epoch = 0;   // of the connection that number belongs to
    bool reopening = false;
    wire::BurstOpenRequest again;  // how to open it once more
  };

  BurstSession(std::unique_ptr<rdma::Transport> transport, std::shared_ptr<rdma::Channel> channel,
               Options options);
  static rdma::TrafficClass TrafficOf(wire::Method method);
  template <class Reply, class Request>
  Result<Reply> Repeat(wire::Method method, const Request& request, Nanos timeout);
  template <class Reply, class Request>
  Result<Reply> WithHandle(wire::Method method, Request request, Nanos timeout,
                           ConstBytes bulk = {});
  Result<wire::BurstBatchReply> Batch(wire::Method method, const wire::BurstTarget& target);
  Result<OpenedBurst> Opened(Result<rdma::TypedReply<wire::BurstOpenReply>> reply,
                             wire::BurstOpenRequest again);
  Result<uint64_t> RemoteHandle(uint64_t handle, uint64_t refused);
  Status Reopen(std::unique_lock<std::mutex>& lock, uint64_t handle);
  void NoteRemote(uint64_t handle, uint64_t remote);
  bool TakenByAnother(uint64_t handle, uint64_t remote) const;
  void NoteLost();
  Status AwaitConnection();

  const std::unique_ptr<rdma::Transport> transport_;  // null: the channel is someone else's
  const std::shared_ptr<rdma::Channel> channel_;
  const Options options_;
  MetaClient meta_;
  std::mutex mu_;  // guards what follows
  CondVar changed_;
  uint64_t epoch_ = 1;  // grows when the connection is known to have been lost
  uint64_t next_handle_ = 1;
  std::map<uint64_t, Handle> handles_;
};

}  // namespace perigee::client
