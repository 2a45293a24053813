#pragma once
// Status and Result<T>: the outcome of every fallible call in Perigee.
//
// A Status is a code, a message written by the place that knows the cause, and the context callers
// added. Both types are [[nodiscard]]; a build without NDEBUG aborts when a failed Status is
// destroyed unread. Input from users, disks and the network becomes a Status; PERIGEE_CHECK is for
// our own invariants only.
//
// Thread rule: values; not shared between threads without synchronisation.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace perigee {

// Each code is acted on differently by some caller. Numbers are sent on the wire: never renumber.
enum class Code : uint8_t {
  kOk = 0,
  kInvalidArgument = 1,  // the caller's request is wrong; do not retry
  kNotFound = 2,
  kAlreadyExists = 3,
  kPermissionDenied = 4,
  kUnauthenticated = 5,
  kNotEmpty = 6,
  kNotDirectory = 7,
  kIsDirectory = 8,
  kCrossDevice = 9,          // rename or link across buckets
  kPreconditionFailed = 10,  // If-Match and its kind
  kConflict = 11,            // transaction lost a race: run it again
  kStale = 12,               // the thing was replaced: look it up again
  kBusy = 13,                // a bound was reached: retry later
  kUnavailable = 14,         // peer or drive away: retry elsewhere or later
  kDeadlineExceeded = 15,
  kNoSpace = 16,
  kTooLarge = 17,
  kCorrupt = 18,  // stored or received bytes fail their check
  kIo = 19,       // the operating system reported an I/O error
  kUnimplemented = 20,
  kCancelled = 21,
  kResync = 22,  // feed consumer too late: rebuild state
  kInternal = 23,
};

std::string_view CodeName(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message);

  static Status Ok() { return Status(); }
  // Message is "<what>: <strerror>"; the code follows errno (ENOENT -> kNotFound, ENOSPC ->
  // kNoSpace, ...).
  static Status FromErrno(int err, std::string_view what);

  Status(Status&& other) noexcept : rep_(std::move(other.rep_)) {
    other.MarkRead();
    TakeMark(other);
  }
  Status& operator=(Status&& other) noexcept;
  Status(const Status& other) : rep_(other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr) {
    other.MarkRead();
  }
  Status& operator=(const Status& other);
  ~Status() { AbortIfUnread(); }

  bool ok() const {
    MarkRead();
    return rep_ == nullptr;
  }
  Code code() const {
    MarkRead();
    return rep_ ? rep_->code : Code::kOk;
  }
  bool Is(Code c) const { return code() == c; }
  const std::string& message() const;
  int sys_errno() const {
    MarkRead();
    return rep_ ? rep_->err : 0;
  }  // 0 when not from errno
  // "kNotFound: open /x: No such file or directory"
  std::string ToString() const;
  // Prepends "context: " to the message; a no-op on ok.
  Status With(std::string_view context) const;
  // Says that ignoring this outcome is right; the reason belongs in a comment at the call.
  void Ignore() const { MarkRead(); }

 private:
  struct Rep {
    Code code;
    std::string message;
    int err = 0;
  };
  std::unique_ptr<Rep> rep_;
#ifndef NDEBUG
  mutable bool read_ = false;
  void MarkRead() const { read_ = true; }
  void TakeMark(const Status&) { read_ = false; }
  void AbortIfUnread() const;
#else
  void MarkRead() const {}
  void TakeMark(const Status&) {}
  void AbortIfUnread() const {}
#endif
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT: implicit by design
  Result(Status status) : status_(std::move(status)) { CheckFailed(); }  // NOLINT
  Result(Code code, std::string message) : status_(code, std::move(message)) { CheckFailed(); }

  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }
  Code code() const { return status_.code(); }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  Status TakeStatus() && { return std::move(status_); }

 private:
  void CheckFailed() const;
  Status status_;
  std::optional<T> value_;
};

[[noreturn]] void CheckFail(const char* expr, const char* file, int line);

// Always on, in every build: our own invariants.
#define PERIGEE_CHECK(expr)                            \
  do {                                                 \
    if (!(expr)) [[unlikely]]                          \
      ::perigee::CheckFail(#expr, __FILE__, __LINE__); \
  } while (0)

template <class T>
void Result<T>::CheckFailed() const {
  PERIGEE_CHECK(!status_.ok());
}

#define PERIGEE_CONCAT_(a, b) a##b
#define PERIGEE_CONCAT(a, b) PERIGEE_CONCAT_(a, b)
// Returns the Status of `expr` from the enclosing function when it failed.
#define PERIGEE_TRY(expr)                      \
  do {                                         \
    ::perigee::Status perigee_st_ = (expr);    \
    if (!perigee_st_.ok()) return perigee_st_; \
  } while (0)
// PERIGEE_ASSIGN(auto x, Fallible()): declares x from a Result, or returns its Status.
#define PERIGEE_ASSIGN(decl, expr) PERIGEE_ASSIGN_(PERIGEE_CONCAT(perigee_r_, __LINE__), decl, expr)
#define PERIGEE_ASSIGN_(tmp, decl, expr)             \
  auto tmp = (expr);                                 \
  if (!tmp.ok()) return std::move(tmp).TakeStatus(); \
  decl = std::move(tmp).value()

}  // namespace perigee
