#include "objectd/s3/conditions.h"

#include <algorithm>

#include "objectd/s3/time_format.h"
#include "objectd/s3/xml.h"

namespace perigee::objectd::s3 {

namespace {

Nanos WholeSeconds(Nanos t) { return t - t % kSecond; }

// "bytes=" and its two sides; false when it is not that form.
bool SplitRange(std::string_view text, std::string_view* first, std::string_view* last) {
  constexpr std::string_view kUnit = "bytes=";
  if (!EqualsIgnoreCase(text.substr(0, kUnit.size()), kUnit)) return false;
  text = TrimBlanks(text.substr(kUnit.size()));
  size_t dash = text.find('-');
  if (dash == std::string_view::npos) return false;
  *first = text.substr(0, dash);
  *last = text.substr(dash + 1);
  auto digits = [](std::string_view s) {
    return s.find_first_not_of("0123456789") == std::string_view::npos;
  };
  return digits(*first) && digits(*last) && !(first->empty() && last->empty());
}

// Beyond 64 bits is beyond any object.
uint64_t Clamped(std::string_view digits) { return ParseDecimal(digits).value_or(UINT64_MAX); }

Outcome OutsideOf(uint64_t size) {
  Error error{ErrorCode::kInvalidRange};
  error.details = {{"ActualObjectSize", std::to_string(size)}};
  error.headers = {{"Content-Range", "bytes */" + std::to_string(size)}};
  return Outcome(std::move(error));
}

}  // namespace

bool ETagMatches(std::string_view list, std::string_view etag) {
  list = TrimBlanks(list);
  if (list == "*") return true;
  while (!list.empty()) {
    size_t comma = list.find(',');
    std::string_view tag = TrimBlanks(list.substr(0, comma));
    if (tag.starts_with("W/")) tag.remove_prefix(2);
    if (StripQuotes(tag) == etag) return true;
    list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
  }
  return false;
}

Outcome CheckConditions(const Headers& headers, ConditionSet set, std::string_view etag,
                        Nanos modified) {
  bool copy = set == ConditionSet::kCopySource;
  auto find = [&](const char* name) {
    return headers.Find(copy ? std::string("x-amz-copy-source-") + name : std::string(name));
  };
  auto if_match = find("if-match");
  auto if_none_match = find("if-none-match");
  modified = WholeSeconds(modified);
  if (if_match) {
    if (!ETagMatches(*if_match, etag)) return {ErrorCode::kPreconditionFailed};
  } else if (auto since = find("if-unmodified-since")) {
    auto at = ParseHttpDate(*since);
    if (at && modified > *at) return {ErrorCode::kPreconditionFailed};
  }
  bool not_modified = false;
  if (if_none_match) {
    not_modified = ETagMatches(*if_none_match, etag);
  } else if (auto since = find("if-modified-since")) {
    auto at = ParseHttpDate(*since);
    not_modified = at && modified <= *at;
  }
  if (!not_modified) return {};
  return {copy ? ErrorCode::kPreconditionFailed : ErrorCode::kNotModified};
}

Preconditions WriteConditions(const Headers& headers) {
  Preconditions out;
  if (auto v = headers.Find("if-match")) out.if_match = StripQuotes(*v);
  if (auto v = headers.Find("if-none-match")) out.if_none_match = StripQuotes(*v);
  return out;
}

Outcome SelectRange(const Headers& headers, uint64_t size, std::string_view etag, Nanos modified,
                    std::optional<ByteRange>* out) {
  out->reset();
  auto range = headers.Find("range");
  std::string_view first, last;
  if (!range || !SplitRange(*range, &first, &last)) return {};
  if (auto if_range = headers.Find("if-range")) {
    auto at = ParseHttpDate(*if_range);
    if (at ? WholeSeconds(modified) != *at : !ETagMatches(*if_range, etag)) return {};
  }
  if (first.empty()) {
    uint64_t tail = std::min(Clamped(last), size);
    if (tail == 0) return OutsideOf(size);
    *out = ByteRange{size - tail, tail};
    return {};
  }
  uint64_t from = Clamped(first);
  uint64_t to = last.empty() ? UINT64_MAX : Clamped(last);
  if (to < from) return {};  // not a valid range: ignored
  if (from >= size) return OutsideOf(size);
  *out = ByteRange{from, std::min(to, size - 1) - from + 1};
  return {};
}

Outcome ParseCopyRange(std::string_view text, uint64_t size, ByteRange* out) {
  std::string_view first, last;
  if (!SplitRange(text, &first, &last) || first.empty() || last.empty() ||
      Clamped(last) < Clamped(first)) {
    return {ErrorCode::kInvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first "
            "and last are the "
            "zero-based offsets of the first and last bytes to copy"};
  }
  if (Clamped(last) >= size)
    return {ErrorCode::kInvalidRange,
            "Range specified is not valid for source object of size: " + std::to_string(size)};
  *out = ByteRange{Clamped(first), Clamped(last) - Clamped(first) + 1};
  return {};
}

}  // namespace perigee::objectd::s3
