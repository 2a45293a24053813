#pragma once
// The S3 service over a namespace in memory and shards in memory, without sockets: requests are
// signed, sent as values and answered as values.

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>

#include "base/scheduler.h"
#include "objectd/kv/mem_store.h"
#include "objectd/meta/namespace.h"
#include "objectd/s3/router.h"
#include "objectd/s3/time_format.h"
#include "tests/objectd/s3/memory_http.h"
#include "tests/objectd/s3/store_cluster.h"

namespace perigee::objectd::s3::test {

// Burst files of one node, as a function.
class FakePeers final : public BurstPeers {
 public:
  std::function<Result<std::string>(uint64_t generation, uint64_t offset, uint32_t length)> answer;
  int reads = 0;
  explicit FakePeers(std::shared_ptr<rdma::SlabPool> slabs) : slabs_(std::move(slabs)) {}
  Result<rdma::Piece> Read(wire::NodeId, wire::BurstId, wire::FileId, uint64_t generation,
                           uint64_t offset, uint32_t length) override {
    ++reads;
    PERIGEE_ASSIGN(std::string bytes, answer(generation, offset, length));
    PERIGEE_ASSIGN(rdma::Piece piece, slabs_->Allocate(bytes.size(), kSecond));
    std::memcpy(piece.data(), bytes.data(), bytes.size());
    return piece;
  }

 private:
  std::shared_ptr<rdma::SlabPool> slabs_;
};

struct Fixture {
  Fixture()
      : store(kv::MemStore::Create()),
        registry(metrics::Registry::Create()),
        ns(std::move(Namespace::Create(*store, clock, *registry, {})).value()),
        slabs(std::move(rdma::SlabPool::Create({.bytes_max = 64 << 20})).value()),
        cluster(*store, slabs),
        peers(slabs),
        shard_pool(CreateThreadPool({.name = "shards", .threads = 2})),
        helpers(CreateThreadPool({.name = "helpers", .threads = 2})) {
    service = std::make_unique<Service>(credentials, clock, content_deps());
    Do("PUT", "/bucket");
  }
  ~Fixture() {
    service.reset();
    helpers->Stop();
    shard_pool->Stop();
  }
  client::BlobIoDeps blob_deps() {
    return {&cluster, shard_pool.get(), slabs, registry.get(), &RealClock::Get(), 1};
  }
  ContentIoDeps content_deps() {
    ContentIoDeps deps;
    deps.ns = ns.get();
    deps.blobs = blob_deps();
    deps.peers = &peers;
    deps.helpers = helpers.get();
    deps.buffers = std::move(rdma::SlabPool::Create({.bytes_max = 64 << 20})).value();
    deps.metrics = registry.get();
    return deps;
  }

  std::string now() const { return FormatAmzDate(clock.Wall()); }
  // Host, date, payload hash, length and signature in front of `extra`.
  HeaderList Authorized(const std::string& method, const std::string& target,
                        const HeaderList& extra, const std::string& payload,
                        const std::string& body) {
    HeaderList headers{
        {"host", "localhost"}, {"x-amz-date", now()}, {"x-amz-content-sha256", payload}};
    for (const auto& h : extra) headers.push_back(h);
    headers.push_back({"authorization",
                       Sign(method, target, headers, credentials, now(), payload).authorization});
    if (!body.empty() || method == "PUT" || method == "POST")
      headers.push_back({"content-length", std::to_string(body.size())});
    return headers;
  }
  MemoryResponse Send(const std::string& method, const std::string& target,
                      const HeaderList& headers, BodyReader& body) {
    RequestHead head = MakeHead(method, target, headers);
    Request request{head, body};
    MemoryResponse response(method == "HEAD");
    service->Handle(request, response);
    return response;
  }
  MemoryResponse Do(const std::string& method, const std::string& target,
                    const std::string& body = {}, const HeaderList& extra = {}) {
    MemoryBody reader(body, 50000);
    return Send(method, target,
                Authorized(method, target, extra, HexEncode(Hash(HashKind::kSha256, body)), body),
                reader);
  }

  const Credentials credentials{"root", "secret", "us-east-1"};
  ManualClock clock;
  std::unique_ptr<kv::MemStore> store;
  std::unique_ptr<metrics::Registry> registry;
  std::unique_ptr<Namespace> ns;
  std::shared_ptr<rdma::SlabPool> slabs;
  StoreCluster cluster;
  FakePeers peers;
  std::unique_ptr<Scheduler> shard_pool, helpers;
  std::unique_ptr<Service> service;
};

inline std::string RandomText(size_t bytes, uint64_t seed) {
  std::string out(bytes, '\0');
  Random(seed).Fill(out.data(), bytes);
  return out;
}
inline std::string Md5Hex(std::string_view data) { return HexEncode(Hash(HashKind::kMd5, data)); }

}  // namespace perigee::objectd::s3::test
