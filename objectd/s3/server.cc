#include "objectd/s3/server.h"

#include <algorithm>
#include <thread>

#include "objectd/s3/http_server.h"
#include "objectd/s3/router.h"

namespace perigee::objectd {

namespace {

// For requests beyond the pool's. When as many wait for their clients, patience ends sooner.
constexpr uint32_t kSlowClientThreads = 64;

class Server final : public S3Server {
 public:
  explicit Server(const S3Options& options) : documents_(options.document_bytes_max) {
    uint32_t helpers = options.helper_threads
                           ? options.helper_threads
                           : std::clamp(std::thread::hardware_concurrency(), 1u, 16u);
    helpers_ = CreateThreadPool({.name = "s3-helper", .threads = helpers, .queue_max = 1024});
    slow_ = CreateThreadPool({.name = "s3-slow", .threads = kSlowClientThreads});
  }
  ~Server() override { Stop(); }

  Status Listen(const S3Options& options, const S3Deps& deps) {
    PERIGEE_ASSIGN(auto buffers, rdma::SlabPool::Create({.bytes_max = options.buffer_bytes_max}));
    s3::ContentIoDeps content;
    content.ns = deps.ns;
    content.blobs = deps.blobs;
    content.peers = deps.peers;
    content.helpers = helpers_.get();
    content.buffers = buffers;
    content.documents = &documents_;
    content.metrics = deps.metrics;
    service_ = std::make_unique<s3::Service>(
        s3::Credentials{options.access_key, options.secret_key, options.region}, *deps.clock,
        content);
    s3::HttpServerOptions http;
    http.listen = options.listen;
    http.connections_max = options.connections_max;
    http.loop_threads = options.loop_threads;
    http.head_timeout = options.head_timeout;
    http.idle_timeout = options.idle_timeout;
    http.patience.timeout = options.body_timeout;
    http.patience.rate_min = options.body_rate_min;
    http.patience.waiting_max = kSlowClientThreads;
    http.overflow = slow_.get();
    http.pool_threads = options.pool_threads;
    auto handle = [service = service_.get()](s3::Request& request, s3::ResponseWriter& response) {
      service->Handle(request, response);
    };
    PERIGEE_ASSIGN(http_, s3::HttpServer::Start(http, handle, *deps.pool, *deps.metrics));
    buffers_ = std::move(buffers);
    ScheduleTrim();
    return Status::Ok();
  }

  std::string address() const override { return http_->address(); }

  void Stop() override {
    if (http_) http_->Stop();
    slow_->Stop();
    helpers_->Stop();
  }

 private:
  // Buffers that a burst of requests left behind go back to the system.
  void ScheduleTrim() {
    helpers_->PostAfter(10 * kSecond, [this] {
      if (buffers_->BytesMapped() > 0) buffers_->Trim();
      ScheduleTrim();
    });
  }

  std::unique_ptr<Scheduler> helpers_, slow_;
  std::shared_ptr<rdma::SlabPool> buffers_;
  s3::ByteGate documents_;
  std::unique_ptr<s3::Service> service_;
  std::unique_ptr<s3::HttpServer> http_;
};

}  // namespace

Result<std::unique_ptr<S3Server>> S3Server::Start(S3Options options, S3Deps deps) {
  PERIGEE_CHECK(deps.ns && deps.pool && deps.clock && deps.metrics);
  if (options.access_key.empty() || options.secret_key.empty()) {
    return Status(Code::kInvalidArgument, "the S3 endpoint needs an access key and a secret key");
  }
  if (options.region.empty())
    return Status(Code::kInvalidArgument, "the S3 endpoint needs a region");
  auto server = std::make_unique<Server>(options);
  PERIGEE_TRY(server->Listen(options, deps));
  return std::unique_ptr<S3Server>(std::move(server));
}

}  // namespace perigee::objectd
