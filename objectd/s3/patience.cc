#include "objectd/s3/patience.h"

#include <algorithm>

namespace perigee::objectd::s3 {

Nanos Patience::Left(const Debt& debt) const {
  const bool pressed = waiting_ > limits_.waiting_max;
  return (pressed ? std::min(limits_.pressed_timeout, limits_.timeout) : limits_.timeout) -
         debt.owed_;
}

void Patience::Pay(Debt* debt, uint64_t bytes) const {
  const double paid = static_cast<double>(bytes) / static_cast<double>(limits_.rate_min) * kSecond;
  debt->owed_ =
      paid >= static_cast<double>(debt->owed_) ? 0 : debt->owed_ - static_cast<Nanos>(paid);
}

}  // namespace perigee::objectd::s3
