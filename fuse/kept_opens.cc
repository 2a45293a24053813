#include "fuse/kept_opens.h"

#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"

namespace perigee::fuse {

namespace {

constexpr size_t kMost = 16384;
constexpr size_t kDescriptorsEach = 2;

// A quarter of the descriptors that this process may have.
size_t Most() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  return std::min<size_t>(kMost, limit.rlim_cur / 4 / kDescriptorsEach);
}

}  // namespace

void Kept::Use() {
  used = RealClock::Get().Monotonic();
  page->Used();
}

KeptOpens::KeptOpens(std::function<void(Node&)> drop) : drop_(std::move(drop)), most_(Most()) {}

void KeptOpens::Stop() {
  std::vector<std::shared_ptr<Node>> left;
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
    changed_.NotifyAll();
    for (const auto& [key, entry] : entries_) left.push_back(entry.node);
  }
  if (thread_.joinable()) thread_.join();
  for (const auto& node : left) drop_(*node);
}

std::string KeptOpens::KeyOf(wire::FileId parent, const std::string& name) {
  std::string key;
  AppendBe64(&key, parent);
  return key + name;
}

uint64_t KeptOpens::known_page() const {
  std::lock_guard lock(mu_);
  return page_ ? page_->number() : 0;
}

std::shared_ptr<const client::DelegationPage> KeptOpens::Page(uint64_t number,
                                                              const rdma::OwnedFd& fd) {
  std::lock_guard lock(mu_);
  if (page_ && page_->number() == number) return page_;
  if (fd.get() < 0) return nullptr;
  auto mapped = client::DelegationPage::Map(fd);
  if (!mapped.ok() || (*mapped)->number() != number) {
    log::Warn("delegation_page_refused", {{"why", mapped.status()}});
    return nullptr;
  }
  page_ = std::move(*mapped);
  asked_back_ = page_->asked_back();
  return page_;
}

bool KeptOpens::Add(const std::shared_ptr<Node>& node, const std::shared_ptr<Kept>& kept) {
  std::lock_guard lock(mu_);
  if (stopping_ || entries_.size() >= most_) return false;
  const wire::Delegation& d = kept->delegation;
  if (!entries_.try_emplace(KeyOf(d.parent, d.name), Entry{node, kept}).second) return false;
  if (!thread_.joinable()) {
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "kept-opens");
      Run();
    });
  }
  if (entries_.size() == 1) changed_.NotifyAll();
  return true;
}

void KeptOpens::Remove(const std::shared_ptr<Kept>& kept) {
  std::lock_guard lock(mu_);
  auto it = entries_.find(KeyOf(kept->delegation.parent, kept->delegation.name));
  if (it != entries_.end() && it->second.kept == kept) entries_.erase(it);
}

std::shared_ptr<Node> KeptOpens::Find(wire::FileId parent, const std::string& name) const {
  std::lock_guard lock(mu_);
  auto it = entries_.find(KeyOf(parent, name));
  return it == entries_.end() ? nullptr : it->second.node;
}

size_t KeptOpens::size() const {
  std::lock_guard lock(mu_);
  return entries_.size();
}

void KeptOpens::Run() {
  std::unique_lock lock(mu_);
  while (!stopping_) {
    if (entries_.empty()) {
      changed_.Wait(lock);
      continue;
    }
    changed_.WaitFor(lock, kLookEvery, [this] { return stopping_; });
    const bool all = page_ && page_->asked_back() != asked_back_;
    if (page_) asked_back_ = page_->asked_back();
    const Nanos now = RealClock::Get().Monotonic();
    std::vector<std::shared_ptr<Node>> over;
    for (const auto& [key, entry] : entries_) {
      if (all || !entry.kept->Holds() || now - entry.kept->used > kIdle) over.push_back(entry.node);
    }
    lock.unlock();
    for (const auto& node : over) drop_(*node);
    over.clear();
    lock.lock();
  }
}

}  // namespace perigee::fuse
