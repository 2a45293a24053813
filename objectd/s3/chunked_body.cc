#include "objectd/s3/chunked_body.h"

#include <algorithm>
#include <cstring>

namespace perigee::objectd::s3 {

namespace {

constexpr size_t kBufferBytes = 16 << 10;

Status Cut() { return Status(Code::kUnavailable, "the body ends inside a chunk"); }

// Removes the CR of a line that must have one.
bool StripCr(std::string* line) {
  if (line->empty() || line->back() != '\r') return false;
  line->pop_back();
  return true;
}

}  // namespace

Result<std::string_view> BodySource::Peek() {
  if (at_ == end_) {
    if (!buffer_) buffer_.reset(new char[kBufferBytes]);
    at_ = end_ = 0;
    PERIGEE_ASSIGN(end_, body_.Read({reinterpret_cast<uint8_t*>(buffer_.get()), kBufferBytes}));
  }
  return std::string_view(buffer_.get() + at_, end_ - at_);
}

Result<size_t> BodySource::Read(MutableBytes out) {
  if (at_ == end_) return body_.Read(out);
  size_t n = std::min(out.size(), end_ - at_);
  std::memcpy(out.data(), buffer_.get() + at_, n);
  at_ += n;
  return n;
}

Status ChunkedBody::OnChunk(uint64_t, std::string_view) { return Status::Ok(); }

Result<size_t> ChunkedBody::Read(MutableBytes out) {
  if (state_ == State::kFailed) return Status(Code::kInvalidArgument, "the body has failed before");
  Result<size_t> got = Step(out);
  if (!got.ok()) state_ = State::kFailed;
  return got;
}

Result<size_t> ChunkedBody::Step(MutableBytes out) {
  while (state_ != State::kDone) {
    if (state_ == State::kDataEnd) {
      bool more = false;
      PERIGEE_ASSIGN(std::string line, ReadLine(2, &more));
      if (line != "\r")
        return more ? Status(Code::kInvalidArgument, "a chunk is longer than its size says")
                    : Cut();
      PERIGEE_TRY(OnChunkEnd());
      state_ = State::kChunkLine;
    }
    if (state_ == State::kChunkLine) {
      PERIGEE_TRY(ReadChunkLine());
      if (left_ == 0) {
        PERIGEE_TRY(ReadTrailers());
        PERIGEE_TRY(OnEnd());
        state_ = State::kDone;
        break;
      }
      state_ = State::kData;
    }
    PERIGEE_ASSIGN(
        size_t n,
        source_.Read(out.first(static_cast<size_t>(std::min<uint64_t>(out.size(), left_)))));
    if (n == 0) return Cut();
    OnData(out.first(n));
    left_ -= n;
    if (left_ == 0) state_ = State::kDataEnd;
    return n;
  }
  return size_t{0};
}

Result<std::string> ChunkedBody::ReadLine(size_t bytes_max, bool* more) {
  std::string line;
  *more = false;
  while (true) {
    PERIGEE_ASSIGN(std::string_view at_hand, source_.Peek());
    if (at_hand.empty()) return line;
    *more = true;
    size_t lf = at_hand.find('\n');
    size_t n = lf == std::string_view::npos ? at_hand.size() : lf;
    if (line.size() + n > bytes_max)
      return Status(Code::kInvalidArgument, "a line of the chunked body is too long");
    line.append(at_hand.substr(0, n));
    source_.Consume(lf == std::string_view::npos ? n : n + 1);
    if (lf != std::string_view::npos) return line;
  }
}

Status ChunkedBody::ReadChunkLine() {
  bool more = false;
  PERIGEE_ASSIGN(std::string line, ReadLine(kChunkLineBytesMax, &more));
  if (!more) return Cut();
  if (!StripCr(&line)) return Status(Code::kInvalidArgument, "a chunk's size line has no CR LF");
  size_t digits = line.find_first_not_of("0123456789abcdefABCDEF");
  if (digits == std::string::npos) digits = line.size();
  if (digits == 0 || digits > 16 || (digits < line.size() && line[digits] != ';')) {
    return Status(Code::kInvalidArgument, "malformed chunk size");
  }
  left_ = std::stoull(line.substr(0, digits), nullptr, 16);
  return OnChunk(left_, std::string_view(line).substr(std::min(line.size(), digits + 1)));
}

Status ChunkedBody::ReadTrailers() {
  size_t total = 0;
  while (true) {
    bool more = false;
    PERIGEE_ASSIGN(std::string line, ReadLine(kTrailerBytesMax, &more));
    if (!more) {
      if (lenient_trailers() && TrailersComplete()) return Status::Ok();
      return Status(Code::kUnavailable, "the body ends inside its trailer");
    }
    if (!StripCr(&line) && !lenient_trailers())
      return Status(Code::kInvalidArgument, "a trailer line has no CR LF");
    if (line.empty()) {
      if (TrailersComplete()) return Status::Ok();
      total += 2;
    } else {
      size_t colon = line.find(':');
      if (colon == std::string::npos || colon == 0)
        return Status(Code::kInvalidArgument, "malformed trailer");
      std::string_view view = line;
      trailers_.Add(TrimBlanks(view.substr(0, colon)), view.substr(colon + 1));
      total += line.size() + 2;
    }
    if (total > kTrailerBytesMax) return Status(Code::kInvalidArgument, "the trailer is too long");
  }
}

}  // namespace perigee::objectd::s3
