#include "base/mem_pages.h"

#include <algorithm>

namespace perigee {

size_t MemPages::Read(uint64_t offset, MutableBytes data) const {
  if (offset >= size_) return 0;
  size_t total = std::min<uint64_t>(data.size(), size_ - offset);
  for (size_t done = 0; done < total;) {
    size_t within = (offset + done) % kPageBytes;
    size_t n = std::min(total - done, kPageBytes - within);
    auto it = pages_.find((offset + done) / kPageBytes);
    if (it == pages_.end() || !it->second) {
      std::memset(data.data() + done, 0, n);
    } else {
      std::memcpy(data.data() + done, it->second->data() + within, n);
    }
    done += n;
  }
  return total;
}

void MemPages::Write(uint64_t offset, ConstBytes data) {
  for (size_t done = 0; done < data.size();) {
    size_t within = (offset + done) % kPageBytes;
    size_t n = std::min(data.size() - done, kPageBytes - within);
    uint64_t page = (offset + done) / kPageBytes;
    KeepSynced(page);
    std::memcpy(Writable(page).data() + within, data.data() + done, n);
    done += n;
  }
  if (!data.empty()) size_ = std::max(size_, offset + data.size());
}

void MemPages::Truncate(uint64_t size) {
  if (size < size_) {
    uint64_t first_gone = RoundUp(size, kPageBytes) / kPageBytes;
    while (!pages_.empty() && pages_.rbegin()->first >= first_gone) {
      uint64_t page = pages_.rbegin()->first;
      KeepSynced(page);
      cut_.insert(page);
      pages_.erase(page);
    }
    if (size % kPageBytes != 0 && pages_.contains(size / kPageBytes)) {
      cut_.insert(size / kPageBytes);
      ZeroWithin(size / kPageBytes, size % kPageBytes, kPageBytes);
    }
  }
  size_ = size;
}

void MemPages::Allocate(uint64_t offset, uint64_t bytes) {
  for (uint64_t page = offset / kPageBytes; page * kPageBytes < offset + bytes; ++page) {
    if (pages_.contains(page)) continue;
    KeepSynced(page);
    pages_[page] = nullptr;
  }
  size_ = std::max(size_, offset + bytes);
}

void MemPages::PunchHole(uint64_t offset, uint64_t bytes) {
  uint64_t end = offset + std::min(bytes, UINT64_MAX - offset);
  auto it = pages_.lower_bound(offset / kPageBytes);
  while (it != pages_.end() && it->first * kPageBytes < end) {
    uint64_t page = it->first;
    uint64_t start = page * kPageBytes;
    ++it;
    if (offset <= start && start + kPageBytes <= end) {
      KeepSynced(page);
      pages_.erase(page);
    } else {
      ZeroWithin(page, std::max(offset, start) - start,
                 std::min(end - start, uint64_t{kPageBytes}));
    }
  }
}

uint64_t MemPages::Missing(uint64_t offset, uint64_t bytes) const {
  if (bytes == 0) return 0;
  uint64_t first = offset / kPageBytes;
  uint64_t last = (offset + bytes - 1) / kPageBytes;
  auto have = std::distance(pages_.lower_bound(first), pages_.upper_bound(last));
  return (last - first + 1 - static_cast<uint64_t>(have)) * kPageBytes;
}

void MemPages::FlipBit(uint64_t bit) {
  uint64_t page = bit / 8 / kPageBytes;
  Writable(page)[bit / 8 % kPageBytes] ^= static_cast<uint8_t>(1u << (bit % 8));
}

void MemPages::Sync() {
  synced_.clear();
  cut_.clear();
  synced_size_ = size_;
}

void MemPages::Crash(Random& random) {
  bool old_size = size_ != synced_size_ && random.OneIn(2);
  if (old_size) size_ = synced_size_;
  for (auto& [page, synced] : synced_) {
    bool put_back = cut_.contains(page) ? old_size : random.OneIn(2);
    if (!put_back) continue;
    if (synced) {
      pages_[page] = *synced;
    } else {
      pages_.erase(page);
    }
  }
  // What lies beyond the size is gone, as a truncation would have it.
  uint64_t end = RoundUp(size_, kPageBytes) / kPageBytes;
  pages_.erase(pages_.lower_bound(end), pages_.end());
  if (size_ % kPageBytes != 0 && pages_.contains(end - 1))
    ZeroWithin(end - 1, size_ % kPageBytes, kPageBytes);
  Sync();
}

void MemPages::KeepSynced(uint64_t page) {
  auto [it, first] = synced_.try_emplace(page);
  if (!first) return;
  if (auto have = pages_.find(page); have != pages_.end()) it->second = have->second;
}

MemPages::Bytes& MemPages::Writable(uint64_t page) {
  Page& p = pages_[page];
  if (!p) {
    p = std::make_shared<Bytes>();
    p->fill(0);
  } else if (p.use_count() > 1) {
    p = std::make_shared<Bytes>(*p);  // the synced one stays as it is
  }
  return *p;
}

void MemPages::ZeroWithin(uint64_t page, size_t from, size_t to) {
  KeepSynced(page);
  auto& bytes = Writable(page);
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(from),
            bytes.begin() + static_cast<std::ptrdiff_t>(to), 0);
}

}  // namespace perigee
