// Sequences of calls on bufferd's socket, by nodes and by users, over an engine on a real directory
// in manual time. Each call is answered once.

#include "bufferd/burst_service.h"
#include "bufferd/forward.h"
#include "tests/bufferd/world.h"
#include "tests/fuzz/fake_call.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::bufferd;
using wire::Method;

constexpr int kCallsMax = 24;
constexpr uint32_t kStranger = 12345;  // not the user that runs this

struct Door {
  World w;
  std::shared_ptr<rdma::SlabPool> slabs =
      std::move(rdma::SlabPool::Create({.bytes_max = 32 << 20})).value();
  BurstService service{
      *w.engine, slabs, {w.sched.get(), w.sched.get(), w.sched.get(), w.sched.get()}};
  Forward forward{*w.engine, *w.meta};
  rdma::Router router;

  Door() {
    service.Register(&router, [](wire::BufferdStatusReply*) {});
    forward.Register(&router, w.sched.get());
  }
  void Call(fuzz::Input& input) {
    const uint8_t what = input.Number<uint8_t>();
    const auto method = static_cast<Method>(what % wire::kMethodCount);
    rdma::Peer peer{.role = rdma::Role::kNode, .connection = 1};
    if (what >= wire::kMethodCount)
      peer = {.role = rdma::Role::kUser, .uid = kStranger, .provider = "local", .connection = 2};
    const std::string_view message = input.Text();
    auto answer = std::make_shared<fuzz::Answer>();
    auto call = std::make_unique<fuzz::FakeCall>(method, peer, message, w.Soon(), answer);
    if (method == Method::kBurstWrite) {
      const std::string_view bytes = input.Text();
      if (!bytes.empty()) {
        call->bulk() = slabs->TryAllocate(bytes.size());
        bytes.copy(reinterpret_cast<char*>(call->bulk().data()), bytes.size());
      }
    }
    router.OnCall(std::move(call));
    (void)w.sched->RunUntil([&] { return answer->times > 0; });
    PERIGEE_CHECK(answer->times == 1);
    PERIGEE_CHECK(answer->code != Code::kInternal);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  Door door;
  door.w.objectd->Put("small", {.size = 5, .layout = {.kind = wire::LayoutKind::kInline}}, "hello");
  for (int i = 0; i < kCallsMax && !input.empty(); ++i) door.Call(input);
  door.w.Settle();
  return 0;
}
