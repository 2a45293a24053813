#pragma once
// StorageDoor: a storage node's drives as this process reaches them. While they do not answer it is
// not asked, so that nobody waits for what another way brings at once; now and then a ping finds
// out whether it answers again. Thread-safe; nothing here waits.

#include <memory>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "rdma/transport.h"
#include "rdma/wire/control.h"

namespace perigee::client {

class StorageDoor : public std::enable_shared_from_this<StorageDoor> {
 public:
  static constexpr Nanos kPingEvery = 2 * kSecond;
  static constexpr Nanos kPingTimeout = 10 * kSecond;

  StorageDoor(wire::NodeId node, std::string address, std::shared_ptr<rdma::Channel> channel,
              Clock* clock);

  // Null: it did not answer a moment ago.
  std::shared_ptr<rdma::Channel> Channel();
  // What a call over its channel came to. Only a broken connection is the door's own fault.
  void Note(const Status& outcome);
  // For status. Asks the node, too, where it did not answer: the next one knows.
  wire::LinkInfo Link();

 private:
  void Ping();

  const wire::NodeId node_;
  const std::string address_;
  const std::shared_ptr<rdma::Channel> channel_;
  Clock* const clock_;
  std::mutex mu_;  // guards what follows
  bool away_ = false;
  bool pinging_ = false;
  Nanos ping_at_ = 0;  // monotonic
  int64_t since_;      // wall: reached, or away, since
  std::string problem_;
};

}  // namespace perigee::client
