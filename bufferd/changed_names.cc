#include "bufferd/changed_names.h"

#include <algorithm>

namespace perigee::bufferd {

void ChangedNames::Add(const NameOp& op, uint64_t sequence) {
  Status read = ForEachName(op, [&](wire::FileId dir, const std::string& name) {
    uint64_t& last = last_[{dir, name}];
    last = std::max(last, sequence);
  });
  read.Ignore();  // it fails where it is made
}

bool ChangedNames::Has(wire::FileId dir, const std::string& name, uint64_t next) const {
  auto it = last_.find({dir, name});
  return it != last_.end() && it->second >= next;
}

bool ChangedNames::HasIn(wire::FileId dir, uint64_t next) const {
  for (auto it = last_.lower_bound({dir, ""}); it != last_.end() && it->first.first == dir; ++it)
    if (it->second >= next) return true;
  return false;
}

}  // namespace perigee::bufferd
