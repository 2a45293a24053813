#include "client/blob/blob_buffer.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/checksum.h"

namespace perigee::client {

BlobBuffer::BlobBuffer(std::shared_ptr<const ErasureCode> code) : code_(std::move(code)) {
  // Copies are all sent from the one piece.
  size_t pieces = code_->k() == 1 ? 1 : code_->k() + code_->m();
  for (size_t i = 0; i < pieces; ++i) pieces_.push_back(std::make_shared<rdma::Piece>());
  crcs_.resize(pieces);
}

// What piece `index` needs for any blob of up to `blob_bytes`, both while it is filled (whole
// chunks) and in its final shape.
uint64_t BlobBuffer::PieceBytes(uint32_t index, uint64_t blob_bytes) const {
  uint64_t shard_bytes = Geometry::Of(blob_bytes, code_->k(), code_->m()).shard_bytes();
  if (blob_bytes < kCopyBytesMax) return index == 0 ? shard_bytes : 0;
  if (index >= code_->k()) return shard_bytes;
  uint64_t stripes = blob_bytes / stripe_bytes();
  uint64_t rest = blob_bytes % stripe_bytes();
  uint64_t before = uint64_t{index} * kChunkBytes;
  uint64_t in_last = rest <= before ? 0 : std::min<uint64_t>(rest - before, kChunkBytes);
  return std::max(shard_bytes, stripes * kChunkBytes + in_last);
}

bool BlobBuffer::TryGrow(rdma::SlabPool& pool, uint64_t blob_bytes) {
  PERIGEE_CHECK(blob_bytes <= full_bytes());
  if (blob_bytes <= capacity_) return true;
  std::vector<rdma::Piece> larger(pieces_.size());
  for (uint32_t i = 0; i < pieces_.size(); ++i) {
    uint64_t need = RoundUp(PieceBytes(i, blob_bytes), kPageBytes);
    if (need <= pieces_[i]->size()) continue;
    larger[i] = pool.TryAllocate(need);
    if (!larger[i]) return false;
  }
  for (uint32_t i = 0; i < pieces_.size(); ++i) {
    if (!larger[i]) continue;
    // Whatever the old piece may hold; it is smaller.
    if (*pieces_[i] && bytes_ > 0) {
      std::memcpy(larger[i].data(), pieces_[i]->data(), pieces_[i]->size());
    }
    *pieces_[i] = std::move(larger[i]);
  }
  capacity_ = blob_bytes;
  return true;
}

MutableBytes BlobBuffer::Free(size_t want) {
  uint64_t in_stripe = bytes_ % stripe_bytes();
  uint64_t chunk = in_stripe / kChunkBytes;
  uint64_t in_chunk = in_stripe % kChunkBytes;
  uint64_t run = std::min<uint64_t>({want, kChunkBytes - in_chunk, capacity_ - bytes_});
  if (run == 0) return {};
  uint64_t offset = bytes_ / stripe_bytes() * kChunkBytes + in_chunk;
  return {pieces_[chunk]->data() + offset, run};
}

void BlobBuffer::Commit(size_t filled) {
  PERIGEE_CHECK(bytes_ % kChunkBytes + filled <= kChunkBytes && bytes_ + filled <= capacity_);
  bytes_ += filled;
}

// The last stripe was filled in chunks of kChunkBytes; its final chunks are shorter, so each one's
// bytes begin in the same piece or in one before. Going down from the last, a piece's old bytes are
// only needed by pieces already done and by itself.
void BlobBuffer::ShapeLastStripe() {
  const uint32_t k = geometry_.k;
  const uint64_t chunk_bytes = geometry_.last_chunk_bytes;
  const uint64_t at = geometry_.ChunkOffset(geometry_.stripes - 1);
  const uint64_t rest = bytes_ - geometry_.StripeOffset(geometry_.stripes - 1);
  for (uint32_t i = k; i-- > 0;) {
    uint8_t* to = pieces_[i]->data() + at;
    const uint64_t begin = std::min(i * chunk_bytes, rest);
    uint64_t end = std::min(begin + chunk_bytes, rest);
    const uint64_t filled = end - begin;
    while (end > begin) {
      uint64_t from = (end - 1) / kChunkBytes;
      uint64_t first = std::max(begin, from * kChunkBytes);
      std::memmove(to + (first - begin), pieces_[from]->data() + at + (first - from * kChunkBytes),
                   end - first);
      end = first;
    }
    std::memset(to + filled, 0, chunk_bytes - filled);
  }
}

void BlobBuffer::Close() {
  PERIGEE_CHECK(bytes_ > 0 && geometry_.stripes == 0);
  geometry_ = Geometry::Of(bytes_, code_->k(), code_->m());
}

void BlobBuffer::Encode() {
  PERIGEE_CHECK(geometry_.stripes > 0 && !encoded_);
  bool whole = bytes_ % stripe_bytes() == 0 && geometry_.k == code_->k();
  if (!whole) ShapeLastStripe();
  for (uint32_t stripe = 0; stripe < geometry_.stripes; ++stripe) EncodeStripe(stripe);
  encoded_ = true;
}

// Stripe by stripe, so that the chunks come out of the cache for the parity.
void BlobBuffer::EncodeStripe(uint32_t stripe) {
  const uint64_t at = geometry_.ChunkOffset(stripe);
  const uint32_t bytes = geometry_.ChunkBytes(stripe);
  std::array<const uint8_t*, kDataShardsMax> data;
  for (uint32_t i = 0; i < geometry_.k; ++i) {
    data[i] = pieces_[i]->data() + at;
    crcs_[i].push_back(Crc32c({data[i], bytes}));
  }
  if (geometry_.k == 1 || geometry_.m == 0) return;  // of copies, all are sent from the one piece
  std::array<uint8_t*, kParityShardsMax> parity;
  for (uint32_t j = 0; j < code_->m(); ++j) parity[j] = pieces_[code_->k() + j]->data() + at;
  code_->Encode(bytes, {data.data(), code_->k()}, {parity.data(), code_->m()});
  for (uint32_t j = 0; j < code_->m(); ++j) {
    crcs_[code_->k() + j].push_back(Crc32c({parity[j], bytes}));
  }
}

ConstBytes BlobBuffer::Shard(uint32_t index) const {
  return {pieces_[PieceOf(index)]->data(), geometry_.shard_bytes()};
}

std::shared_ptr<const void> BlobBuffer::Owner(uint32_t index) const {
  return pieces_[PieceOf(index)];
}

const std::vector<uint32_t>& BlobBuffer::Crcs(uint32_t index) const {
  return crcs_[PieceOf(index)];
}

void BlobBuffer::CopyOut(uint64_t offset, MutableBytes out) const {
  const uint64_t stripe_data = uint64_t{geometry_.chunk_bytes} * geometry_.k;
  while (!out.empty()) {
    uint32_t stripe = static_cast<uint32_t>(offset / stripe_data);
    uint64_t chunk_bytes = geometry_.ChunkBytes(stripe);
    uint64_t in_stripe = offset - geometry_.StripeOffset(stripe);
    uint64_t in_chunk = in_stripe % chunk_bytes;
    uint64_t run = std::min<uint64_t>(out.size(), chunk_bytes - in_chunk);
    const rdma::Piece& piece = *pieces_[in_stripe / chunk_bytes];
    std::memcpy(out.data(), piece.data() + geometry_.ChunkOffset(stripe) + in_chunk, run);
    out = out.subspan(run);
    offset += run;
  }
}

void BlobBuffer::Release() { pieces_.clear(); }

}  // namespace perigee::client
