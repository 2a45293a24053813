#pragma once
// Chunked framing: "<hex size>[;extension]\r\n<data>\r\n ... 0[;extension]\r\n[trailers]\r\n".
// HTTP's transfer coding (RFC 9112 section 7.1) and the aws-chunked content coding have the same
// grammar; the latter (aws_chunked.h) adds signatures in the extension. Input is hostile: lines,
// sizes and trailers are bounded, and nothing is guessed. Thread rule: belongs to the thread that
// serves the request.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "objectd/s3/http.h"

namespace perigee::objectd::s3 {

inline constexpr size_t kChunkLineBytesMax = 4 << 10;
inline constexpr size_t kTrailerBytesMax = 8 << 10;

// Bytes with a look ahead. Errors as BodyReader's.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual Result<std::string_view>
  Peek() = 0;                              // what is at hand, at least one byte; empty at the end
  virtual void Consume(size_t bytes) = 0;  // of what Peek gave
  virtual Result<size_t> Read(
      MutableBytes out) = 0;  // what is at hand, else straight from below; 0 at the end
};

class BodySource final : public ByteSource {
 public:
  explicit BodySource(BodyReader& body) : body_(body) {}
  Result<std::string_view> Peek() override;
  void Consume(size_t bytes) override { at_ += bytes; }
  Result<size_t> Read(MutableBytes out) override;

 private:
  BodyReader& body_;
  std::unique_ptr<char[]> buffer_;  // made when first needed; nothing zeroes it
  size_t at_ = 0, end_ = 0;
};

class ChunkedBody : public BodyReader {
 public:
  explicit ChunkedBody(ByteSource& source) : source_(source) {}
  Result<size_t> Read(MutableBytes out) final;
  const Headers& trailers() const final { return trailers_; }

 protected:
  virtual Status OnChunk(uint64_t bytes,
                         std::string_view extension);  // also for the last one, of 0 bytes
  virtual void OnData(ConstBytes) {}
  virtual Status OnChunkEnd() {
    return Status::Ok();
  }  // its data and the line end after it are read
  // An empty line ends the trailers, unless this says that more must come (then it is skipped).
  virtual bool TrailersComplete() const { return true; }
  virtual Status OnEnd() { return Status::Ok(); }
  // Where the lines end in LF alone, or the input ends instead of an empty line.
  virtual bool lenient_trailers() const { return false; }

  ByteSource& source_;
  Headers trailers_;

 private:
  enum class State { kChunkLine, kData, kDataEnd, kDone, kFailed };
  Result<size_t> Step(MutableBytes out);
  // Without its LF; keeps a CR. False in *more: the input ended before any byte.
  Result<std::string> ReadLine(size_t bytes_max, bool* more);
  Status ReadChunkLine();
  Status ReadTrailers();

  State state_ = State::kChunkLine;
  uint64_t left_ = 0;
};

}  // namespace perigee::objectd::s3
