// CreateLocalTransport: the `local` provider, from its parts.

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "rdma/local/client_core.h"
#include "rdma/local/listener.h"

namespace perigee::rdma {

namespace local {
namespace {

constexpr std::string_view kPrefix = "local:";

Result<std::string> PathOf(const std::string& address) {
  if (!address.starts_with(kPrefix) || address.size() == kPrefix.size()) {
    return Status(Code::kInvalidArgument, "\"" + address + "\" is not local:PATH");
  }
  return address.substr(kPrefix.size());
}

class LocalTransport final : public Transport {
 public:
  explicit LocalTransport(std::shared_ptr<Core> core) : core_(std::move(core)) {}

  ~LocalTransport() override {
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
    core_->StopLoops();
  }

  Result<std::unique_ptr<Listener>> Listen(const std::string& address,
                                           std::shared_ptr<Handler> handler) override {
    PERIGEE_ASSIGN(std::string path, PathOf(address));
    PERIGEE_ASSIGN(auto acceptor, Acceptor::Start(core_, path, std::move(handler)));
    {
      std::lock_guard lock(mu_);
      std::erase_if(acceptors_, [](auto& weak) { return weak.expired(); });
      acceptors_.push_back(acceptor);
    }
    return std::unique_ptr<Listener>(std::make_unique<LocalListener>(std::move(acceptor)));
  }

  Result<std::shared_ptr<Channel>> Connect(const std::string& address) override {
    PERIGEE_ASSIGN(std::string path, PathOf(address));
    PERIGEE_ASSIGN(auto loop, core_->NextLoop());
    auto channel = std::make_shared<ClientCore>(core_, std::move(loop), path);
    {
      std::lock_guard lock(mu_);
      std::erase_if(channels_, [](auto& weak) { return weak.expired(); });
      channels_.push_back(channel);
    }
    return std::shared_ptr<Channel>(std::make_shared<LocalChannel>(std::move(channel)));
  }

  std::string name() const override { return "local"; }
  bool passes_fds() const override { return true; }

 private:
  const std::shared_ptr<Core> core_;
  std::mutex mu_;  // guards what follows
  std::vector<std::weak_ptr<ClientCore>> channels_;
  std::vector<std::weak_ptr<Acceptor>> acceptors_;
};

}  // namespace
}  // namespace local

Result<std::unique_ptr<Transport>> CreateLocalTransport(TransportOptions options,
                                                        LocalOptions local) {
  PERIGEE_ASSIGN(auto core, local::Core::Create(std::move(options), local));
  return std::unique_ptr<Transport>(std::make_unique<local::LocalTransport>(std::move(core)));
}

}  // namespace perigee::rdma
