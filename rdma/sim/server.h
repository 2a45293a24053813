#pragma once
// The serving side of `sim`: a Server listens under a name; a Link is one connection to it.
// Thread-safe.

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/event.h"
#include "rdma/class_bytes.h"
#include "rdma/hello.h"
#include "rdma/sim/fabric.h"
#include "rdma/transport.h"

namespace perigee::rdma::sim {

class ClientCore;

struct Request {
  uint64_t id = 0;
  wire::Method method{};
  TrafficClass traffic = TrafficClass::kForeground;
  std::string header;
  std::shared_ptr<const std::string> bulk;  // null: none
  Nanos deadline = 0;
  size_t Bytes() const { return header.size() + (bulk ? bulk->size() : 0); }
};

struct Response {
  uint64_t id = 0;
  Code code = Code::kOk;
  std::string text;  // header, or the error's message
  std::shared_ptr<const std::string> bulk;
  size_t Bytes() const { return text.size() + (bulk ? bulk->size() : 0); }
};

// What one transport's servers and channels share.
struct Host {
  std::shared_ptr<Fabric> fabric;
  std::string name;
  TransportOptions options;
  SimIdentity identity;
  metrics::Counter* calls_in = nullptr;
  metrics::Counter* calls_out = nullptr;
  metrics::Counter* bytes_in = nullptr;
  metrics::Counter* bytes_out = nullptr;
  std::unique_ptr<ClassBytes> class_bytes;
  PeerBytes* BytesWith(Role role, uint64_t node_id) const {
    return class_bytes->With(role, node_id);
  }
  std::atomic<uint32_t> connections{0};
};

class Link : public std::enable_shared_from_this<Link> {
 public:
  Link(std::shared_ptr<Server> server, std::weak_ptr<ClientCore> client, std::string client_host,
       Peer peer);

  const Peer& peer() const { return peer_; }
  const std::string& client_host() const { return client_host_; }
  const std::string& server_host() const;
  // As tasks: a request has arrived; an answer leaves.
  void Arrive(std::shared_ptr<const Request> request);
  void Answer(TrafficClass traffic, std::shared_ptr<const Response> response);
  // Ends the connection on both sides. OnDisconnect follows when no OnCall of it runs any more.
  void Break(const std::string& why);
  bool Alive() const;

 private:
  void Serve(const Request& request, Piece bulk);
  bool Enter();
  void Leave();

  const std::shared_ptr<Server> server_;
  const std::weak_ptr<ClientCore> client_;
  const std::string client_host_;
  const Peer peer_;
  PeerBytes* const bytes_;
  mutable std::mutex mu_;  // guards what follows
  bool alive_ = true;
  bool told_ = false;
  size_t running_ = 0;
};

class Server : public std::enable_shared_from_this<Server> {
 public:
  Server(std::shared_ptr<Host> host, std::string name, std::shared_ptr<Handler> handler)
      : host_(std::move(host)), name_(std::move(name)), handler_(std::move(handler)) {}

  const Host& host() const { return *host_; }
  const std::string& name() const { return name_; }
  Handler& handler() { return *handler_; }
  // The hello of a client and, if it is welcome, its connection.
  Result<std::shared_ptr<Link>> Accept(const Host& client, std::weak_ptr<ClientCore> channel,
                                       HelloPeer* seen);
  void Stop();

 private:
  friend class Link;
  void Gone(Link* link);

  const std::shared_ptr<Host> host_;
  const std::string name_;
  const std::shared_ptr<Handler> handler_;
  std::mutex mu_;  // guards what follows
  bool stopped_ = false;
  // By connection, until their OnDisconnect has returned.
  std::map<uint64_t, std::shared_ptr<Link>> links_;
  CondVar empty_;
};

}  // namespace perigee::rdma::sim
