#pragma once
// What the channels and listeners of one `local` transport share. Thread-safe.

#include <memory>
#include <string>

#include "rdma/local/bulk.h"
#include "rdma/local/stream.h"
#include "rdma/provider_core.h"
#include "rdma/transport.h"

namespace perigee::rdma::local {

class Core final : public ProviderCore {
 public:
  static Result<std::shared_ptr<Core>> Create(TransportOptions options, LocalOptions local);

  const LocalOptions& local() const { return local_; }
  const std::shared_ptr<LeaseTable>& leases() const { return leases_; }

  // Bulk went by reference: counts it.
  void NoteBulkOut(size_t bytes) {
    CountSent(bytes);
    NotePoolUse();
  }
  void NoteBulkIn(size_t bytes) {
    CountReceived(bytes);
    NotePoolUse();
  }

 private:
  Core() = default;
  LocalOptions local_;
  std::shared_ptr<LeaseTable> leases_;
};

// A Unix socket address, also for paths longer than sun_path holds (through a descriptor of the
// directory).
class SocketPath {
 public:
  static Result<SocketPath> Of(const std::string& path);
  const void* address() const { return address_; }
  uint32_t length() const { return length_; }

 private:
  OwnedFd dir_;
  alignas(8) char address_[128];
  uint32_t length_ = 0;
};

}  // namespace perigee::rdma::local
