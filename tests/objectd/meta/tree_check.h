#pragma once
// What must hold between the namespace's rows at any time: an entry has its index row and back, a
// live directory its liveness row, no directory is unreachable or above itself, implicit
// directories are not empty, links are counted, inline bytes and blob references belong to some
// version, the file count is right. Returns what is wrong, one line each.

#include <string>
#include <vector>

#include "objectd/kv/store.h"

namespace perigee::objectd::test {

std::vector<std::string> CheckTree(kv::Store& store);

}  // namespace perigee::objectd::test
