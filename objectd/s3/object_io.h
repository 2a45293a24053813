#pragma once
// Objects' bytes: reading a committed version wherever it lies (inline, blobs, a node's burst
// buffer), sending it with the next range read ahead, and taking a request's body into inline bytes
// or blobs with its digests computed beside.
//
// Memory comes from a pool of its own with a hard bound: a request waits for its first buffer, and
// takes a second only if one is free, so requests never wait for each other's. Thread rule:
// ContentIo is thread-safe; ObjectContent is immutable, its Read thread-safe. All block.

#include <memory>
#include <mutex>
#include <string>

#include "base/metrics.h"
#include "base/scheduler.h"
#include "client/blob/blob_io.h"
#include "objectd/meta/namespace.h"
#include "objectd/s3/burst_source.h"
#include "objectd/s3/byte_gate.h"
#include "objectd/s3/errors.h"
#include "objectd/s3/http.h"
#include "objectd/s3/payload.h"
#include "rdma/slab_pool.h"

namespace perigee::objectd::s3 {

struct ContentIoDeps {
  Namespace* ns = nullptr;
  client::BlobIoDeps
      blobs;  // cluster null: no object tier (then only inline and burst content works)
  BurstPeers* peers = nullptr;
  Scheduler* helpers = nullptr;  // reads ahead, hashes; never the pool that serves requests
  std::shared_ptr<rdma::SlabPool> buffers;
  ByteGate* documents = nullptr;  // null: they are not bounded
  metrics::Registry* metrics = nullptr;
};

inline constexpr size_t kReadWindowBytes = 4 << 20;
inline constexpr size_t kWriteWindowBytes = 1 << 20;
inline constexpr Nanos kBufferWait = 10 * kSecond;

// kAnywhere: inline up to the namespace's limit. Parts are blobs always.
enum class Placement { kAnywhere, kBlobs };

class ContentIo;

// The bytes of one committed version.
class ObjectContent {
 public:
  // `inline_bytes`: where they are at hand already.
  ObjectContent(ContentIo& io, const wire::Record& record,
                std::optional<std::string> inline_bytes = std::nullopt);
  uint64_t size() const { return version_.size; }
  // How much to ask for at `offset`, at most `left` and kReadWindowBytes: up to a border of
  // stripes, so that no chunk is read twice.
  size_t Window(uint64_t offset, uint64_t left) const;
  // All of it. kStale, kNotFound: the version has been replaced (or its burst file is being
  // rewritten).
  Status Read(uint64_t offset, MutableBytes out) const;

 private:
  Status ReadInline(uint64_t offset, MutableBytes out) const;
  Status ReadBurst(uint64_t offset, MutableBytes out) const;

  ContentIo& io_;
  const wire::FileId id_;
  const wire::Version version_;
  const std::optional<std::string> inline_bytes_;
};

// A range of a version as a body; for copies.
class ContentBody final : public BodyReader {
 public:
  ContentBody(const ObjectContent& content, uint64_t offset, uint64_t length)
      : content_(content), offset_(offset), left_(length) {}
  Result<size_t> Read(MutableBytes out) override;

 private:
  const ObjectContent& content_;
  uint64_t offset_, left_;
};

class ContentIo {
 public:
  explicit ContentIo(ContentIoDeps deps);

  // Sends `head` and [offset, offset + length). A failure is returned only while nothing has been
  // sent; later ones abort the response.
  Status Send(const ObjectContent& content, uint64_t offset, uint64_t length,
              const ResponseHead& head, ResponseWriter& response);

  // Takes exactly `size` bytes and the end of the body; `payload` has then been finished with its
  // trailers.
  Outcome Store(BodyReader& body, uint64_t size, Placement placement, Payload& payload,
                NewContent* out);

  const ContentIoDeps& deps() const { return deps_; }

 private:
  friend class ObjectContent;
  Outcome StoreInline(BodyReader& body, uint64_t size, Payload& payload, NewContent* out);
  Outcome StoreBlobs(BodyReader& body, uint64_t size, Payload& payload, NewContent* out);

  const ContentIoDeps deps_;
  std::unique_ptr<client::BlobReader> reader_;
  metrics::Counter* read_inline_;
  metrics::Counter* read_blobs_;
  metrics::Counter* read_burst_;
  metrics::Counter* written_inline_;
  metrics::Counter* written_blobs_;
};

// All of a small body (XML), checked against `payload`. kEntityTooLarge over `bytes_max`.
Outcome ReadSmallBody(BodyReader& body, size_t bytes_max, Payload& payload, std::string* out);

}  // namespace perigee::objectd::s3
