#include "objectd/s3/object_io.h"

#include <algorithm>
#include <functional>

#include "base/event.h"
#include "base/log.h"
#include "client/blob/geometry.h"

namespace perigee::objectd::s3 {

namespace {

// One task at a time on another pool, or here when that pool is full. The task's memory must
// outlive Join.
class Beside {
 public:
  explicit Beside(Scheduler* pool) : pool_(pool) {}
  ~Beside() { Join(); }
  void Start(Task task) {
    Join();
    if (pool_) {
      auto done = std::make_shared<Event>();
      Status posted = pool_->Post([done, task] {
        task();
        done->Set();
      });
      if (posted.ok()) {
        running_ = std::move(done);
        return;
      }
    }
    task();
  }
  void Join() {
    if (running_) running_->Wait();
    running_.reset();
  }

 private:
  Scheduler* const pool_;
  std::shared_ptr<Event> running_;
};

// Fills `out` as far as the body goes.
Result<size_t> ReadUpTo(BodyReader& body, MutableBytes out) {
  size_t have = 0;
  while (have < out.size()) {
    PERIGEE_ASSIGN(size_t n, body.Read(out.subspan(have)));
    if (n == 0) break;
    have += n;
  }
  return have;
}

// The end must be read too: signatures and trailers are there.
Outcome ExpectEnd(BodyReader& body) {
  uint8_t beyond;
  Result<size_t> n = body.Read({&beyond, 1});
  if (!n.ok()) return FromBodyStatus(n.status());
  if (*n != 0) return {ErrorCode::kInvalidRequest, "The body is longer than the request says."};
  return {};
}

}  // namespace

ObjectContent::ObjectContent(ContentIo& io, const wire::Record& record,
                             std::optional<std::string> inline_bytes)
    : io_(io),
      id_(record.id),
      version_(record.committed.value_or(wire::Version())),
      inline_bytes_(std::move(inline_bytes)) {}

size_t ObjectContent::Window(uint64_t offset, uint64_t left) const {
  uint64_t base = 0, unit = 1 << 20;
  for (const wire::Extent& e : version_.layout.extents) {
    if (offset < e.offset || offset >= e.offset + e.length || e.blob_bytes == 0) continue;
    base = e.offset + (offset - e.offset) / e.blob_bytes * e.blob_bytes;
    auto map = io_.deps_.blobs.cluster->Map();
    if (!map.ok()) break;
    if (const wire::VolumeInfo* volume = (*map)->Find(e.volume))
      unit = uint64_t{volume->k} * client::kChunkBytes;
  }
  unit = std::clamp<uint64_t>(unit, 1, kReadWindowBytes);
  uint64_t begin = base + (offset - base) / unit * unit;
  uint64_t end = begin + kReadWindowBytes / unit * unit;
  return static_cast<size_t>(std::min(left, end - offset));
}

Status ObjectContent::Read(uint64_t offset, MutableBytes out) const {
  if (offset > version_.size || out.size() > version_.size - offset) {
    return Status(Code::kInvalidArgument, "range beyond the object");
  }
  if (out.empty()) return Status::Ok();
  switch (version_.layout.kind) {
    case wire::LayoutKind::kNone:
      break;
    case wire::LayoutKind::kInline:
      return ReadInline(offset, out);
    case wire::LayoutKind::kBlobs:
      if (!io_.reader_) return Status(Code::kUnavailable, "no object tier here");
      PERIGEE_TRY(io_.reader_->Read(version_.layout, version_.size, offset, out));
      io_.read_blobs_->Add(static_cast<double>(out.size()));
      return Status::Ok();
    case wire::LayoutKind::kBurst:
      return ReadBurst(offset, out);
    case wire::LayoutKind::kCold:
      return Status(Code::kUnimplemented, "the object is in a cold tier");
  }
  return Status(Code::kCorrupt,
                "a version of " + std::to_string(version_.size) + " bytes without a layout");
}

Status ObjectContent::ReadInline(uint64_t offset, MutableBytes out) const {
  std::string read;
  if (!inline_bytes_) {
    PERIGEE_ASSIGN(read, io_.deps_.ns->ReadInline(id_, version_.generation));
  }
  const std::string& bytes = inline_bytes_ ? *inline_bytes_ : read;
  if (bytes.size() != version_.size)
    return Status(Code::kCorrupt, "inline bytes of another size than the record says");
  std::memcpy(out.data(), bytes.data() + offset, out.size());
  io_.read_inline_->Add(static_cast<double>(out.size()));
  return Status::Ok();
}

Status ObjectContent::ReadBurst(uint64_t offset, MutableBytes out) const {
  if (!io_.deps_.peers) return Status(Code::kUnavailable, "no way to the burst buffers");
  const wire::Layout& layout = version_.layout;
  for (size_t done = 0; done < out.size();) {
    auto length = static_cast<uint32_t>(std::min(out.size() - done, rdma::kPieceBytesMax));
    PERIGEE_ASSIGN(rdma::Piece piece,
                   io_.deps_.peers->Read(layout.node, layout.burst, id_, version_.generation,
                                         offset + done, length));
    if (piece.size() != length)
      return Status(Code::kUnavailable, "a node sent less of a burst file than asked for");
    std::memcpy(out.data() + done, piece.data(), length);
    done += length;
  }
  io_.read_burst_->Add(static_cast<double>(out.size()));
  return Status::Ok();
}

Result<size_t> ContentBody::Read(MutableBytes out) {
  if (left_ == 0) return size_t{0};
  size_t n = content_.Window(offset_, std::min<uint64_t>(left_, out.size()));
  PERIGEE_TRY(content_.Read(offset_, out.first(n)));
  offset_ += n;
  left_ -= n;
  return n;
}

ContentIo::ContentIo(ContentIoDeps deps) : deps_(std::move(deps)) {
  if (deps_.blobs.cluster) reader_ = client::BlobReader::Create(deps_.blobs);
  auto counter = [&](const char* name, const char* help, const char* source) {
    return deps_.metrics->GetCounter(name, help, {{"source", source}});
  };
  read_inline_ = counter("perigee_s3_read_bytes_total",
                         "Object bytes read for the S3 door, by where they lay", "inline");
  read_blobs_ = counter("perigee_s3_read_bytes_total",
                        "Object bytes read for the S3 door, by where they lay", "blobs");
  read_burst_ = counter("perigee_s3_read_bytes_total",
                        "Object bytes read for the S3 door, by where they lay", "burst");
  written_inline_ = counter("perigee_s3_written_bytes_total",
                            "Object bytes taken by the S3 door, by where they went", "inline");
  written_blobs_ = counter("perigee_s3_written_bytes_total",
                           "Object bytes taken by the S3 door, by where they went", "blobs");
}

Status ContentIo::Send(const ObjectContent& content, uint64_t offset, uint64_t length,
                       const ResponseHead& head, ResponseWriter& response) {
  if (length == 0) {
    response.Start(head, 0);
    return Status::Ok();
  }
  if (length <=
      (16 << 10)) {  // the small ones by far outnumber the rest: no pool, no second buffer
    uint8_t small[16 << 10];
    PERIGEE_TRY(content.Read(offset, {small, static_cast<size_t>(length)}));
    response.Start(head, length);
    response.Write({small, static_cast<size_t>(length)});
    return Status::Ok();
  }
  PERIGEE_ASSIGN(rdma::Piece now, deps_.buffers->Allocate(
                                      std::min<uint64_t>(length, kReadWindowBytes), kBufferWait));
  size_t have = content.Window(offset, length);
  PERIGEE_TRY(content.Read(offset, now.span().first(have)));
  response.Start(head, length);
  offset += have;
  length -= have;

  rdma::Piece next;
  while (true) {
    if (length == 0 || !response.ok()) {
      response.Write(now.span().first(have));
      return Status::Ok();
    }
    if (!next) next = deps_.buffers->TryAllocate(std::min<uint64_t>(length, kReadWindowBytes));
    size_t coming = content.Window(offset, length);
    Status read;
    if (next && deps_.helpers) {
      Beside ahead(deps_.helpers);
      ahead.Start([&] { read = content.Read(offset, next.span().first(coming)); });
      response.Write(now.span().first(have));
      ahead.Join();
      std::swap(now, next);
    } else {
      response.Write(now.span().first(have));
      read = content.Read(offset, now.span().first(coming));
    }
    if (!read.ok()) {
      log::Warn("s3_get_aborted", {{"why", read}, {"offset", offset}});
      response.Abort();
      return Status::Ok();
    }
    offset += coming;
    length -= coming;
    have = coming;
  }
}

Outcome ContentIo::Store(BodyReader& body, uint64_t size, Placement placement, Payload& payload,
                         NewContent* out) {
  out->size = size;
  if (placement == Placement::kAnywhere && size <= deps_.ns->inline_bytes_max()) {
    PERIGEE_S3_TRY(StoreInline(body, size, payload, out));
  } else if (size > 0) {
    PERIGEE_S3_TRY(StoreBlobs(body, size, payload, out));
  }
  PERIGEE_S3_TRY(ExpectEnd(body));
  PERIGEE_S3_TRY(payload.Finish(body.trailers()));
  out->etag = payload.md5_hex();
  if (payload.checksum()) out->checksum = EncodeStored(*payload.checksum());
  (out->inline_bytes ? written_inline_ : written_blobs_)->Add(static_cast<double>(size));
  return {};
}

Outcome ContentIo::StoreInline(BodyReader& body, uint64_t size, Payload& payload, NewContent* out) {
  std::string bytes(static_cast<size_t>(size), '\0');
  Result<size_t> got = ReadUpTo(body, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()});
  if (!got.ok()) return FromBodyStatus(got.status());
  if (*got != size) return {ErrorCode::kIncompleteBody};
  payload.Update(AsBytes(bytes));
  out->inline_bytes = std::move(bytes);
  return {};
}

Outcome ContentIo::StoreBlobs(BodyReader& body, uint64_t size, Payload& payload, NewContent* out) {
  if (!deps_.blobs.cluster)
    return {ErrorCode::kServiceUnavailable, "There is no object tier to store this in."};
  size_t window = static_cast<size_t>(std::min<uint64_t>(size, kWriteWindowBytes));
  Result<rdma::Piece> first = deps_.buffers->Allocate(window, kBufferWait);
  if (!first.ok()) return {ErrorCode::kSlowDown};
  rdma::Piece buffers[2] = {std::move(*first), deps_.buffers->TryAllocate(window)};
  auto writer = client::BlobWriter::Create(deps_.blobs, {.size_hint = size});

  // The digests of one window are computed while it is encoded and the next one arrives.
  Beside hashing(deps_.helpers);
  uint64_t left = size;
  for (size_t turn = 0; left > 0; ++turn) {
    rdma::Piece& buffer = buffers[turn % 2] ? buffers[turn % 2] : buffers[0];
    if (!buffers[1]) hashing.Join();
    size_t want = static_cast<size_t>(std::min<uint64_t>(left, window));
    Result<size_t> got = ReadUpTo(body, buffer.span().first(want));
    if (!got.ok()) return FromBodyStatus(got.status());
    if (*got != want) return {ErrorCode::kIncompleteBody};
    ConstBytes bytes = buffer.span().first(want);
    hashing.Start([&payload, bytes] { payload.Update(bytes); });
    Status appended = writer->Append(bytes);
    if (!appended.ok()) return FromStatus(appended, ErrorCode::kInternalError);
    left -= want;
  }
  hashing.Join();
  Result<client::WrittenObject> written = writer->Finish();
  if (!written.ok()) return FromStatus(written.status(), ErrorCode::kInternalError);
  out->extents = std::move(written->extents);
  out->list_id = written->list_id;
  out->intents = std::move(written->intents);
  out->held = std::make_shared<client::HeldLeases>(deps_.blobs.given_up, out->intents);
  return {};
}

Outcome ReadSmallBody(BodyReader& body, size_t bytes_max, Payload& payload, std::string* out) {
  uint8_t piece[16 << 10];
  while (true) {
    Result<size_t> n = body.Read(piece);
    if (!n.ok()) return FromBodyStatus(n.status());
    if (*n == 0) return payload.Finish(body.trailers());
    if (out->size() + *n > bytes_max) return {ErrorCode::kEntityTooLarge};
    payload.Update({piece, *n});
    out->append(reinterpret_cast<const char*>(piece), *n);
  }
}

}  // namespace perigee::objectd::s3
