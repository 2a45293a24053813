#pragma once
// Who keeps a blob alive: intents, references and garbage, as keys written inside the namespace's
// own transactions.
//
//   N <intent>                    -> volume, first sequence, count, expiry, owner node (leased, not
//   yet used) R <volume> <seq> <owner>      -> empty      owner = file id + generation, extent list
//   id, or upload part L <list id> <offset>          -> extent; L <list id> alone is the list's
//   head (its reference count) G <kind> <id…>                -> what the collector must look at
// A commit that uses blobs conflict-reads their intents (UseIntents: kStale when one has expired
// and was collected). Releasing writes garbage keys only; bytes go when the garbage key is durable
// and a reader's grace has passed. All are plain functions over a transaction: no state, no I/O of
// their own.

#include <cstdint>
#include <string>
#include <vector>

#include "objectd/kv/store.h"
#include "rdma/wire/record.h"

namespace perigee::objectd {

// Who holds content: one of these per version of a file or per uploaded part. Encoded as 16 bytes
// big-endian.
struct ContentOwner {
  uint64_t id = 0;  // file id, or upload part's id (from the same id space)
  uint64_t generation = 0;
};

// Blobs that one commit may reference: a transaction writes at most 1,000 keys. Objects of more use
// a list.
inline constexpr uint64_t kBlobsPerCommitMax = 512;

// Makes `owner` hold all blobs of `extents` (or the list): reference rows, and conflict reads of
// `intents`. kTooLarge over kBlobsPerCommitMax blobs (AddListExtents too).
Status AcquireContent(kv::Transaction& txn, const ContentOwner& owner,
                      const std::vector<wire::Extent>& extents, uint64_t list_id,
                      const std::vector<uint64_t>& intents);
// The owner no longer holds them. Blobs nobody holds become garbage in this commit (lists: when the
// collector walks them).
Status ReleaseContent(kv::Transaction& txn, const ContentOwner& owner,
                      const std::vector<wire::Extent>& extents, uint64_t list_id, int64_t wall_now);
// Rows of a list under construction; see wire::AddExtentsRequest. The list is garbage unless
// acquired before its intents expire.
Status AddListExtents(kv::Transaction& txn, uint64_t list_id,
                      const std::vector<wire::Extent>& extents,
                      const std::vector<uint64_t>& intents, int64_t expires);
// `extents` in portions that one AddListExtents each can take; one of very many blobs is cut
// between blobs.
std::vector<std::vector<wire::Extent>> SplitForCommits(const std::vector<wire::Extent>& extents);
Result<std::vector<wire::Extent>> ReadListExtents(kv::Transaction& txn, uint64_t list_id,
                                                  uint64_t offset, size_t limit);

}  // namespace perigee::objectd
