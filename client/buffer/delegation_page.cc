#include "client/buffer/delegation_page.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "base/random.h"

namespace perigee::client {

namespace {

constexpr Nanos kUsedEvery = kSecond;  // finer is of no use, and a write that others wait for

}  // namespace

Nanos BootTime() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

DelegationPage::DelegationPage(rdma::OwnedFd fd, Shared* shared, BootClock now)
    : fd_(std::move(fd)), now_(std::move(now)), shared_(shared), number_(shared->number) {}

DelegationPage::~DelegationPage() { munmap(shared_, sizeof(Shared)); }

Result<std::unique_ptr<DelegationPage>> DelegationPage::Create(BootClock now) {
  rdma::OwnedFd fd(memfd_create("perigee-delegations", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (fd.get() < 0) return Status::FromErrno(errno, "memfd_create of the delegations' page");
  if (ftruncate(fd.get(), sizeof(Shared)) != 0)
    return Status::FromErrno(errno, "ftruncate of the delegations' page");
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return Status::FromErrno(errno, "sealing the delegations' page");
  void* base = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) return Status::FromErrno(errno, "mmap of the delegations' page");
  auto* shared = static_cast<Shared*>(base);  // zeroes are what it starts with
  shared->number = SecretU64() | 1;
  return std::unique_ptr<DelegationPage>(new DelegationPage(std::move(fd), shared, std::move(now)));
}

Result<std::unique_ptr<DelegationPage>> DelegationPage::Map(const rdma::OwnedFd& fd,
                                                            BootClock now) {
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return Status::FromErrno(errno, "the delegations' page");
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (st.st_size != sizeof(Shared) || seals < 0 || (seals & F_SEAL_SHRINK) == 0)
    return Status(Code::kCorrupt, "what bufferd sent is no page of delegations");
  void* base = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) return Status::FromErrno(errno, "mmap of the delegations' page");
  return std::unique_ptr<DelegationPage>(
      new DelegationPage(rdma::OwnedFd(), static_cast<Shared*>(base), std::move(now)));
}

Result<rdma::OwnedFd> DelegationPage::Descriptor() const {
  rdma::OwnedFd fd(fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0));
  if (fd.get() < 0) return Status::FromErrno(errno, "the delegations' page");
  return fd;
}

bool DelegationPage::Holds(const wire::Delegation& given) const {
  return given.page == number_ && given.slot < kSlots && count(given.slot) == given.count &&
         now_() < term();
}

void DelegationPage::Used() const {
  const Nanos now = now_();
  if (now - used() >= kUsedEvery) shared_->used = now;
}

}  // namespace perigee::client
