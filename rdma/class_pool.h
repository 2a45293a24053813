#pragma once
// ClassPool: a Scheduler's threads by traffic class (class_queue.h). Each Post is one task there,
// which then does what goes first of all that waits here. Thread rule: thread-safe.

#include <memory>
#include <mutex>

#include "base/scheduler.h"
#include "rdma/class_queue.h"

namespace perigee::rdma {

class ClassPool : public std::enable_shared_from_this<ClassPool> {
 public:
  // `pool` outlives what is posted.
  static std::shared_ptr<ClassPool> Create(Scheduler* pool) {
    return std::shared_ptr<ClassPool>(new ClassPool(pool));
  }

  // As Scheduler::Post.
  Status Post(TrafficClass traffic, Task task);
  Clock& clock() { return pool_->clock(); }

 private:
  explicit ClassPool(Scheduler* pool) : pool_(pool) {}
  void RunNext();

  Scheduler* const pool_;
  std::mutex mu_;
  ClassQueue<Task> waiting_;  // guarded by mu_; as many as there are tasks of ours in the pool
};

}  // namespace perigee::rdma
