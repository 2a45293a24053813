// Whole S3 requests, signed by the target, on a namespace and drives in memory. An input is text:
//
//   PUT /bucket/key?query          @U: the last upload id answered, @E: the last ETag
//   name: value                    x-amz-content-sha256 says what is signed; else the body is
//
//   body, up to a line "--", behind which the next request comes
//
// Every request is answered, never with an internal error, and the tree stays whole.

#include "base/scheduler.h"
#include "objectd/kv/mem_store.h"
#include "objectd/s3/router.h"
#include "objectd/s3/time_format.h"
#include "tests/fuzz/input.h"
#include "tests/objectd/meta/tree_check.h"
#include "tests/objectd/s3/memory_http.h"
#include "tests/objectd/s3/store_cluster.h"

namespace {

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::s3;
namespace http = perigee::objectd::s3::test;

constexpr int kRequestsMax = 16;
const s3::Credentials kCredentials{"root", "secret", "us-east-1"};

// What is expensive to make and keeps nothing of a request.
struct Process {
  std::shared_ptr<rdma::SlabPool> slabs =
      std::move(rdma::SlabPool::Create({.bytes_max = 64 << 20})).value();
  std::unique_ptr<metrics::Registry> registry = metrics::Registry::Create();
  std::unique_ptr<Scheduler> shards = CreateThreadPool({.name = "shards", .threads = 1});
  std::unique_ptr<Scheduler> helpers = CreateThreadPool({.name = "helpers", .threads = 1});
  ~Process() {
    helpers->Stop();
    shards->Stop();
  }
};

void ReplaceAll(std::string* text, std::string_view what, std::string_view with) {
  for (size_t at = 0; (at = text->find(what, at)) != std::string::npos; at += with.size())
    text->replace(at, what.size(), with);
}

class Server {
 public:
  Server() : service_(kCredentials, clock_, Deps()) {
    PERIGEE_CHECK(ns_->CreateBucket({.name = "bucket"}).ok());
  }
  kv::Store& store() { return *store_; }

  void Do(fuzz::Input request) {
    std::string method(request.Until(" ")), target(request.Line());
    ReplaceAll(&target, "@U", upload_id_);
    http::HeaderList headers{{"host", "localhost"}, {"x-amz-date", FormatAmzDate(clock_.Wall())}};
    std::string payload;
    while (!request.empty()) {
      fuzz::Input line(request.Line());
      std::string name = AsciiLower(line.Until(":")), value(TrimBlanks(line.Rest()));
      if (name.empty()) break;
      if (name == "x-amz-content-sha256") payload = value;
      ReplaceAll(&value, "@E", etag_);
      headers.emplace_back(std::move(name), std::move(value));
    }
    std::string body(request.Rest());
    ReplaceAll(&body, "@E", etag_);
    Send(method, target, std::move(headers), payload, body);
  }

 private:
  static Process& Shared() {
    static Process process;
    return process;
  }
  ContentIoDeps Deps() {
    Process& p = Shared();
    ContentIoDeps deps;
    deps.ns = ns_.get();
    deps.blobs = {&cluster_, p.shards.get(), p.slabs, p.registry.get(), &RealClock::Get(), 1};
    deps.helpers = p.helpers.get();
    deps.buffers = p.slabs;
    deps.metrics = p.registry.get();
    return deps;
  }

  void Send(const std::string& method, const std::string& target, http::HeaderList headers,
            std::string payload, const std::string& body) {
    if (!ParseTarget(target).ok()) return;
    if (payload.empty()) {
      payload = HexEncode(Hash(HashKind::kSha256, body));
      headers.emplace_back("x-amz-content-sha256", payload);
    }
    headers.emplace_back("authorization", http::Sign(method, target, headers, kCredentials,
                                                     FormatAmzDate(clock_.Wall()), payload)
                                              .authorization);
    headers.emplace_back("content-length", std::to_string(body.size()));
    const RequestHead head = http::MakeHead(method, target, headers);
    http::MemoryBody reader(body, 100);
    http::MemoryResponse response(method == "HEAD");
    Request request{head, reader};
    service_.Handle(request, response);
    PERIGEE_CHECK(response.started() || !response.ok());
    PERIGEE_CHECK(response.head.status >= 200 && response.head.status < 600);
    PERIGEE_CHECK(response.head.status != 500);
    if (std::string id = response.element("UploadId"); !id.empty()) upload_id_ = id;
    if (response.head.headers.Has("etag")) etag_ = response.header("etag");
  }

  ManualClock clock_;
  std::unique_ptr<kv::MemStore> store_ = kv::MemStore::Create();
  std::unique_ptr<Namespace> ns_ =
      std::move(Namespace::Create(*store_, clock_, *Shared().registry, {})).value();
  http::StoreCluster cluster_{*store_, Shared().slabs};
  Service service_;
  std::string upload_id_, etag_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  Server server;
  for (int i = 0; i < kRequestsMax && !input.empty(); ++i)
    server.Do(fuzz::Input(input.Until("\n--\n")));
  for (const std::string& wrong : objectd::test::CheckTree(server.store())) {
    std::fprintf(stderr, "%s\n", wrong.c_str());
    PERIGEE_CHECK(!"the tree is damaged");
  }
  return 0;
}
