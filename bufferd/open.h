#pragma once
// Opener: which burst file serves an open, and the changes that an open makes: creating a file,
// fetching a copy, taking up writing again, truncating.
//
// Reading: the burst file that holds what the namespace names (or what this node is writing); else
// a new one, filled from where the content is. Writing: the same burst file again, once `writing
// v+1 over v` is journaled durably, or a new one for O_TRUNC (the old version stays readable until
// the publish, and with those who have it open). A new one with a copy of the bytes where they are
// nowhere else, are few, and nobody has them open: then the old version is whole whatever happens
// before the new one is durable. One opener at a time decides for a file id. What it returns counts
// as a handle until Release. Thread-safe; blocks.

#include <string>

#include "bufferd/budget.h"
#include "bufferd/core.h"
#include "bufferd/fill.h"
#include "bufferd/flush.h"
#include "bufferd/publish.h"
#include "bufferd/seal.h"

namespace perigee::bufferd {

struct OpenAsk {
  wire::Caller caller;
  wire::FileId id = 0;
  std::string path;  // "bucket/key" when id is 0
  wire::Access access = wire::Access::kRead;
  bool truncate = false;
  wire::BurstId expect_burst = 0;
  Nanos wait_fill = 0;
  Nanos deadline = 0;  // monotonic
  bool want_delegation = false;
};

struct CreateAsk {
  wire::Caller caller;
  wire::FileId parent = 0;
  std::string name;
  std::string path;
  bool replace = false;
  uint32_t mode = 0644;
  uint32_t uid = 0, gid = 0;
  Nanos deadline = 0;
};

struct Opened {
  FilePtr file;
  wire::Access access = wire::Access::kRead;
  wire::OpenKind kind = wire::OpenKind::kDescriptor;
  wire::Record record;
  uint64_t size = 0;
  std::optional<wire::Delegation> delegation;
};

// kPermissionDenied unless the record's bits give `caller` what `access` needs.
Status CheckAccess(const wire::Record& record, const wire::Caller& caller, wire::Access access);

class Opener {
 public:
  // Content up to this size is copied rather than rewritten in place.
  static constexpr uint64_t kCopyMax = 4 << 20;

  struct Parts {
    Publisher* publisher = nullptr;
    Sealer* sealer = nullptr;
    Flusher* flusher = nullptr;
    Filler* filler = nullptr;
    Budget* budget = nullptr;
    std::function<Status(const FilePtr&)>
        reconcile;  // for a file loaded at start: before it is written, or read after a reboot
    std::function<void()> reconcile_flagged;  // in the background, until done
    std::function<void(const wire::Record&)>
        lost;  // the record names a burst file of this node that is not here
  };
  Opener(Core& core, Parts parts) : core_(core), parts_(std::move(parts)) {}

  Result<Opened> Open(const OpenAsk& ask);
  Result<Opened> Create(const CreateAsk& ask);
  void Release(const FilePtr& file, wire::Access access);
  // ftruncate through an open for writing.
  Status Truncate(const FilePtr& file, uint64_t size);
  // truncate(2): opens, cuts, publishes, releases.
  Result<FilePtr> TruncateClosed(const wire::Caller& caller, wire::FileId id, uint64_t size,
                                 Nanos deadline);
  // By path, through every directory, as `caller`.
  Result<wire::RecordReply> Resolve(const wire::Caller& caller, const std::string& path);

 private:
  Result<Opened> OpenRead(const wire::Record& record, const OpenAsk& ask);
  Result<Opened> OpenWrite(const wire::Record& record, const OpenAsk& ask);
  Result<Opened> OpenAway(const OpenAsk& ask, const Status& why);
  Result<Opened> OpenWriterAway(const FilePtr& file, const OpenAsk& ask, const Status& why);
  Status BeginAway(const FilePtr& file);
  enum class Start { kEmpty, kCopy };
  Result<Opened> WriteNewAway(const FilePtr& before, const OpenAsk& ask, Start start);
  void Replace(const FilePtr& before, const FilePtr& file);
  Result<Opened> Rewrite(const FilePtr& file, const wire::Record& record, const OpenAsk& ask);
  Result<Opened> WriteNew(const FilePtr& before, const wire::Record& record, Start start);
  bool CopiedFirst(const FilePtr& file, uint32_t own_readers) const;
  Result<FilePtr> MakeWritten(BurstRecord record, const FilePtr& before, Start start);
  Status CopyBytes(const FilePtr& from, const FilePtr& to);
  Result<FilePtr> MakeCopy(const wire::Record& record);
  Result<FilePtr> MakeFile(BurstRecord record);
  Result<wire::RecordReply> ParentOf(const CreateAsk& ask, std::string* name);
  void Delegate(const wire::RecordReply& found, const Delegations::Mark& mark, Opened* opened);
  bool Serves(const BurstFile& file, const wire::Record& record) const;
  Result<FilePtr> ServingFile(const wire::Record& record);
  bool TakeReader(const FilePtr& file, const wire::Record& record);
  void DropReader(const FilePtr& file);
  void MakeCurrent(const FilePtr& file);

  Core& core_;
  const Parts parts_;
};

}  // namespace perigee::bufferd
