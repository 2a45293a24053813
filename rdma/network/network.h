#pragma once
// Network: a daemon's transports and doors. Local sockets always; a provider for other machines
// when the options ask for one. Thread-safe once it listens.

#include <memory>
#include <string>
#include <vector>

#include "rdma/network/fabric.h"
#include "rdma/network_options.h"
#include "rdma/transport_set.h"
#include "rdma/wire/control.h"

namespace perigee::rdma {

class Network {
 public:
  // `options` as CheckNetworkOptions left them. kInvalidArgument: they name what cannot be used
  // here (a file, an interface), in one line.
  static Result<std::unique_ptr<Network>> Create(const NetworkOptions& options,
                                                 TransportOptions transport,
                                                 LocalOptions local = {});

  Transport& transport() { return transports_; }
  // On the socket, and on each address where other machines may call, for nodes only.
  Status Listen(const std::string& socket, std::shared_ptr<Handler> handler);
  void Stop();  // listens no more; returns when no callback runs any more

  const std::string& socket() const { return socket_; }  // "local:/run/perigee/objectd.sock"
  // Its addresses have their ports once it listens, before that where they were given.
  const wire::NetworkInfo& info() const { return info_; }

 private:
  Network(NetworkOptions options, metrics::Registry* registry)
      : options_(std::move(options)), transports_(RealClock::Get(), registry) {}
  Status AddProvider(TransportOptions transport);
  Status ChooseOn(const std::vector<Fabric>& fabrics);
  // What others are told, where `bound` is what is listened on, each with its provider.
  std::vector<std::string> Addresses(const std::vector<std::string>& bound) const;

  const NetworkOptions options_;
  TransportSet transports_;
  wire::NetworkInfo info_;
  std::string socket_;
  std::unique_ptr<Listener> local_;
  std::vector<std::unique_ptr<Listener>> elsewhere_;
};

}  // namespace perigee::rdma
