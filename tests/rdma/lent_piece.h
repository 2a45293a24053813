#pragma once
// Lent memory for tests: bytes of the test's own, and a switch that takes them back.

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "rdma/slab_pool.h"

namespace perigee::rdma {

class TestLender final : public PieceOwner, public std::enable_shared_from_this<TestLender> {
 public:
  explicit TestLender(std::vector<uint8_t> bytes) : bytes_(std::move(bytes)) {}
  Piece Lend() {
    Piece piece;
    Fill(&piece, shared_from_this(), bytes_.data(), bytes_.size(), 0, 0);
    return piece;
  }
  void Withdraw() { stands_ = false; }

 protected:
  void Free(Piece*) override {}
  bool Stands() const override { return stands_; }

 private:
  std::vector<uint8_t> bytes_;
  std::atomic<bool> stands_ = true;
};

}  // namespace perigee::rdma
