#pragma once
// The `net` part of perigee bench: prints a table, or one JSON value.

#include <string>

#include "cli/commands.h"

namespace perigee::cli {

// From that daemon of this stack ("bufferd", "objectd") to an address, or to the stack's other one
// by its name; `to` empty: bufferd's objectd, objectd's bufferd.
Status BenchNet(const Verb& v, const std::string& from, const std::string& to, uint64_t bytes_max);

}  // namespace perigee::cli
