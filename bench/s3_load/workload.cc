#include "bench/s3_load/workload.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "base/random.h"
#include "bench/s3_load/connection.h"
#include "bench/s3_load/pattern.h"
#include "bench/s3_load/signer.h"
#include "objectd/s3/http.h"
#include "objectd/s3/uri.h"

namespace perigee::bench {
namespace {

constexpr uint64_t kDeletedAtOnce = 1000;
constexpr size_t kOperations = static_cast<size_t>(Operation::kCount);
constexpr std::string_view kNames[kOperations] = {"put", "get", "delete", "page", "walk"};

double CpuSeconds() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

// What all connections share.
struct Run {
  explicit Run(const WorkloadOptions& o) : options(o), pattern(o.object_bytes) {
    for (uint64_t w : o.weights) weights += w;
    started = RealClock::Get().Monotonic();
    once = o.duration == 0 && o.operations == 0;
  }
  // Another operation may begin.
  bool Goes() {
    if (failed) return false;
    if (options.duration && RealClock::Get().Monotonic() - started >= options.duration)
      return false;
    return options.operations == 0 || taken.fetch_add(1) < options.operations;
  }
  // The next `count` objects in turn; fewer at the end, none when each is taken once and all are.
  std::pair<uint64_t, uint64_t> Take(uint64_t count) {
    uint64_t at = next.fetch_add(count);
    if (once && at >= options.objects) return {0, 0};
    at %= options.objects;
    return {options.first + at, std::min(count, options.objects - at)};
  }
  void Fail(const Status& why) {
    std::lock_guard lock(mu);
    if (!failed.exchange(true)) failure = why;
  }

  const WorkloadOptions& options;
  const Pattern pattern;
  uint64_t weights = 0;
  Nanos started = 0;
  bool once = false;
  std::atomic<uint64_t> next{0}, taken{0};
  std::atomic<bool> failed{false};
  std::mutex mu;  // guards the rest
  Status failure;
  WorkloadResult result;
};

// The text between two tags, from `at` on, which moves behind it.
std::optional<std::string_view> Element(std::string_view xml, std::string_view name, size_t* at) {
  std::string open = "<" + std::string(name) + ">", close = "</" + std::string(name) + ">";
  size_t begin = xml.find(open, *at);
  if (begin == xml.npos) return std::nullopt;
  begin += open.size();
  size_t end = xml.find(close, begin);
  if (end == xml.npos) return std::nullopt;
  *at = end + close.size();
  return xml.substr(begin, end - begin);
}

class Client {
 public:
  Client(Run& run, uint64_t index)
      : run_(run),
        options_(run.options),
        signer_(options_.credentials, options_.to.host + ":" + std::to_string(options_.to.port)),
        random_(index + 1) {}

  Status Work() {
    PERIGEE_ASSIGN(connection_, Connection::Open(options_.to));
    while (run_.Goes()) {
      const Operation operation = Choose();
      const Nanos began = RealClock::Get().Monotonic();
      PERIGEE_ASSIGN(bool done, Do(operation));
      if (!done) break;
      auto& mine = result_.operations[static_cast<size_t>(operation)];
      ++mine.count;
      mine.micros.push_back(static_cast<float>(RealClock::Get().Monotonic() - began) / 1e3f);
    }
    return Status::Ok();
  }

  WorkloadResult& result() { return result_; }

 private:
  Operation Choose() {
    uint64_t at = random_.Below(run_.weights);
    for (size_t i = 0;; ++i) {
      if (at < options_.weights[i]) return static_cast<Operation>(i);
      at -= options_.weights[i];
    }
  }

  // False: there are no objects left.
  Result<bool> Do(Operation operation) {
    switch (operation) {
      case Operation::kPut:
        return Put();
      case Operation::kDelete:
        return Delete();
      case Operation::kGet:
        PERIGEE_TRY(Get(AnyObject()));
        return true;
      case Operation::kPage:
        PERIGEE_TRY(Page(Key(AnyObject())).status());
        return true;
      default:
        PERIGEE_TRY(Walk());
        return true;
    }
  }

  uint64_t AnyObject() { return options_.first + random_.Below(options_.objects); }
  std::string Key(uint64_t number) const {
    std::string digits = std::to_string(number);
    return options_.prefix + std::string(10 - std::min<size_t>(10, digits.size()), '0') + digits;
  }
  std::string PathOf(uint64_t number) const { return "/" + options_.bucket + "/" + Key(number); }

  Result<bool> Put() {
    auto [number, count] = run_.Take(1);
    if (count == 0) return false;
    std::string_view body = run_.pattern.Of(number);
    PERIGEE_TRY(connection_->Call(signer_.Head("PUT", PathOf(number), "", body), body, Nothing()));
    result_.bytes += body.size();
    return true;
  }

  Status Get(uint64_t number) {
    const std::string_view want = run_.pattern.Of(number);
    size_t at = 0;
    PERIGEE_TRY(connection_->Call(
        signer_.Head("GET", PathOf(number), "", ""), "", [&](std::string_view piece) {
          if (want.substr(at, piece.size()) != piece)
            return Status(Code::kCorrupt,
                          Key(number) + " has wrong bytes from " + std::to_string(at) + " on");
          at += piece.size();
          return Status::Ok();
        }));
    if (at != want.size()) return Status(Code::kCorrupt, Key(number) + " is too short");
    result_.bytes += at;
    return Status::Ok();
  }

  Result<bool> Delete() {
    auto [number, count] = run_.Take(kDeletedAtOnce);
    if (count == 0) return false;
    std::string body = "<Delete><Quiet>true</Quiet>";
    for (uint64_t i = 0; i < count; ++i)
      body.append("<Object><Key>").append(Key(number + i)).append("</Key></Object>");
    body.append("</Delete>");
    std::string reply;
    PERIGEE_TRY(connection_->Call(signer_.Head("POST", "/" + options_.bucket, "delete=", body),
                                  body, Into(&reply)));
    if (reply.find("<Error>") != reply.npos)
      return Status(Code::kIo, "not all was deleted: " + reply);
    return true;
  }

  // The keys behind `after`; empty: from the start.
  Result<std::vector<std::string>> Page(const std::string& after) {
    std::string query = "list-type=2&max-keys=1000&prefix=" + Encoded(options_.prefix);
    if (!after.empty()) query += "&start-after=" + Encoded(after);
    std::string reply;
    PERIGEE_TRY(
        connection_->Call(signer_.Head("GET", "/" + options_.bucket, query, ""), "", Into(&reply)));
    std::vector<std::string> keys;
    size_t at = 0;
    while (auto key = Element(reply, "Key", &at)) {
      if (*key <= (keys.empty() ? after : keys.back()))
        return Status(Code::kCorrupt, "a page is not in order: " + std::string(*key));
      keys.emplace_back(*key);
    }
    at = 0;
    const bool truncated = Element(reply, "IsTruncated", &at) == "true";
    if (truncated ? keys.size() != 1000 : keys.size() > 1000)
      return Status(Code::kCorrupt, "a page of " + std::to_string(keys.size()) + " keys");
    result_.keys += keys.size();
    return keys;
  }

  Status Walk() {
    std::string after;
    while (true) {
      const Nanos began = RealClock::Get().Monotonic();
      PERIGEE_ASSIGN(std::vector<std::string> keys, Page(after));
      auto& pages = result_.operations[static_cast<size_t>(Operation::kPage)];
      ++pages.count;
      pages.micros.push_back(static_cast<float>(RealClock::Get().Monotonic() - began) / 1e3f);
      if (keys.size() < 1000) return Status::Ok();
      after = std::move(keys.back());
    }
  }

  static std::string Encoded(const std::string& text) {
    return objectd::s3::UriEncode(text, objectd::s3::Slash::kEncode);
  }
  static Connection::Sink Nothing() {
    return [](std::string_view) { return Status::Ok(); };
  }
  static Connection::Sink Into(std::string* out) {
    return [out](std::string_view piece) {
      out->append(piece);
      return Status::Ok();
    };
  }

  Run& run_;
  const WorkloadOptions& options_;
  Signer signer_;
  Random random_;
  std::unique_ptr<Connection> connection_;
  WorkloadResult result_;
};

void Merge(WorkloadResult& from, WorkloadResult* into) {
  for (size_t i = 0; i < kOperations; ++i) {
    auto& all = into->operations[i];
    all.count += from.operations[i].count;
    all.micros.insert(all.micros.end(), from.operations[i].micros.begin(),
                      from.operations[i].micros.end());
  }
  into->bytes += from.bytes;
  into->keys += from.keys;
}

}  // namespace

std::string_view NameOf(Operation operation) { return kNames[static_cast<size_t>(operation)]; }

Result<std::array<uint64_t, kOperations>> ParseMix(const std::string& text) {
  std::array<uint64_t, kOperations> weights{};
  std::string_view left = text;
  while (!left.empty()) {
    std::string_view one = left.substr(0, left.find(','));
    left.remove_prefix(std::min(left.size(), one.size() + 1));
    std::string_view name = one.substr(0, one.find(':'));
    auto weight = name.size() == one.size()
                      ? std::optional<uint64_t>(1)
                      : objectd::s3::ParseDecimal(one.substr(name.size() + 1));
    auto found = std::find(std::begin(kNames), std::end(kNames), name);
    if (found == std::end(kNames) || !weight || *weight == 0)
      return Status(Code::kInvalidArgument, "not an operation with a weight: " + std::string(one));
    weights[static_cast<size_t>(found - std::begin(kNames))] += *weight;
  }
  if (text.empty()) return Status(Code::kInvalidArgument, "the mix is empty");
  return weights;
}

Result<WorkloadResult> RunWorkload(const WorkloadOptions& options) {
  Run run(options);
  const double cpu = CpuSeconds();
  run.started = RealClock::Get().Monotonic();
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < options.connections; ++i) {
    threads.emplace_back([&run, i] {
      Client client(run, i);
      Status done = client.Work();
      if (!done.ok()) run.Fail(done);
      std::lock_guard lock(run.mu);
      Merge(client.result(), &run.result);
    });
  }
  for (std::thread& t : threads) t.join();
  run.result.seconds = static_cast<double>(RealClock::Get().Monotonic() - run.started) / kSecond;
  run.result.cpu_seconds = CpuSeconds() - cpu;
  PERIGEE_TRY(run.failure);
  for (auto& operation : run.result.operations)
    std::sort(operation.micros.begin(), operation.micros.end());
  return std::move(run.result);
}

}  // namespace perigee::bench
