#include "rdma/class_pool.h"

namespace perigee::rdma {

Status ClassPool::Post(TrafficClass traffic, Task task) {
  std::lock_guard lock(mu_);  // across both: whoever runs finds something
  PERIGEE_TRY(pool_->Post([self = shared_from_this()] { self->RunNext(); }));
  waiting_.Push(traffic, std::move(task), clock().Monotonic());
  return Status::Ok();
}

void ClassPool::RunNext() {
  Task task;
  {
    std::lock_guard lock(mu_);
    const Nanos now = clock().Monotonic();
    task = waiting_.Pop(*waiting_.Next(now), now);
  }
  task();
}

}  // namespace perigee::rdma
