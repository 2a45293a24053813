#include "objectd/meta/fsck.h"

#include "objectd/meta/fsck_page.h"

namespace perigee::objectd {
namespace {

using Check = Status (*)(FsckPage&);

Result<Check> CheckOf(wire::FsckCheck check) {
  switch (check) {
    case wire::FsckCheck::kEntries:
      return &FsckEntries;
    case wire::FsckCheck::kIndex:
      return &FsckIndex;
    case wire::FsckCheck::kInodes:
      return &FsckInodes;
    case wire::FsckCheck::kDirectories:
      return &FsckDirectories;
    case wire::FsckCheck::kReferences:
      return &FsckReferences;
    case wire::FsckCheck::kLists:
      return &FsckLists;
    case wire::FsckCheck::kInline:
      return &FsckInline;
    case wire::FsckCheck::kCounters:
      return &FsckCounters;
    default:
      return Status(Code::kInvalidArgument, "not a check of the namespace");
  }
}

}  // namespace

Result<wire::FsckReply> CheckNamespace(kv::Store& store, Clock& clock,
                                       const wire::FsckRequest& request) {
  PERIGEE_ASSIGN(Check check, CheckOf(request.check));
  wire::FsckReply reply;
  auto look = [&](bool repair) -> Status {
    auto ran = store.Run([&](kv::Transaction& txn) -> Status {
      reply = {};
      reply.cursor = request.cursor;
      FsckPage page(txn, repair, clock.Wall(), &reply);
      return check(page);
    });
    if (!ran.ok()) return std::move(ran).TakeStatus();
    return repair ? store.WaitDurable(*ran) : Status::Ok();
  };
  PERIGEE_TRY(look(false));
  // Conflict reads of whole pages would lose every race under load: only pages that need it.
  if (request.repair && !reply.findings.empty()) PERIGEE_TRY(look(true));
  return reply;
}

}  // namespace perigee::objectd
