#pragma once
// Worker: what a provider's library does on one loop: connections, and messages through them. One
// implementation for each library; what is above it is the same for all (docs/architecture.md).
//
// A message has a head and data. Small data (up to kEagerBytesMax) is sent along, larger data is
// announced and stays with its sender until the receiver pulls it: the rendezvous.
//
// Whoever is told something (EndpointUser, ListenSocket's function, `done`) may do anything from
// there, closing endpoints included. Thread rule: one thread makes, uses and destroys a Worker and
// everything on it; Signal is thread-safe, and a ConnectionRequest may be handed to another
// worker's thread.

#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "rdma/rendezvous/address.h"
#include "rdma/slab_pool.h"

namespace perigee::rdma::rendezvous {

// Data that a peer wants to send and that stays with it until it is pulled (Endpoint::Pull).
// Destroyed unpulled: the peer is told that it is not wanted.
class Announcement {
 public:
  virtual ~Announcement() = default;
};
using Announced = std::unique_ptr<Announcement>;

// One message. Small data came along with it (`data`), large data is announced.
struct Arrival {
  std::string head;
  std::string data;
  Announced announced;
  size_t bytes = 0;  // of the data; when it was too large to be sent along it is in neither
};

// One message on its way out. `data` lies in `copy`, in `piece`, or in memory that stays until
// `done`; `done` is always called, once.
struct Sending {
  std::string head;
  std::string copy;
  Piece piece;
  ConstBytes data;
  std::function<void(Status)> done;
  std::shared_ptr<class Endpoint> endpoint;  // set by Send
};

class EndpointUser {
 public:
  virtual ~EndpointUser() = default;
  virtual void OnArrival(Arrival arrival) = 0;
  virtual void OnFailure(const Status& why) = 0;  // nothing arrives afterwards; still to be closed
};

// One connection. Buffers: what is being sent or pulled belongs to the operation until it is done,
// also after Close.
class Endpoint {
 public:
  virtual ~Endpoint() = default;
  virtual void Send(std::unique_ptr<Sending> sending) = 0;
  // `to` has room for all of it and stays until `done`.
  virtual void Pull(Announced what, uint8_t* to, size_t bytes,
                    std::function<void(Status)> done) = 0;
  // As if the connection had failed: tells the user.
  virtual void Fail(Status why) = 0;
  // The user hears nothing more, the peer that the connection is gone. What is on its way ends with
  // a failure.
  virtual void Close() = 0;
  // "tcp/eth1, sysv": what the library has chosen for this connection, once it stands.
  virtual std::string Transports() const = 0;
  virtual bool closed() const = 0;
};

// A peer that wants a connection.
class ConnectionRequest {
 public:
  virtual ~ConnectionRequest() = default;
};

// Destroyed: requests that were not told yet are rejected.
class ListenSocket {
 public:
  virtual ~ListenSocket() = default;
  virtual void Reject(std::shared_ptr<ConnectionRequest> request) = 0;
  virtual const SocketAddress& address() const = 0;  // with the port that was bound
};

class Worker {
 public:
  // Closes what is open and waits, for a bounded time, until the library is done with it.
  virtual ~Worker() = default;

  // The connection is made while the first message waits; OnFailure tells if it cannot be.
  virtual Result<std::shared_ptr<Endpoint>> Connect(const SocketAddress& address,
                                                    EndpointUser* user) = 0;
  virtual Result<std::shared_ptr<Endpoint>> Accept(std::shared_ptr<ConnectionRequest> request,
                                                   EndpointUser* user) = 0;
  // `on_request` is to Accept (any worker of the transport) or Reject each request.
  // kAlreadyExists: the address is in use.
  virtual Result<std::unique_ptr<ListenSocket>> Listen(
      const SocketAddress& address,
      std::function<void(std::shared_ptr<ConnectionRequest>)> on_request) = 0;

  // Lets the library work and tells what came of it. False: there was nothing to do.
  virtual bool Progress() = 0;
  // True: event_fd() will be readable when there is something to do. False: there is already.
  virtual bool Arm() = 0;
  virtual int event_fd() const = 0;
  virtual void Signal() = 0;
};

}  // namespace perigee::rdma::rendezvous
