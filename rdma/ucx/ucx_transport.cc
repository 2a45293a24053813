// CreateUcxTransport: the `ucx` provider, from its parts.

#include "rdma/ucx_transport.h"

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "rdma/ucx/acceptor.h"
#include "rdma/ucx/client_core.h"

namespace perigee::rdma {

namespace ucx {
namespace {

constexpr std::string_view kPrefix = "ucx:";

Result<SocketAddress> AddressOf(const std::string& address) {
  if (!address.starts_with(kPrefix)) {
    return Status(Code::kInvalidArgument, "\"" + address + "\" is not ucx:HOST:PORT");
  }
  return ParseAddress(address.substr(kPrefix.size()));
}

class UcxTransport final : public Transport {
 public:
  explicit UcxTransport(std::shared_ptr<Core> core) : core_(std::move(core)) {}

  ~UcxTransport() override {
    if (!core_->OwnProcess()) {
      // Its threads are the parent's: nothing here can be stopped.
      new std::shared_ptr<Core>(core_);
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
    PERIGEE_ASSIGN(SocketAddress parsed, AddressOf(address));
    PERIGEE_ASSIGN(Interface interface, InterfaceOf(parsed));
    PERIGEE_TRY(core_->CheckInterface(interface));
    PERIGEE_ASSIGN(auto acceptor, Acceptor::Start(core_, parsed, std::move(handler)));
    {
      std::lock_guard lock(mu_);
      std::erase_if(acceptors_, [](auto& weak) { return weak.expired(); });
      acceptors_.push_back(acceptor);
    }
    return std::unique_ptr<Listener>(std::make_unique<UcxListener>(std::move(acceptor)));
  }

  Result<std::shared_ptr<Channel>> Connect(const std::string& address) override {
    PERIGEE_ASSIGN(SocketAddress parsed, AddressOf(address));
    PERIGEE_ASSIGN(Interface interface, InterfaceToward(parsed));
    PERIGEE_TRY(core_->CheckInterface(interface));
    PERIGEE_ASSIGN(auto loop, core_->NextLoop());
    auto channel = std::make_shared<ClientCore>(core_, std::move(loop), parsed);
    {
      std::lock_guard lock(mu_);
      std::erase_if(channels_, [](auto& weak) { return weak.expired(); });
      channels_.push_back(channel);
    }
    return std::shared_ptr<Channel>(std::make_shared<UcxChannel>(std::move(channel)));
  }

  std::string name() const override { return "ucx"; }
  bool passes_fds() const override { return false; }

 private:
  const std::shared_ptr<Core> core_;
  std::mutex mu_;  // guards what follows
  std::vector<std::weak_ptr<ClientCore>> channels_;
  std::vector<std::weak_ptr<Acceptor>> acceptors_;
};

}  // namespace
}  // namespace ucx

Result<std::unique_ptr<Transport>> CreateUcxTransport(TransportOptions options, UcxOptions ucx) {
  PERIGEE_ASSIGN(auto core, ucx::Core::Create(std::move(options), std::move(ucx)));
  return std::unique_ptr<Transport>(std::make_unique<ucx::UcxTransport>(std::move(core)));
}

}  // namespace perigee::rdma
