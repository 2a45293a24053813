#pragma once
// BlobBuffer: a blob on its way to the drives, in memory the way its shards are stored.
//
// Piece i of the transfer pool is shard i: byte b of stripe s, chunk i is handed out where it will
// be sent from, so nothing is copied between reading a file and sending its shards. crc32c and
// parity of a chunk and a stripe are computed the moment they are full, while the bytes are in the
// cache. Memory is taken for the blob's expected length and grows with it. Belongs to one thread
// until sealed; then immutable, but for Release.

#include <memory>
#include <vector>

#include "client/blob/geometry.h"
#include "client/ec/erasure_code.h"
#include "rdma/slab_pool.h"

namespace perigee::client {

class BlobBuffer {
 public:
  // `code` is the volume's profile.
  explicit BlobBuffer(std::shared_ptr<const ErasureCode> code);

  uint64_t full_bytes() const { return FullBlobBytes(code_->k()); }
  uint64_t stripe_bytes() const { return uint64_t{kChunkBytes} * code_->k(); }
  uint64_t bytes() const { return bytes_; }
  uint64_t capacity() const { return capacity_; }

  // Takes memory for a blob of that many bytes (at most full_bytes), parity included. False when
  // the pool has not enough at the moment; the buffer is then as before.
  bool TryGrow(rdma::SlabPool& pool, uint64_t blob_bytes);
  // The next free run: at most `want` bytes, inside one chunk. Empty at capacity.
  MutableBytes Free(size_t want);
  void Commit(size_t filled);  // at most what Free gave

  // No more bytes: the geometry is known.
  void Close();
  const Geometry& geometry() const { return geometry_; }
  // Once, after Close, on any one thread: the last stripe takes its final shape, crcs and parity
  // are computed. What follows needs it.
  void Encode();
  bool encoded() const { return encoded_; }
  uint32_t shards() const { return geometry_.k + geometry_.m; }
  ConstBytes Shard(uint32_t index) const;
  std::shared_ptr<const void> Owner(uint32_t index) const;  // of those bytes
  const std::vector<uint32_t>& Crcs(uint32_t index) const;
  // Copies [offset, offset + out.size()) of the blob out.
  void CopyOut(uint64_t offset, MutableBytes out) const;
  void Release();  // gives the memory back, but for what others own, too

 private:
  uint32_t PieceOf(uint32_t shard) const { return geometry_.k == 1 ? 0 : shard; }
  uint64_t PieceBytes(uint32_t index, uint64_t blob_bytes) const;
  void EncodeStripe(uint32_t stripe);
  void ShapeLastStripe();

  std::shared_ptr<const ErasureCode> code_;
  // k data, m parity; k = 1: only one.
  std::vector<std::shared_ptr<rdma::Piece>> pieces_;
  std::vector<std::vector<uint32_t>> crcs_;  // by piece
  uint64_t bytes_ = 0;
  uint64_t capacity_ = 0;
  Geometry geometry_;  // once closed
  bool encoded_ = false;
};

}  // namespace perigee::client
