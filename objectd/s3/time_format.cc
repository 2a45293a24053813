#include "objectd/s3/time_format.h"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace perigee::objectd::s3 {

namespace {

constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

tm Split(Nanos wall) {
  time_t s = static_cast<time_t>(wall / kSecond);
  if (wall % kSecond < 0) --s;
  tm t{};
  gmtime_r(&s, &t);
  return t;
}

// Refuses what timegm would quietly normalise, such as February 30th.
std::optional<Nanos> Join(int year, int month, int day, int hour, int minute, int second) {
  if (year < 1970 || year > 2200 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 ||
      hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60) {
    return std::nullopt;
  }
  tm t{};
  t.tm_year = year - 1900;
  t.tm_mon = month - 1;
  t.tm_mday = day;
  t.tm_hour = hour;
  t.tm_min = minute;
  t.tm_sec = second;
  time_t s = timegm(&t);
  if (t.tm_mday != day) return std::nullopt;
  return static_cast<Nanos>(s) * kSecond;
}

int MonthOf(const char* name) {
  for (int i = 0; i < 12; ++i) {
    if (std::strncmp(name, kMonths[i], 3) == 0) return i + 1;
  }
  return 0;
}

}  // namespace

std::string FormatHttpDate(Nanos wall) {
  tm t = Split(wall);
  char out[64];
  std::snprintf(out, sizeof out, "%s, %02d %s %04d %02d:%02d:%02d GMT", kDays[t.tm_wday], t.tm_mday,
                kMonths[t.tm_mon], t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
  return out;
}

std::string FormatIsoMillis(Nanos wall) {
  using namespace std::chrono;
  const sys_time<milliseconds> at = floor<milliseconds>(sys_time<nanoseconds>(nanoseconds(wall)));
  const auto day = floor<days>(at);
  const year_month_day date(day);
  const hh_mm_ss time(at - day);
  std::string out = "0000-00-00T00:00:00.000Z";
  auto put = [&out](size_t last, uint64_t value) {  // its digits, the last of them there
    for (; value != 0; value /= 10) out[last--] = static_cast<char>('0' + value % 10);
  };
  put(3, static_cast<uint64_t>(int{date.year()}));  // 1677 to 2262
  put(6, unsigned{date.month()});
  put(9, unsigned{date.day()});
  put(12, static_cast<uint64_t>(time.hours().count()));
  put(15, static_cast<uint64_t>(time.minutes().count()));
  put(18, static_cast<uint64_t>(time.seconds().count()));
  put(22, static_cast<uint64_t>(time.subseconds().count()));
  return out;
}

std::string FormatAmzDate(Nanos wall) {
  tm t = Split(wall);
  char out[64];
  std::snprintf(out, sizeof out, "%04d%02d%02dT%02d%02d%02dZ", t.tm_year + 1900, t.tm_mon + 1,
                t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec);
  return out;
}

std::optional<Nanos> ParseHttpDate(std::string_view text) {
  std::string s(text.substr(0, 64));
  char month[4] = {}, weekday[16] = {};
  int day = 0, year = 0, h = 0, m = 0, sec = 0;
  if (std::sscanf(s.c_str(), "%3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT", weekday, &day, month,
                  &year, &h, &m, &sec) == 7) {
    return Join(year, MonthOf(month), day, h, m, sec);
  }
  if (std::sscanf(s.c_str(), "%15[A-Za-z], %2d-%3[A-Za-z]-%2d %2d:%2d:%2d GMT", weekday, &day,
                  month, &year, &h, &m, &sec) == 7) {
    return Join(year < 70 ? 2000 + year : 1900 + year, MonthOf(month), day, h, m, sec);
  }
  if (std::sscanf(s.c_str(), "%3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d", weekday, month, &day, &h,
                  &m, &sec, &year) == 7) {
    return Join(year, MonthOf(month), day, h, m, sec);
  }
  return std::nullopt;
}

std::optional<Nanos> ParseAmzDate(std::string_view text) {
  if (text.size() != 16 || text[8] != 'T' || text[15] != 'Z') return std::nullopt;
  for (size_t i = 0; i < 15; ++i) {
    if (i != 8 && (text[i] < '0' || text[i] > '9')) return std::nullopt;
  }
  auto number = [&](size_t at, size_t digits) {
    int v = 0;
    for (size_t i = at; i < at + digits; ++i) v = v * 10 + (text[i] - '0');
    return v;
  };
  return Join(number(0, 4), number(4, 2), number(6, 2), number(9, 2), number(11, 2), number(13, 2));
}

}  // namespace perigee::objectd::s3
