#pragma once
// The listening side of `local`: one socket file, its acceptor and its connections.
//
// Start: a socket file that nobody answers is removed; one that somebody answers, or a file that is
// no socket, is kAlreadyExists. The file gets its mode and group before it has its name. Stop
// removes it if it is still ours.

#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "rdma/local/core.h"
#include "rdma/local/server_connection.h"

namespace perigee::rdma::local {

class Acceptor : public Watcher, public std::enable_shared_from_this<Acceptor> {
 public:
  static Result<std::shared_ptr<Acceptor>> Start(std::shared_ptr<Core> core,
                                                 const std::string& path,
                                                 std::shared_ptr<Handler> handler);
  ~Acceptor() override;
  // From no thread of the transport. Returns when no callback runs any more.
  void Stop();
  void OnReady(uint32_t events) override;
  const std::string& path() const { return path_; }

 private:
  Acceptor(std::shared_ptr<Core> core, std::string path, std::shared_ptr<Handler> handler);
  Status Bind();
  void AcceptOne(OwnedFd fd);
  void Closed(ServerConnection* connection);
  void RemoveFile();

  const std::shared_ptr<Core> core_;
  const std::string path_;
  const std::shared_ptr<Handler> handler_;
  std::shared_ptr<EventLoop> loop_;
  OwnedFd socket_;
  uint64_t device_ = 0, inode_ = 0;  // of our socket file
  Watch watch_;
  std::mutex mu_;  // guards what follows
  bool stopped_ = false;
  std::set<std::shared_ptr<ServerConnection>> connections_;
};

class LocalListener final : public Listener {
 public:
  explicit LocalListener(std::shared_ptr<Acceptor> acceptor) : acceptor_(std::move(acceptor)) {}
  ~LocalListener() override { Stop(); }
  std::string address() const override { return "local:" + acceptor_->path(); }
  void Stop() override { acceptor_->Stop(); }

 private:
  const std::shared_ptr<Acceptor> acceptor_;
};

}  // namespace perigee::rdma::local
