#pragma once
// Forward: the namespace calls of local clients, passed to objectd as they are (header and bulk),
// with the caller stamped from the socket's credentials when the peer is not trusted, and noted
// here where they concern burst files: an unlinked or replaced file's burst file is freed, a file's
// new mtime is put on its burst file. Thread-safe after Register.

#include "bufferd/engine.h"
#include "rdma/rpc.h"

namespace perigee::bufferd {

class Forward {
 public:
  // Through the engine's Names where it has one, else to `meta`.
  Forward(Engine& engine, client::MetaClient& meta) : engine_(engine), meta_(meta) {}
  void Register(rdma::Router* router, Scheduler* pool);

 private:
  template <class Request>
  void Add(rdma::Router* router, Scheduler* pool, wire::Method method);
  void AddTrusted(rdma::Router* router, Scheduler* pool, wire::Method method);
  Result<std::string> Send(rdma::Context& ctx, wire::Method method, std::string header);
  void Note(wire::Method method, std::string_view request, std::string_view reply);

  Engine& engine_;
  client::MetaClient& meta_;
};

}  // namespace perigee::bufferd
