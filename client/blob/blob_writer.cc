// BlobWriter. The caller's thread fills a BlobBuffer; full ones become a BlobSend. Everything that
// may wait or has to decide (leases, the judgement of a blob, its next attempt) happens on the
// caller's thread, between blobs: the pool only encodes and sends shards.

#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>

#include "base/event.h"
#include "base/failpoint.h"
#include "client/blob/blob_io.h"
#include "client/blob/blob_metrics.h"
#include "client/blob/blob_send.h"
#include "client/blob/busy_retry.h"
#include "client/blob/extent_map.h"
#include "client/blob/lease_source.h"
#include "client/ec/code_cache.h"

namespace perigee::client {

namespace {

constexpr uint32_t kAttemptsMax = 5;                  // places tried for one blob
constexpr Nanos kAttemptBackoff = 50 * kMillisecond;  // from the third on, doubling
constexpr Nanos kMemoryTimeout = 30 * kSecond;
constexpr size_t kExtentsPerCall = 256;

class Writer final : public BlobWriter {
 public:
  Writer(BlobIoDeps deps, Options options)
      : deps_(std::move(deps)),
        options_(std::move(options)),
        metrics_(deps_.metrics),
        leases_(deps_) {}
  ~Writer() override;

  Status Append(ConstBytes data) override;
  Result<MutableBytes> Reserve(size_t want) override;
  Status Commit(size_t filled) override;
  Result<WrittenObject> Finish() override;
  void GiveUp() override { leases_.GiveUp(); }

 private:
  enum class Last { kNo, kYes };

  Status Fail(Status status);
  Status Begin();
  uint64_t NextCapacity() const;
  Status Grow();
  Status GrowEmpty(uint64_t least);
  void Submit(Last last);
  void Send(std::unique_ptr<BlobSend> send, Last last);
  Status WaitUntil(size_t in_flight_max);
  Status Conclude(std::unique_ptr<BlobSend> send);
  Status TryElsewhere(std::unique_ptr<BlobSend> send, Status why);
  Status Relay(BlobSend& old, const BlobPlace& place, std::shared_ptr<const ErasureCode> code);
  Status StoreExtents(WrittenObject* object, std::vector<MergedExtent> merged);

  const BlobIoDeps deps_;
  const Options options_;
  const BlobMetrics metrics_;
  LeaseSource leases_;
  CodeCache codes_;
  Status failed_;
  bool finished_ = false;
  uint64_t bytes_ = 0;     // committed by the caller
  uint64_t reserved_ = 0;  // handed out by the last Reserve
  BlobPlace place_;        // of current_
  std::unique_ptr<BlobBuffer> current_;
  uint64_t current_offset_ = 0;
  std::vector<PlacedBlob> placed_;

  std::mutex mu_;  // guards sends_ and their `done`
  CondVar ended_;
  std::list<std::unique_ptr<BlobSend>> sends_;
};

Writer::~Writer() {
  std::unique_lock lock(mu_);
  ended_.Wait(lock, [&] {
    return std::all_of(sends_.begin(), sends_.end(), [](const auto& s) { return s->done; });
  });
  if (!finished_ || !failed_.ok()) leases_.GiveUp();
  // A writer that is dropped has nobody left to tell.
  failed_.Ignore();
}

Status Writer::Fail(Status status) {
  failed_ = status;
  return status;
}

// A buffer for the next blob, once there is room in flight.
Status Writer::Begin() {
  if (options_.cancelled && options_.cancelled()) {
    return Status(Code::kCancelled, "writing was cancelled");
  }
  PERIGEE_TRY(WaitUntil(std::max(options_.blobs_in_flight, 1u) - 1));
  uint64_t blobs_left = 0;
  if (options_.size_hint > bytes_) {
    uint64_t full = place_.volume.k > 0 ? FullBlobBytes(place_.volume.k) : FullBlobBytes(4);
    blobs_left = (options_.size_hint - bytes_ + full - 1) / full;
  }
  PERIGEE_ASSIGN(place_, leases_.Next(blobs_left));
  PERIGEE_ASSIGN(auto code, codes_.Get(place_.volume.k, place_.volume.m));
  current_ = std::make_unique<BlobBuffer>(std::move(code));
  current_offset_ = bytes_;
  return Status::Ok();
}

// How many bytes the current blob should have memory for: what the hint leaves, or, without one,
// more each time, and all of it once the object has proved large.
uint64_t Writer::NextCapacity() const {
  const uint64_t full = current_->full_bytes();
  if (options_.size_hint > bytes_) {
    return std::min(full, current_->bytes() + (options_.size_hint - bytes_));
  }
  if (current_offset_ > 0) return full;
  const uint64_t stripe = current_->stripe_bytes();
  for (uint64_t step : {kCopyBytesMax - 1, stripe, 4 * stripe}) {
    if (step > current_->capacity()) return std::min(full, step);
  }
  return full;
}

// Nothing is ever held while waiting for memory: first our own blobs end, then the current one is
// sent short, as an extent's last, and only an empty writer waits for others.
Status Writer::Grow() {
  uint64_t target = NextCapacity();
  if (current_->TryGrow(*deps_.slabs, target)) return Status::Ok();
  PERIGEE_TRY(WaitUntil(0));
  const uint64_t stripe = current_->stripe_bytes();
  for (uint64_t smaller : {target, 4 * stripe, stripe}) {
    smaller = std::min(smaller, target);
    if (smaller > current_->capacity() && current_->TryGrow(*deps_.slabs, smaller)) {
      return Status::Ok();
    }
  }
  if (current_->bytes() > 0) {
    Submit(Last::kNo);
    PERIGEE_TRY(Begin());
    PERIGEE_TRY(WaitUntil(0));
    target = NextCapacity();
  }
  return GrowEmpty(std::min(target, stripe));
}

Status Writer::GrowEmpty(uint64_t least) {
  Nanos backoff = 5 * kMillisecond;
  for (Nanos waited = 0; !current_->TryGrow(*deps_.slabs, least); waited += backoff) {
    if (waited >= kMemoryTimeout) {
      return Status(Code::kBusy, "no transfer memory came free for a blob");
    }
    backoff = std::min(backoff * 2, 100 * kMillisecond);
    WaitFor(backoff);
  }
  return Status::Ok();
}

Result<MutableBytes> Writer::Reserve(size_t want) {
  if (!failed_.ok()) return failed_;
  if (finished_ || want == 0) return Status(Code::kInvalidArgument, "nothing to reserve");
  reserved_ = 0;
  if (!current_) {
    Status begun = Begin();
    if (!begun.ok()) return Fail(std::move(begun));
  }
  MutableBytes run = current_->Free(want);
  if (run.empty()) {
    Status grown = Grow();
    if (!grown.ok()) return Fail(std::move(grown));
    run = current_->Free(want);
  }
  reserved_ = run.size();
  return run;
}

Status Writer::Commit(size_t filled) {
  if (!failed_.ok()) return failed_;
  if (filled > reserved_) {
    return Fail(Status(Code::kInvalidArgument, "more was filled than reserved"));
  }
  reserved_ = 0;
  if (filled == 0) return Status::Ok();
  current_->Commit(filled);
  bytes_ += filled;
  if (current_->bytes() < current_->full_bytes()) return Status::Ok();
  bool last = options_.size_hint != 0 && bytes_ == options_.size_hint;
  Submit(last ? Last::kYes : Last::kNo);
  return Status::Ok();
}

Status Writer::Append(ConstBytes data) {
  while (!data.empty()) {
    PERIGEE_ASSIGN(MutableBytes run, Reserve(data.size()));
    std::memcpy(run.data(), data.data(), run.size());
    PERIGEE_TRY(Commit(run.size()));
    data = data.subspan(run.size());
  }
  return Status::Ok();
}

void Writer::Submit(Last last) {
  current_->Close();
  Send(std::make_unique<BlobSend>(deps_.cluster, place_, std::move(current_), current_offset_),
       last);
}

void Writer::Send(std::unique_ptr<BlobSend> send, Last last) {
  BlobSend* s = send.get();
  s->done = false;
  {
    std::lock_guard lock(mu_);
    sends_.push_back(std::move(send));
  }
  s->Start(*deps_.shard_pool, last == Last::kYes, [this, s] {
    std::lock_guard lock(mu_);
    s->done = true;
    ended_.NotifyAll();
  });
}

// Concludes blobs that ended; waits until at most `in_flight_max` are left.
Status Writer::WaitUntil(size_t in_flight_max) {
  while (true) {
    std::unique_ptr<BlobSend> ended;
    {
      std::unique_lock lock(mu_);
      auto done = [](const auto& s) { return s->done; };
      auto it = std::find_if(sends_.begin(), sends_.end(), done);
      if (it == sends_.end()) {
        if (sends_.size() <= in_flight_max) return Status::Ok();
        ended_.Wait(lock);
        continue;
      }
      ended = std::move(*it);
      sends_.erase(it);
    }
    PERIGEE_TRY(Conclude(std::move(ended)));
  }
}

Status Writer::Conclude(std::unique_ptr<BlobSend> send) {
  Status judged = send->Judge();
  if (!judged.ok()) return TryElsewhere(std::move(send), std::move(judged));
  metrics_.BytesWritten(send->bytes());
  const BlobPlace& place = send->place();
  placed_.push_back({send->offset(), send->bytes(), place.volume.volume, place.seq,
                     FullBlobBytes(place.volume.k), place.intent});
  return Status::Ok();
}

Status Writer::TryElsewhere(std::unique_ptr<BlobSend> send, Status why) {
  if (options_.cancelled && options_.cancelled()) {
    why.Ignore();  // nobody wants the blob any more
    return Status(Code::kCancelled, "writing was cancelled");
  }
  if (++send->attempts >= kAttemptsMax) return why;
  if (send->attempts >= 2) WaitFor(kAttemptBackoff << (send->attempts - 2));
  auto place = leases_.Elsewhere(send->place().volume.volume);
  if (!place.ok()) return std::move(place).TakeStatus().With(why.ToString());
  why.Ignore();  // another volume takes the blob
  const wire::VolumeInfo& was = send->place().volume;
  if (place->volume.k == was.k && place->volume.m == was.m) {
    send->MoveTo(std::move(place).value());
    Send(std::move(send), Last::kNo);
    return Status::Ok();
  }
  PERIGEE_ASSIGN(auto code, codes_.Get(place->volume.k, place->volume.m));
  return Relay(*send, *place, std::move(code));
}

// The bytes of `old`, laid out anew for a volume of another profile: perhaps as several blobs.
Status Writer::Relay(BlobSend& old, const BlobPlace& first,
                     std::shared_ptr<const ErasureCode> code) {
  BlobPlace place = first;
  uint64_t done = 0;
  while (done < old.bytes()) {
    auto buffer = std::make_unique<BlobBuffer>(code);
    uint64_t bytes = std::min(buffer->full_bytes(), old.bytes() - done);
    Nanos backoff = 5 * kMillisecond;
    for (Nanos waited = 0; !buffer->TryGrow(*deps_.slabs, bytes); waited += backoff) {
      if (waited >= kMemoryTimeout) return Status(Code::kBusy, "no transfer memory came free");
      backoff = std::min(backoff * 2, 100 * kMillisecond);
      WaitFor(backoff);
    }
    for (uint64_t at = 0; at < bytes;) {
      MutableBytes run = buffer->Free(bytes - at);
      old.buffer().CopyOut(done + at, run);
      buffer->Commit(run.size());
      at += run.size();
    }
    buffer->Close();
    auto send =
        std::make_unique<BlobSend>(deps_.cluster, place, std::move(buffer), old.offset() + done);
    send->attempts = old.attempts;
    Send(std::move(send), Last::kNo);
    done += bytes;
    if (done == old.bytes()) break;
    PERIGEE_ASSIGN(place, leases_.Elsewhere(old.place().volume.volume));
    PERIGEE_ASSIGN(code, codes_.Get(place.volume.k, place.volume.m));
  }
  return Status::Ok();
}

Result<WrittenObject> Writer::Finish() {
  if (!failed_.ok()) return failed_;
  if (finished_) return Status(Code::kInvalidArgument, "finished already");
  finished_ = true;
  reserved_ = 0;
  if (current_ && current_->bytes() > 0) Submit(Last::kYes);
  current_.reset();
  Status safe = WaitUntil(0);
  if (!safe.ok()) return Fail(std::move(safe));
  WrittenObject object;
  object.bytes = bytes_;
  Status stored = StoreExtents(&object, MergeBlobs(std::move(placed_)));
  if (!stored.ok()) return Fail(std::move(stored));
  leases_.GiveUpBut(object.intents);
  PERIGEE_FAILPOINT(blob_after_finish);
  return object;
}

Status Writer::StoreExtents(WrittenObject* object, std::vector<MergedExtent> merged) {
  auto add_intents = [](std::vector<uint64_t>* to, const std::vector<uint64_t>& from) {
    for (uint64_t intent : from) {
      if (std::find(to->begin(), to->end(), intent) == to->end()) to->push_back(intent);
    }
  };
  for (const MergedExtent& m : merged) add_intents(&object->intents, m.intents);
  if (merged.size() <= wire::kExtentsInsideMax) {
    for (MergedExtent& m : merged) object->extents.push_back(std::move(m.extent));
    return Status::Ok();
  }
  for (size_t begin = 0; begin < merged.size(); begin += kExtentsPerCall) {
    wire::AddExtentsRequest request;
    request.list_id = object->list_id;
    for (size_t i = begin; i < std::min(merged.size(), begin + kExtentsPerCall); ++i) {
      add_intents(&request.intents, merged[i].intents);
      request.extents.push_back(std::move(merged[i].extent));
    }
    PERIGEE_FAILPOINT(blob_before_add_extents);
    PERIGEE_ASSIGN(object->list_id, deps_.cluster->AddExtents(request));
    PERIGEE_FAILPOINT(blob_after_add_extents);
  }
  return Status::Ok();
}

}  // namespace

std::unique_ptr<BlobWriter> BlobWriter::Create(BlobIoDeps deps, Options options) {
  PERIGEE_CHECK(deps.cluster && deps.shard_pool && deps.slabs && deps.clock);
  return std::make_unique<Writer>(std::move(deps), std::move(options));
}

}  // namespace perigee::client
