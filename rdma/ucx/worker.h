#pragma once
// Worker: a ucp_worker and what happens on it. UCX calls back from inside its progress function;
// there only a note is made of what came, and everyone is told after it has returned, so that
// whoever is told may do anything, closing endpoints included.
//
// Thread rule: one thread makes, uses and destroys a Worker and everything on it (UCX's mode
// SINGLE); Signal is thread-safe.

#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "base/status.h"
#include "rdma/ucx/context.h"

struct ucp_worker;
struct ucp_ep;

namespace perigee::rdma::ucx {

class Endpoint;

// Data that a peer wants to send and that stays with it until it is pulled (Endpoint::Pull).
// Destroyed unpulled: the peer is told that it is not wanted.
class Announced {
 public:
  Announced() = default;
  Announced(ucp_worker* worker, void* descriptor) : worker_(worker), descriptor_(descriptor) {}
  Announced(Announced&& o) noexcept;
  Announced& operator=(Announced&& o) noexcept;
  ~Announced() { Release(); }
  explicit operator bool() const { return descriptor_ != nullptr; }
  void Release();
  void* Take();

 private:
  ucp_worker* worker_ = nullptr;
  void* descriptor_ = nullptr;
};

// One active message. Small data came along with it (`data`), large data is announced.
struct Arrival {
  std::string head;
  std::string data;
  Announced announced;
  size_t bytes = 0;  // of the data; when it was too large to be sent along it is in neither
};

class Worker {
 public:
  static Result<std::unique_ptr<Worker>> Create(std::shared_ptr<Context> context);
  // Closes what is open and waits, for a bounded time, until UCX is done with it.
  ~Worker();

  // Lets UCX work and tells what came of it. False: there was nothing to do.
  bool Progress();
  // True: event_fd() will be readable when there is something to do. False: there is already.
  bool Arm();
  int event_fd() const { return event_fd_; }
  void Signal();
  // `fn` runs within this Progress or the next one.
  void Defer(std::function<void()> fn);

  ucp_worker* get() const { return worker_; }
  Context& context() const { return *context_; }

  // ---- for Endpoint ----
  void Add(ucp_ep* ep, const std::shared_ptr<Endpoint>& endpoint);
  void Retire(ucp_ep* ep, const std::shared_ptr<Endpoint>& endpoint);
  void Settled(const std::shared_ptr<Endpoint>& endpoint) { retired_.erase(endpoint); }
  // Called inside UCX's progress. False: nobody has this endpoint any more.
  bool Note(ucp_ep* ep, Arrival arrival);
  void NoteFailure(std::shared_ptr<Endpoint> endpoint, Status why);

 private:
  struct Event {
    std::shared_ptr<Endpoint> endpoint;  // of an arrival or a failure
    Arrival arrival;
    Status failure;
    std::function<void()> fn;  // without an endpoint
  };
  explicit Worker(std::shared_ptr<Context> context) : context_(std::move(context)) {}

  const std::shared_ptr<Context> context_;
  ucp_worker* worker_ = nullptr;
  int event_fd_ = -1;
  std::deque<Event> events_;
  std::unordered_map<ucp_ep*, std::shared_ptr<Endpoint>> endpoints_;
  std::set<std::shared_ptr<Endpoint>> retired_;  // closed, but UCX is not done with their buffers
};

}  // namespace perigee::rdma::ucx
