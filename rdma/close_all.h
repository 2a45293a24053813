#pragma once
// CloseAll: a listener's end: asks all its connections to close and waits until the last callback
// of each has returned.

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "base/event.h"

namespace perigee::rdma {

// `connections`, which `mu` guards and which gets no more, have PostClose(done). From no thread of
// the transport.
template <class Connection>
void CloseAll(std::mutex& mu, const std::set<std::shared_ptr<Connection>>& connections) {
  std::vector<std::shared_ptr<Connection>> open;
  {
    std::lock_guard lock(mu);
    open.assign(connections.begin(), connections.end());
  }
  struct Countdown {
    std::atomic<size_t> left;
    Event zero;
  };
  auto countdown = std::make_shared<Countdown>();
  countdown->left = open.size();
  for (auto& connection : open) {
    connection->PostClose([countdown] {
      if (countdown->left.fetch_sub(1) == 1) countdown->zero.Set();
    });
  }
  if (!open.empty()) countdown->zero.Wait();
}

}  // namespace perigee::rdma
