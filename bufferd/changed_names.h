#pragma once
// ChangedNames: which names the journal changes. Until a change is made at objectd, what objectd
// says of its names is what was before it. Guarded by its owner.

#include <map>
#include <string>
#include <utility>

#include "bufferd/name_op.h"

namespace perigee::bufferd {

class ChangedNames {
 public:
  void Add(const NameOp& op, uint64_t sequence);
  void Clear() { last_.clear(); }

  // `next`: the changes before it are made.
  bool Has(wire::FileId dir, const std::string& name, uint64_t next) const;
  bool HasIn(wire::FileId dir, uint64_t next) const;

 private:
  std::map<std::pair<wire::FileId, std::string>, uint64_t> last_;  // the last change of each
};

}  // namespace perigee::bufferd
