#include "rdma/rails/rail_calls.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

#include "base/event.h"

namespace perigee::rdma {

namespace {

constexpr Nanos kProbeTimeout = 5 * kSecond;
constexpr Nanos kLongestCall = 24 * 3600 * kSecond;

// What the peer may execute twice and nobody sees a difference.
bool MayBeSentAgain(wire::Method method) {
  return method == wire::Method::kShardRead || method == wire::Method::kShardWrite ||
         method == wire::Method::kShardBatch || method == wire::Method::kBurstRead;
}

Status Closed() { return Status(Code::kCancelled, "the channel was closed"); }

// How much a refusal says: that of a peer which answered most, then that time was up.
int Weight(Code code) {
  if (code == Code::kUnavailable) return 0;
  if (code == Code::kBusy || code == Code::kCancelled) return 1;
  return code == Code::kDeadlineExceeded ? 2 : 3;
}

// What a call fails with when no rail answered.
class Refusals {
 public:
  void Add(const std::string& address, const Status& why) {
    if (text_.empty() || Weight(why.code()) > Weight(code_)) code_ = why.code();
    text_ += (text_.empty() ? "" : "; ") + address + ": " + why.message();
  }
  Status ToStatus() const { return Status(code_, "no rail answers: " + text_); }

 private:
  Code code_ = Code::kUnavailable;
  std::string text_;
};

}  // namespace

// One probe of each rail, until one has answered or none has.
struct RailCalls::Question {
  std::function<void(Status)> told;  // empty once it has run
  std::mutex mu;                     // guards what follows and `told`
  size_t open = 0;
  Refusals refusals;
};

RailCalls::Journey RailCalls::Start(wire::Method method, std::string header, ConstBytes bulk,
                                    CallOptions options) {
  Journey journey;
  journey.method = method;
  journey.header = std::move(header);
  journey.bulk = bulk;
  journey.options = options;
  journey.deadline = clock_.Monotonic() + std::clamp<Nanos>(options.timeout, 0, kLongestCall);
  return journey;
}

CallOptions RailCalls::OptionsOf(const Journey& journey) const {
  CallOptions options = journey.options;
  options.timeout = std::max<Nanos>(journey.deadline - clock_.Monotonic(), 0);
  return options;
}

std::string RailCalls::HeaderFor(Journey* journey) const {
  return MayBeSentAgain(journey->method) ? journey->header : std::move(journey->header);
}

// Ends the turn; true: the call goes on, by another rail.
bool RailCalls::GoesOn(Journey* journey, const RailSet::Turn& turn, const Result<Payload>& result) {
  if (!set_.End(turn, result) || !MayBeSentAgain(journey->method)) return false;
  journey->passed_over |= RailMask{1} << turn.rail;
  journey->failure = result.status().message();
  const RailMask all = (RailMask{1} << set_.size()) - 1;
  return journey->passed_over != all && clock_.Monotonic() < journey->deadline;
}

// ---------------------------------------------------------------- calls

void RailCalls::Call(wire::Method method, std::string header, ConstBytes bulk, CallOptions options,
                     Channel::Done done) {
  auto call = std::make_shared<Asynchronous>();
  call->journey = Start(method, std::move(header), bulk, options);
  call->done = std::move(done);
  Send(call);
}

void RailCalls::Send(const std::shared_ptr<Asynchronous>& call) {
  Journey& journey = call->journey;
  if (closed_) return call->done(Closed());
  const auto turn = set_.Begin(journey.method, journey.bulk.size(), journey.passed_over);
  if (!turn) return Open(call);
  ProbeRested();
  auto channel = set_.channel(turn->rail);
  auto done = [self = shared_from_this(), call, turn = *turn](Result<Payload> result) {
    if (self->GoesOn(&call->journey, turn, result)) return self->Send(call);
    call->done(std::move(result));
  };
  if (!channel) return done(Closed());
  channel->Call(journey.method, HeaderFor(&journey), journey.bulk, OptionsOf(journey),
                std::move(done));
}

void RailCalls::Open(const std::shared_ptr<Asynchronous>& call) {
  Journey& journey = call->journey;
  if (std::exchange(journey.asked, true))
    return call->done(Status(Code::kUnavailable, "no rail stays up: " + journey.failure));
  Ask(journey, [self = shared_from_this(), call](Status answer) {
    if (answer.ok()) return self->Send(call);
    call->done(std::move(answer));
  });
}

Result<Payload> RailCalls::CallAndWait(wire::Method method, std::string header, ConstBytes bulk,
                                       CallOptions options) {
  Journey journey = Start(method, std::move(header), bulk, options);
  while (true) {
    if (closed_) return Closed();
    const auto turn = set_.Begin(method, bulk.size(), journey.passed_over);
    if (turn) {
      ProbeRested();
      auto channel = set_.channel(turn->rail);
      PERIGEE_CHECK(channel != nullptr);
      auto result = channel->CallAndWait(method, HeaderFor(&journey), bulk, OptionsOf(journey));
      if (!GoesOn(&journey, *turn, result)) return result;
      continue;
    }
    if (std::exchange(journey.asked, true))
      return Status(Code::kUnavailable, "no rail stays up: " + journey.failure);
    struct Wait {
      Event done;
      Status answer;
    };
    auto wait = std::make_shared<Wait>();
    Ask(journey, [wait](Status answer) {
      wait->answer = std::move(answer);
      wait->done.Set();
    });
    wait->done.Wait();  // until the call's deadline at the latest, as probes go
    PERIGEE_TRY(wait->answer);
  }
}

void RailCalls::Close() {
  closed_ = true;
  for (size_t i = 0; i < set_.size(); ++i)
    if (auto channel = set_.channel(i)) channel->Close();
}

// ---------------------------------------------------------------- probes

// Tells ok as soon as one of the rails that the call may go by has answered.
void RailCalls::Ask(const Journey& journey, std::function<void(Status)> told) {
  auto question = std::make_shared<Question>();
  std::vector<size_t> asked;
  for (size_t i = 0; i < set_.size(); ++i)
    if ((journey.passed_over >> i & 1) == 0) asked.push_back(i);
  question->told = std::move(told);
  question->open = asked.size();
  const Nanos began = clock_.Monotonic();
  const CallOptions options{.timeout = OptionsOf(journey).timeout};
  for (size_t rail : asked) {
    auto answered = [self = shared_from_this(), question, rail, began](Result<Payload> answer) {
      self->Heard(question.get(), rail, began, answer);
    };
    auto channel = set_.channel(rail);
    if (channel)
      channel->Call(wire::Method::kPing, "", {}, options, std::move(answered));
    else
      answered(Closed());
  }
}

void RailCalls::Heard(Question* question, size_t rail, Nanos began, const Result<Payload>& answer) {
  const bool up = set_.Tell(rail, began, answer);
  std::function<void(Status)> told;
  Status outcome;
  {
    std::lock_guard lock(question->mu);
    --question->open;
    if (!up) question->refusals.Add(set_.address(rail), answer.status());
    if (!up && question->open != 0) return;
    told = std::exchange(question->told, nullptr);
    if (!told) return;  // another rail was faster
    if (!up) outcome = question->refusals.ToStatus();
  }
  told(std::move(outcome));
}

void RailCalls::ProbeRested() {
  for (size_t rail : set_.TakeRested()) {
    auto channel = set_.channel(rail);
    if (!channel) continue;
    channel->Call(
        wire::Method::kPing, "", {}, {.timeout = kProbeTimeout},
        [self = shared_from_this(), rail, began = clock_.Monotonic()](Result<Payload> answer) {
          (void)self->set_.Tell(rail, began, answer);
          self->set_.Probed(rail);
        });
  }
}

}  // namespace perigee::rdma
