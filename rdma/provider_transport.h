#pragma once
// ProviderTransport: what a provider's Transport does with its channels and listeners: it ends
// those that are left when it goes. Thread-safe.

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "rdma/transport.h"

namespace perigee::rdma {

template <class Core, class ClientCore, class Acceptor>
class ProviderTransport : public Transport {
 public:
  explicit ProviderTransport(std::shared_ptr<Core> core) : core_(std::move(core)) {}

  ~ProviderTransport() override {
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

 protected:
  const std::shared_ptr<Core>& core() const { return core_; }
  std::shared_ptr<ClientCore> Keep(std::shared_ptr<ClientCore> channel) {
    return KeepIn(&channels_, std::move(channel));
  }
  std::shared_ptr<Acceptor> Keep(std::shared_ptr<Acceptor> acceptor) {
    return KeepIn(&acceptors_, std::move(acceptor));
  }

 private:
  template <class T>
  std::shared_ptr<T> KeepIn(std::vector<std::weak_ptr<T>>* kept, std::shared_ptr<T> one) {
    std::lock_guard lock(mu_);
    std::erase_if(*kept, [](auto& weak) { return weak.expired(); });
    kept->push_back(one);
    return one;
  }

  const std::shared_ptr<Core> core_;
  std::mutex mu_;  // guards what follows
  std::vector<std::weak_ptr<ClientCore>> channels_;
  std::vector<std::weak_ptr<Acceptor>> acceptors_;
};

}  // namespace perigee::rdma
