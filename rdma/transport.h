#pragma once
// Transport: calls (request -> response) between Perigee's processes, with optional bulk payload,
// over one of several providers. `local`: Unix socket with peer credentials, descriptors and memfd
// slabs. `sim`: in process, seeded, with faults. `ucx`, `ofi`, `tls`: the network; the interface is
// theirs too (bulk is an announced payload which the receiver pulls once it has a buffer; nothing
// here assumes a shared address space).
//
// A call carries a small header (an encoded wire message, at most kHeaderBytesMax) and at most one
// bulk payload each way (at most kPieceBytesMax). Request bulk must stay valid until the call is
// done; when it lies in the channel's own SlabPool no copy is made on the sending side. Response
// bulk arrives in a Piece of the caller's pool.
//
// Every call has a deadline; at the deadline the caller gets kDeadlineExceeded, and a late response
// is dropped. A lost connection fails its calls with kUnavailable (a call may have been executed:
// methods that change something carry an idempotency id or are idempotent by nature). A channel
// reconnects by itself on the next call. Concurrency: each connection grants credits; over them
// calls wait in the channel (bounded: then kBusy), those of a higher traffic class before others,
// as do bulk that waits to be moved and replies that wait for the socket. An eighth of the credits
// and of the waiting room is kept from background classes.
//
// HELLO: the first message each way proves knowledge of the cluster secret (HMAC-SHA256 over both
// nonces) and gives the node's role. `local` also accepts a peer without the secret, as Role::kUser
// with its kernel-verified uid and gid. Thread rule: thread-safe. Callbacks run on the provider's
// thread: hand work to a Scheduler, do not block there.

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/scheduler.h"
#include "base/status.h"
#include "rdma/class_queue.h"
#include "rdma/slab_pool.h"
#include "rdma/wire/methods.h"

namespace perigee::rdma {

inline constexpr size_t kHeaderBytesMax = 1 << 20;
inline constexpr size_t kFdsMax = 4;

// A descriptor in flight; closed by whoever holds it last.
class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& o) noexcept : fd_(o.Release()) {}
  OwnedFd& operator=(OwnedFd&& o) noexcept {
    Reset(o.Release());
    return *this;
  }
  ~OwnedFd() { Reset(-1); }
  int get() const { return fd_; }
  int Release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void Reset(int fd);

 private:
  int fd_ = -1;
};

enum class Role : uint8_t { kUser = 0, kNode = 1 };

struct Peer {
  Role role = Role::kUser;
  uint64_t node_id = 0;       // kNode only
  uint32_t uid = 0, gid = 0;  // `local`: from the kernel. Elsewhere 0 with kNode.
  int32_t pid = 0;
  std::string provider;     // "local", "sim", ...
  uint64_t connection = 0;  // unique in this process; sessions hang on it
};

struct Payload {
  std::string header;
  Piece bulk;                // empty when there is none
  std::vector<OwnedFd> fds;  // `local` only; at most kFdsMax
};

// One request being served. Answer exactly once, from any thread; destroying it unanswered answers
// kInternal.
class ServerCall {
 public:
  virtual ~ServerCall() = default;
  virtual wire::Method method() const = 0;
  virtual const Peer& peer() const = 0;
  virtual std::string_view header() const = 0;
  virtual Piece& bulk() = 0;           // already pulled into the server's pool
  virtual Nanos deadline() const = 0;  // monotonic, by the server's clock
  virtual TrafficClass traffic() const { return TrafficClass::kForeground; }  // as the caller said
  virtual void Reply(Payload payload) = 0;
  virtual void Fail(const Status& status) = 0;
};

class Handler {
 public:
  virtual ~Handler() = default;
  virtual void OnCall(std::unique_ptr<ServerCall> call) = 0;   // provider's thread: do not block
  virtual void OnDisconnect(const Peer& peer) { (void)peer; }  // after its last OnCall
  // Whether this method's bulk may be a node's own memory, where the provider can lend it, instead
  // of a copy: see Piece::Stands. Only for bytes that are passed on, never for what is parsed.
  virtual bool TakesLent(wire::Method method) const {
    (void)method;
    return false;
  }
};

struct CallOptions {
  Nanos timeout = 30 * kSecond;
  // CallAndWait: the reply's bulk may be the server's own memory, which it keeps until the Piece is
  // gone (or, at the latest, a few seconds after the deadline). See Piece::Stands.
  bool lent_reply = false;
  TrafficClass traffic = TrafficClass::kForeground;
};

class Channel {
 public:
  using Done = std::function<void(Result<Payload>)>;
  virtual ~Channel() = default;
  virtual void Call(wire::Method method, std::string header, ConstBytes bulk, CallOptions options,
                    Done done) = 0;
  // Waits (base/event.h). Not from a provider's thread. `local` overrides it: the waiting thread
  // reads the reply itself.
  virtual Result<Payload> CallAndWait(wire::Method method, std::string header, ConstBytes bulk = {},
                                      CallOptions options = {});
  virtual bool Healthy() const = 0;          // connected, or not tried yet
  virtual std::string Describe() const = 0;  // "local /run/perigee/objectd.sock": for status
  virtual void Close() = 0;                  // fails what is pending with kCancelled
};

class Listener {
 public:
  virtual ~Listener() = default;
  virtual std::string address() const = 0;  // with the port that was bound
  virtual void Stop() = 0;                  // closes all; returns when no callback runs any more
};

struct TransportOptions {
  std::string cluster_secret;  // empty: only Role::kUser on `local`
  uint64_t node_id = 0;
  Role role = Role::kUser;      // what this process says it is
  uint32_t credits = 128;       // calls in flight per connection
  uint32_t waiting_max = 4096;  // calls waiting for credits per channel
  uint32_t connections_max = 4096;
  Nanos class_age = kClassAge;     // see ClassQueue
  std::shared_ptr<SlabPool> pool;  // null: one of its own, with SlabPool's defaults
  metrics::Registry* metrics = nullptr;
};

// For providers: a number for Peer::connection that this process has not used yet.
uint64_t NextConnectionId();

// Addresses are "provider:rest", e.g. "local:/run/perigee/objectd.sock", "sim:objectd-1".
class Transport {
 public:
  virtual ~Transport() = default;
  virtual Result<std::unique_ptr<Listener>> Listen(const std::string& address,
                                                   std::shared_ptr<Handler> handler) = 0;
  // Does not connect yet; the first call does.
  virtual Result<std::shared_ptr<Channel>> Connect(const std::string& address) = 0;
  virtual std::string name() const = 0;
  virtual bool passes_fds() const = 0;
  // Whether Listen and Connect know what to do with addresses of this kind.
  virtual bool Speaks(const std::string& address) const {
    return address.starts_with(name() + ":");
  }
};

// `mode` is that of the listening sockets' files (0600, or 0660 with `group`). `loops` threads
// serve and receive; they start with the first listener or connection. In a forked child make a new
// transport and a new pool; what the child inherited it may destroy (that leaks) but not use.
struct LocalOptions {
  uint32_t socket_mode = 0600;
  int64_t socket_group = -1;
  uint32_t loops = 2;
};
Result<std::unique_ptr<Transport>> CreateLocalTransport(TransportOptions options,
                                                        LocalOptions local = {});

// `tls`: TCP with mutual TLS 1.3, addresses "tls:HOST:PORT" (port 0: any; "[::1]" for IPv6). Files
// are PEM (`perigee ca` makes them); changed ones serve new connections. A peer's certificate must
// be of the authority in ca_file, and a server's must name the host that was asked for. A peer with
// a certificate but without the cluster secret is Role::kUser, uid and gid 65534. Its library is
// perigee_rdma_tls.
struct TlsOptions {
  std::string ca_file, cert_file, key_file;
  uint32_t loops = 2;
  Nanos handshake_timeout = 5 * kSecond;  // to connect, and until hello is done
  Nanos dead_after = 3 * kSecond;  // without a byte: the connection is ended; the same everywhere
  Nanos bulk_grace = 5 * kSecond;  // after a call's deadline, to take or send what was announced
};
// kInvalidArgument: a file cannot be used.
Result<std::unique_ptr<Transport>> CreateTlsTransport(TransportOptions options, TlsOptions tls);

}  // namespace perigee::rdma
