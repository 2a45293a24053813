#include "client/ec/erasure_code.h"

#include <isa-l/erasure_code.h>

#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

namespace perigee::client {

namespace {

constexpr size_t kTableBytes = 32;    // ISA-L's expanded table of one coefficient
constexpr size_t kDecodersMax = 256;  // cached; over it the cache starts anew
constexpr uint32_t kShardsMax = kDataShardsMax + kParityShardsMax;

using Pointers = std::array<unsigned char*, kShardsMax>;

// k = 1: every shard is the chunk itself.
class Copies final : public ErasureCode {
 public:
  explicit Copies(uint32_t m) : m_(m) {}
  uint32_t k() const override { return 1; }
  uint32_t m() const override { return m_; }
  void Encode(size_t chunk_bytes, std::span<const uint8_t* const> data,
              std::span<uint8_t* const> parity) const override {
    for (uint8_t* p : parity) std::memcpy(p, data[0], chunk_bytes);
  }
  Status Reconstruct(size_t chunk_bytes, std::span<const uint32_t> present,
                     std::span<const uint8_t* const> chunks, std::span<const uint32_t> wanted,
                     std::span<uint8_t* const> out) const override {
    if (present.size() != 1 || chunks.size() != 1 || present[0] > m_ ||
        wanted.size() != out.size()) {
      return Status(Code::kInvalidArgument, "copies are reconstructed from exactly one");
    }
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (wanted[i] > m_)
        return Status(Code::kInvalidArgument, "no copy " + std::to_string(wanted[i]));
      std::memcpy(out[i], chunks[0], chunk_bytes);
    }
    return Status::Ok();
  }

 private:
  uint32_t m_;
};

class ReedSolomon final : public ErasureCode {
 public:
  ReedSolomon(uint32_t k, uint32_t m)
      : k_(k), m_(m), matrix_((k + m) * k), encode_tables_(kTableBytes * k * m) {
    gf_gen_cauchy1_matrix(matrix_.data(), static_cast<int>(k + m), static_cast<int>(k));
    if (m > 0) {
      ec_init_tables(static_cast<int>(k), static_cast<int>(m), matrix_.data() + k * k,
                     encode_tables_.data());
    }
  }
  uint32_t k() const override { return k_; }
  uint32_t m() const override { return m_; }

  void Encode(size_t chunk_bytes, std::span<const uint8_t* const> data,
              std::span<uint8_t* const> parity) const override {
    PERIGEE_CHECK(data.size() == k_ && parity.size() == m_);
    if (m_ > 0) Apply(chunk_bytes, encode_tables_, data, parity);
  }

  Status Reconstruct(size_t chunk_bytes, std::span<const uint32_t> present,
                     std::span<const uint8_t* const> chunks, std::span<const uint32_t> wanted,
                     std::span<uint8_t* const> out) const override {
    PERIGEE_TRY(CheckIndices(present, chunks.size(), wanted, out.size()));
    if (wanted.empty()) return Status::Ok();
    PERIGEE_ASSIGN(std::shared_ptr<const Tables> tables, DecodeTables(present, wanted));
    Apply(chunk_bytes, *tables, chunks, out);
    return Status::Ok();
  }

 private:
  using Tables = std::vector<uint8_t>;

  void Apply(size_t chunk_bytes, const Tables& tables, std::span<const uint8_t* const> in,
             std::span<uint8_t* const> out) const {
    // ISA-L takes non-const pointers and reads through them only.
    Pointers from, to;
    for (size_t i = 0; i < in.size(); ++i) from[i] = const_cast<unsigned char*>(in[i]);
    for (size_t i = 0; i < out.size(); ++i) to[i] = out[i];
    ec_encode_data(static_cast<int>(chunk_bytes), static_cast<int>(k_),
                   static_cast<int>(out.size()), const_cast<unsigned char*>(tables.data()),
                   from.data(), to.data());
  }

  Status CheckIndices(std::span<const uint32_t> present, size_t chunks,
                      std::span<const uint32_t> wanted, size_t out) const {
    if (present.size() != k_ || chunks != k_) {
      return Status(Code::kInvalidArgument,
                    "reconstruction takes exactly " + std::to_string(k_) + " chunks");
    }
    if (wanted.size() != out || wanted.size() > kShardsMax) {
      return Status(Code::kInvalidArgument, "as many outputs as wanted chunks, please");
    }
    for (size_t i = 0; i < present.size(); ++i) {
      if (present[i] >= k_ + m_ || (i > 0 && present[i] <= present[i - 1])) {
        return Status(Code::kInvalidArgument,
                      "present chunks are not ascending indices of this code");
      }
    }
    for (uint32_t w : wanted) {
      if (w >= k_ + m_)
        return Status(Code::kInvalidArgument, "no chunk " + std::to_string(w) + " in this code");
    }
    return Status::Ok();
  }

  // The rows that turn the chunks at hand into the wanted ones: for data, rows of the inverse of
  // the generator's rows of what is present; for parity, the generator's row times that inverse.
  Result<std::shared_ptr<const Tables>> DecodeTables(std::span<const uint32_t> present,
                                                     std::span<const uint32_t> wanted) const {
    std::string key;
    for (uint32_t p : present) key.push_back(static_cast<char>(p));
    for (uint32_t w : wanted) key.push_back(static_cast<char>(w));
    {
      std::lock_guard lock(mu_);
      auto it = decoders_.find(key);
      if (it != decoders_.end()) return it->second;
    }
    std::vector<uint8_t> rows(k_ * k_), inverse(k_ * k_), decode(wanted.size() * k_);
    for (uint32_t i = 0; i < k_; ++i) std::memcpy(&rows[i * k_], &matrix_[present[i] * k_], k_);
    if (gf_invert_matrix(rows.data(), inverse.data(), static_cast<int>(k_)) != 0) {
      return Status(Code::kInternal, "a Cauchy submatrix was singular");
    }
    for (size_t w = 0; w < wanted.size(); ++w) {
      for (uint32_t col = 0; col < k_; ++col) {
        uint8_t sum = 0;
        for (uint32_t i = 0; i < k_; ++i)
          sum ^= gf_mul(matrix_[wanted[w] * k_ + i], inverse[i * k_ + col]);
        decode[w * k_ + col] = sum;
      }
    }
    auto tables = std::make_shared<Tables>(kTableBytes * k_ * wanted.size());
    ec_init_tables(static_cast<int>(k_), static_cast<int>(wanted.size()), decode.data(),
                   tables->data());
    std::lock_guard lock(mu_);
    if (decoders_.size() >= kDecodersMax) decoders_.clear();
    decoders_[key] = tables;
    return std::shared_ptr<const Tables>(tables);
  }

  const uint32_t k_, m_;
  std::vector<uint8_t> matrix_;  // (k+m) x k, identity on top
  Tables encode_tables_;
  mutable std::mutex mu_;  // guards decoders_
  mutable std::map<std::string, std::shared_ptr<const Tables>> decoders_;
};

}  // namespace

Result<std::shared_ptr<const ErasureCode>> ErasureCode::Create(uint32_t k, uint32_t m) {
  if (k < 1 || k > kDataShardsMax || m > kParityShardsMax) {
    return Status(Code::kInvalidArgument, "erasure code " + std::to_string(k) + "+" +
                                              std::to_string(m) + ": K is 1 to 16 and M 0 to 4");
  }
  if (k == 1) return std::shared_ptr<const ErasureCode>(std::make_shared<Copies>(m));
  return std::shared_ptr<const ErasureCode>(std::make_shared<ReedSolomon>(k, m));
}

}  // namespace perigee::client
