#pragma once
// Publisher: makes what a burst file holds now the committed content of its file.
//
// Each publish is a new generation: journaled here first, then committed by objectd, visible at
// every door on return. Nothing happens when the file did not change since the last one. Up to the
// inline limit the bytes travel in the call. With `sync` the content is durable on return: inline
// bytes in the namespace (kObject), others here (kLocal: data, name and record synced before the
// commit). While objectd is away the generation stays journaled, is registered later, and the call
// succeeds; a file whose id is gone is published nowhere, which is fine too. What another node has
// taken over meanwhile is published beside it, as `name.conflict-ID`, and reported. Thread-safe;
// blocks.

#include <functional>
#include <string>

#include "bufferd/core.h"

namespace perigee::bufferd {

class Publisher {
 public:
  // on_unsynced: the content is committed but not durable; the syncer takes it from there.
  Publisher(Core& core, std::function<void(const FilePtr&)> on_unsynced)
      : core_(core), on_unsynced_(std::move(on_unsynced)) {}

  Status Publish(const FilePtr& file, bool sync);
  // The caller has BusyHold, and the namespace's writer is this file.
  Status PublishHeld(const FilePtr& file, bool sync);
  // Tells the namespace of a journaled generation that it does not have. ok: done or not needed.
  // kStale: not before the journal of names has made the file there. The caller has BusyHold.
  Status RegisterHeld(const FilePtr& file, bool sync);
  // The current file of `id`, with what it has closed and the namespace does not have, to be told
  // with others. Null: another call is at it.
  std::unique_ptr<KeptFile> Keep(wire::FileId id);
  // The namespace no longer has this file, whose current content is in its burst file here: made
  // durable here, and ready to be published again by the writer that is given, once the namespace
  // has it again. kNotFound: the content is not here, or not whole.
  Result<wire::WriterInfo> TakeBack(wire::FileId id);
  // objectd is back: it hears of the files that were opened for writing without it.
  void TellWriters();
  // Registers what waits, in the order it was made. kUnavailable: objectd is away; what else cannot
  // be registered now stays waiting (`left`).
  Status RegisterWaiting(bool* left);
  // The same in the background, over and over while any is left.
  void RegisterLater();
  uint64_t waiting() const;  // files whose generation the namespace does not have yet

 private:
  struct Content {
    FileStat stat;
    bool is_inline = false;
    std::string bytes;
  };
  class Kept;
  // The request that tells of rec.generation, with the bytes of inline content.
  Status Build(const FilePtr& file, bool sync, const Content* fresh, wire::PublishRequest* q,
               std::string* bytes);
  // The namespace has it, since `life`.
  void Registered(const FilePtr& file, uint64_t life, bool object);
  // `fresh`: what the record was just made from, if it was.
  Status Register(const FilePtr& file, bool sync, const Content* fresh);
  Result<Content> Look(const FilePtr& file, File& open) const;
  Status SyncBytes(const FilePtr& file, File& open);
  Status MakeDurableHeld(const FilePtr& file, File& open);
  Result<bool> AlreadyCommitted(const FilePtr& file);
  Result<bool> TellWriter(const FilePtr& file, const wire::Record& now);
  Status MoveBeside(const FilePtr& file, const wire::RecordReply& theirs);
  Status Orphan(const FilePtr& file, uint64_t life);

  Core& core_;
  const std::function<void(const FilePtr&)> on_unsynced_;
  std::atomic<bool> retry_armed_{false};
};

}  // namespace perigee::bufferd
