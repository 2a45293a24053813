#include "base/status.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace perigee {

std::string_view CodeName(Code code) {
  static constexpr std::string_view kNames[] = {"ok",
                                                "invalid argument",
                                                "not found",
                                                "already exists",
                                                "permission denied",
                                                "unauthenticated",
                                                "not empty",
                                                "not a directory",
                                                "is a directory",
                                                "cross device",
                                                "precondition failed",
                                                "conflict",
                                                "stale",
                                                "busy",
                                                "unavailable",
                                                "deadline exceeded",
                                                "no space",
                                                "too large",
                                                "corrupt",
                                                "I/O error",
                                                "unimplemented",
                                                "cancelled",
                                                "resync",
                                                "internal"};
  auto i = static_cast<size_t>(code);
  return i < std::size(kNames) ? kNames[i] : "unknown";
}

Status::Status(Code code, std::string message) {
  PERIGEE_CHECK(code != Code::kOk);
  rep_ = std::make_unique<Rep>(Rep{code, std::move(message)});
}

static Code CodeOfErrno(int err) {
  switch (err) {
    case ENOENT:
      return Code::kNotFound;
    case EEXIST:
      return Code::kAlreadyExists;
    case EACCES:
    case EPERM:
      return Code::kPermissionDenied;
    case ENOTEMPTY:
      return Code::kNotEmpty;
    case ENOTDIR:
      return Code::kNotDirectory;
    case EISDIR:
      return Code::kIsDirectory;
    case EXDEV:
      return Code::kCrossDevice;
    case EINVAL:
    case ENAMETOOLONG:
      return Code::kInvalidArgument;
    case ESTALE:
      return Code::kStale;
    case EAGAIN:
    case EBUSY:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return Code::kBusy;
    case ECONNREFUSED:
    case ECONNRESET:
    case ENOTCONN:
    case EPIPE:
      return Code::kUnavailable;
    case ETIMEDOUT:
      return Code::kDeadlineExceeded;
    case ENOSPC:
    case EDQUOT:
      return Code::kNoSpace;
    case EFBIG:
    case E2BIG:
      return Code::kTooLarge;
    case ENOSYS:
    case EOPNOTSUPP:
      return Code::kUnimplemented;
    case ECANCELED:
      return Code::kCancelled;
    default:
      return Code::kIo;
  }
}

Status Status::FromErrno(int err, std::string_view what) {
  char buf[128];
  Status st(CodeOfErrno(err), std::string(what) + ": " + strerror_r(err, buf, sizeof buf));
  st.rep_->err = err;
  return st;
}

Status& Status::operator=(Status&& other) noexcept {
  if (this == &other) return *this;
  AbortIfUnread();
  rep_ = std::move(other.rep_);
  other.MarkRead();
  TakeMark(other);
  return *this;
}

Status& Status::operator=(const Status& other) {
  if (this == &other) return *this;
  return *this = Status(other);
}

const std::string& Status::message() const {
  static const std::string kEmpty;
  MarkRead();
  return rep_ ? rep_->message : kEmpty;
}

std::string Status::ToString() const {
  MarkRead();
  if (!rep_) return "ok";
  return std::string(CodeName(rep_->code)) + ": " + rep_->message;
}

Status Status::With(std::string_view context) const {
  MarkRead();
  if (!rep_) return Status();
  Status st(rep_->code, std::string(context) + ": " + rep_->message);
  st.rep_->err = rep_->err;
  return st;
}

#ifndef NDEBUG
void Status::AbortIfUnread() const {
  if (rep_ && !read_) {
    std::fprintf(stderr, "perigee: a failed Status was dropped unread: %s\n",
                 rep_->message.c_str());
    std::abort();
  }
}
#endif

void CheckFail(const char* expr, const char* file, int line) {
  std::fprintf(stderr, "perigee: invariant broken at %s:%d: %s\n", file, line, expr);
  std::abort();
}

}  // namespace perigee
