#pragma once
// KeptOpens: files that stay open for a while after their last close, so that the next open and
// lookup are answered here, in no more time than the kernel takes to ask.
//
// An open for reading of a file that is wholly in the burst buffer is kept when bufferd has
// delegated the file (client/buffer/delegation_page.h): as long as the delegation holds, the name,
// the record and the burst file are what a call would answer. They are closed once it does not
// hold, when bufferd asks for its space, or when nobody used them for kIdle; a thread looks for
// that, while there are any. Thread-safe. Lock order: a node's, then this one's.

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>

#include "base/event.h"
#include "client/buffer/delegation_page.h"
#include "fuse/node_table.h"

namespace perigee::fuse {

// What an open is kept under.
struct Kept {
  std::shared_ptr<const client::DelegationPage> page;
  wire::Delegation delegation;
  wire::Record record;
  std::atomic<Nanos> used{0};  // monotonic

  bool Holds() const { return page->Holds(delegation); }
  void Use();
};

class KeptOpens {
 public:
  static constexpr Nanos kIdle = 60 * kSecond;
  static constexpr Nanos kLookEvery = 200 * kMillisecond;

  // `drop` closes what the node keeps, unless somebody uses it by then.
  explicit KeptOpens(std::function<void(Node&)> drop);
  ~KeptOpens() { Stop(); }
  void Stop();  // drops all

  // The number of the page that is mapped; 0: none.
  uint64_t known_page() const;
  // `fd`: where it is not the known one. Null: what was sent is no page.
  std::shared_ptr<const client::DelegationPage> Page(uint64_t number, const rdma::OwnedFd& fd);

  // False when there are too many already.
  bool Add(const std::shared_ptr<Node>& node, const std::shared_ptr<Kept>& kept);
  void Remove(const std::shared_ptr<Kept>& kept);
  // The node of that name, while it is kept; it may hold no longer.
  std::shared_ptr<Node> Find(wire::FileId parent, const std::string& name) const;
  size_t size() const;

 private:
  struct Entry {
    std::shared_ptr<Node> node;
    std::shared_ptr<Kept> kept;
  };
  static std::string KeyOf(wire::FileId parent, const std::string& name);
  void Run();

  const std::function<void(Node&)> drop_;
  const size_t most_;
  mutable std::mutex mu_;  // guards what follows
  CondVar changed_;
  bool stopping_ = false;
  std::shared_ptr<const client::DelegationPage> page_;
  uint64_t asked_back_ = 0;  // as of the last look
  std::unordered_map<std::string, Entry> entries_;
  std::thread thread_;  // started by the first Add
};

}  // namespace perigee::fuse
