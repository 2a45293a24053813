#pragma once
// CodeCache: one ErasureCode per profile, built when first asked for. Thread-safe.

#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "client/ec/erasure_code.h"

namespace perigee::client {

class CodeCache {
 public:
  Result<std::shared_ptr<const ErasureCode>> Get(uint32_t k, uint32_t m) {
    std::lock_guard lock(mu_);
    std::shared_ptr<const ErasureCode>& code = codes_[{k, m}];
    if (!code) {
      auto made = ErasureCode::Create(k, m);
      if (!made.ok()) {
        codes_.erase({k, m});
        return made;
      }
      code = std::move(made).value();
    }
    return code;
  }

 private:
  std::mutex mu_;  // guards codes_
  std::map<std::pair<uint32_t, uint32_t>, std::shared_ptr<const ErasureCode>> codes_;
};

}  // namespace perigee::client
