// CreateTlsTransport: the `tls` provider, from its parts.

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "rdma/tls/client_core.h"
#include "rdma/tls/listener.h"

namespace perigee::rdma {

namespace tls {
namespace {

class TlsTransport final : public Transport {
 public:
  explicit TlsTransport(std::shared_ptr<Core> core) : core_(std::move(core)) {}

  ~TlsTransport() override {
    if (!core_->OwnProcess()) {
      new std::shared_ptr<Core>(
          core_);  // its threads are the parent's: nothing here can be stopped
      return;
    }
    std::vector<std::weak_ptr<ClientCore>> channels;
    std::vector<std::weak_ptr<Acceptor>> acceptors;
    {
      std::lock_guard lock(mu_);
      channels.swap(channels_);
      acceptors.swap(acceptors_);
    }
    for (auto& weak : channels) {
      if (auto channel = weak.lock()) channel->Close();
    }
    for (auto& weak : acceptors) {
      if (auto acceptor = weak.lock()) acceptor->Stop();
    }
    core_->resolver().Stop();
    core_->StopLoops();
  }

  Result<std::unique_ptr<Listener>> Listen(const std::string& address,
                                           std::shared_ptr<Handler> handler) override {
    PERIGEE_ASSIGN(Endpoint endpoint, Endpoint::Of(address));
    PERIGEE_ASSIGN(auto acceptor, Acceptor::Start(core_, endpoint, std::move(handler)));
    {
      std::lock_guard lock(mu_);
      std::erase_if(acceptors_, [](auto& weak) { return weak.expired(); });
      acceptors_.push_back(acceptor);
    }
    return std::unique_ptr<Listener>(std::make_unique<TlsListener>(std::move(acceptor)));
  }

  Result<std::shared_ptr<Channel>> Connect(const std::string& address) override {
    PERIGEE_ASSIGN(Endpoint endpoint, Endpoint::Of(address));
    PERIGEE_ASSIGN(auto loop, core_->NextLoop());
    auto channel = std::make_shared<ClientCore>(core_, std::move(loop), std::move(endpoint));
    {
      std::lock_guard lock(mu_);
      std::erase_if(channels_, [](auto& weak) { return weak.expired(); });
      channels_.push_back(channel);
    }
    return std::shared_ptr<Channel>(std::make_shared<TlsChannel>(std::move(channel)));
  }

  std::string name() const override { return "tls"; }
  bool passes_fds() const override { return false; }

 private:
  const std::shared_ptr<Core> core_;
  std::mutex mu_;  // guards what follows
  std::vector<std::weak_ptr<ClientCore>> channels_;
  std::vector<std::weak_ptr<Acceptor>> acceptors_;
};

}  // namespace
}  // namespace tls

Result<std::unique_ptr<Transport>> CreateTlsTransport(TransportOptions options, TlsOptions tls) {
  PERIGEE_ASSIGN(auto core, tls::Core::Create(std::move(options), std::move(tls)));
  return std::unique_ptr<Transport>(std::make_unique<tls::TlsTransport>(std::move(core)));
}

}  // namespace perigee::rdma
