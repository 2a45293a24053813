#pragma once
// What the kernel can call a file: one component, as both sides of a create judge it. Pure.

#include <cstddef>
#include <string_view>

namespace perigee::wire {

inline constexpr size_t kNameBytesMax = 255;

// Not "", ".", "..", nor with '/' or NUL in it.
inline bool IsNameable(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= kNameBytesMax &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

}  // namespace perigee::wire
