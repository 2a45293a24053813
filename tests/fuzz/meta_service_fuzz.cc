// Sequences of namespace calls as a node may send them: method, message, bulk. Each is answered
// once, none damages the tree.

#include "base/metrics.h"
#include "objectd/kv/mem_store.h"
#include "objectd/meta/meta_service.h"
#include "tests/fuzz/fake_call.h"
#include "tests/fuzz/input.h"
#include "tests/objectd/meta/tree_check.h"

namespace {

using namespace perigee;
using namespace perigee::objectd;
using wire::Method;

constexpr int kCallsMax = 32;
constexpr auto kFirst = static_cast<uint8_t>(Method::kMetaLookup);
constexpr auto kLast = static_cast<uint8_t>(Method::kMetaApply);

std::shared_ptr<rdma::SlabPool> Slabs() {
  static const auto slabs = std::move(rdma::SlabPool::Create({.bytes_max = 64 << 20})).value();
  return slabs;
}

struct Objectd {
  ManualClock clock;
  std::unique_ptr<kv::MemStore> store = kv::MemStore::Create();
  std::unique_ptr<metrics::Registry> registry = metrics::Registry::Create();
  std::unique_ptr<DirectoryHolds> holds =
      std::move(DirectoryHolds::Create(
                    *store, clock, *registry,
                    [](wire::NodeId, wire::FileId, bool, Nanos) { return Status::Ok(); }))
          .value();
  std::unique_ptr<Namespace> ns =
      std::move(Namespace::Create(*store, clock, *registry, {.holds = holds.get()})).value();
  NodeTable nodes{*store};
  rdma::Router router;

  Objectd() {
    RegisterMetaService(router, *ns, nullptr, {.nodes = &nodes, .slabs = Slabs()});
    PERIGEE_CHECK(ns->CreateBucket({.name = "bucket"}).ok());
  }
  void Call(fuzz::Input& input) {
    const auto method =
        static_cast<Method>(kFirst + input.Number<uint8_t>() % (kLast - kFirst + 1));
    const std::string_view message = input.Text();
    auto answer = std::make_shared<fuzz::Answer>();
    auto call = std::make_unique<fuzz::FakeCall>(method, rdma::Peer{.role = rdma::Role::kNode},
                                                 message, 30 * kSecond, answer);
    if (method == Method::kMetaPublish || method == Method::kMetaApply) {
      const std::string_view bytes = input.Text();
      if (!bytes.empty()) {
        call->bulk() = Slabs()->TryAllocate(bytes.size());
        bytes.copy(reinterpret_cast<char*>(call->bulk().data()), bytes.size());
      }
    }
    router.OnCall(std::move(call));
    PERIGEE_CHECK(answer->times == 1);
    PERIGEE_CHECK(answer->code != Code::kInternal);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  Objectd objectd;
  for (int i = 0; i < kCallsMax && !input.empty(); ++i) objectd.Call(input);
  for (const std::string& wrong : test::CheckTree(*objectd.store)) {
    std::fprintf(stderr, "%s\n", wrong.c_str());
    PERIGEE_CHECK(!"the tree is damaged");
  }
  return 0;
}
