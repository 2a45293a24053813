#include "base/admin_server.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/options.h"

namespace perigee {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;

constexpr size_t kConnectionsMax = 64;
constexpr auto kRequestTime = std::chrono::seconds(5);
constexpr uint32_t kHeaderBytesMax = 8192;
constexpr uint64_t kBodyBytesMax = 65536;  // read and passed over

using Response = http::response<http::string_body>;
using Answer = std::function<Response(const http::request<http::string_body>&)>;

std::string Name(const tcp::endpoint& at) {
  std::string host = at.address().to_string();
  if (at.address().is_v6()) host = "[" + host + "]";
  return host + ":" + std::to_string(at.port());
}

// One connection: reads a request, answers it, and so on. Bound to the server's thread; lives by
// its own handlers.
class Session : public std::enable_shared_from_this<Session> {
 public:
  // `slot` is held while the connection is open.
  Session(tcp::socket socket, const Answer& answer, std::shared_ptr<void> slot)
      : stream_(std::move(socket)), answer_(answer), slot_(std::move(slot)) {}

  void Read() {
    parser_.emplace();
    parser_->header_limit(kHeaderBytesMax);
    parser_->body_limit(kBodyBytesMax);
    stream_.expires_after(kRequestTime);
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](beast::error_code ec, size_t) {
                       if (!ec) self->Write();  // else the connection closes with the session
                     });
  }

 private:
  void Write() {
    const auto& request = parser_->get();
    response_ = answer_(request);
    response_.version(request.version());
    response_.keep_alive(request.keep_alive());
    response_.prepare_payload();
    if (request.method() == http::verb::head)
      response_.body().clear();  // the length stays that of GET
    http::async_write(stream_, response_,
                      [self = shared_from_this()](beast::error_code ec, size_t) {
                        if (!ec && self->response_.keep_alive()) return self->Read();
                        beast::error_code ignored;  // closing what is already broken may fail
                        self->stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
                      });
  }

  beast::tcp_stream stream_;
  const Answer& answer_;
  std::shared_ptr<void> slot_;
  beast::flat_buffer buffer_{kHeaderBytesMax + kBodyBytesMax};
  std::optional<http::request_parser<http::string_body>> parser_;
  Response response_;
};

class AdminServerImpl final : public AdminServer {
 public:
  AdminServerImpl(metrics::Registry* registry, std::function<Status()> health)
      : registry_(registry),
        health_(std::move(health)),
        answer_(
            [this](const http::request<http::string_body>& request) { return Respond(request); }) {}
  ~AdminServerImpl() override { Stop(); }

  Status Listen(const std::string& listen) {
    PERIGEE_ASSIGN(HostPort at, ParseHostPort(listen));
    beast::error_code ec;
    tcp::resolver resolver(io_);
    auto found = resolver.resolve(at.host, std::to_string(at.port),
                                  tcp::resolver::passive | tcp::resolver::numeric_service, ec);
    if (ec || found.empty())
      return Status(Code::kInvalidArgument, "listen on " + listen + ": " + ec.message());
    tcp::endpoint endpoint = found.begin()->endpoint();
    auto failed = [&] { return Status::FromErrno(ec.value(), "listen on " + listen); };
    acceptor_.open(endpoint.protocol(), ec);
    if (ec) return failed();
    acceptor_.set_option(tcp::acceptor::reuse_address(true), ec);
    if (ec) return failed();
    acceptor_.bind(endpoint, ec);
    if (ec) return failed();
    acceptor_.listen(tcp::acceptor::max_listen_connections, ec);
    if (ec) return failed();
    address_ = Name(acceptor_.local_endpoint(ec));
    if (ec) return failed();
    Accept();
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "admin");
      io_.run();
    });
    return Status::Ok();
  }

  std::string address() const override { return address_; }

  void Stop() override {
    std::call_once(stopped_, [this] {
      io_.stop();
      if (thread_.joinable()) thread_.join();
      beast::error_code ignored;  // nothing is lost by a socket that cannot be closed
      acceptor_.close(ignored);
    });
  }

 private:
  void Accept() {
    acceptor_.async_accept([this](beast::error_code ec, tcp::socket socket) {
      if (ec == asio::error::operation_aborted) return;
      if (ec) {
        // Out of descriptors, as a rule: try again when some may have been given back.
        log::Warn("admin_accept_failed", {{"address", address_}, {"error", ec.message()}});
        retry_.expires_after(std::chrono::seconds(1));
        retry_.async_wait([this](beast::error_code cancelled) {
          if (!cancelled) Accept();
        });
        return;
      }
      if (connections_ < kConnectionsMax) {
        ++connections_;
        std::shared_ptr<void> slot(nullptr, [this](void*) { --connections_; });
        std::make_shared<Session>(std::move(socket), answer_, std::move(slot))->Read();
      }
      Accept();
    });
  }

  Response Respond(const http::request<http::string_body>& request) {
    std::string_view target(request.target().data(), request.target().size());
    target = target.substr(0, target.find('?'));
    Response response(http::status::ok, request.version());
    response.set(http::field::content_type, "text/plain; charset=utf-8");
    if (target != "/metrics" && target != "/healthz") {
      response.result(http::status::not_found);
      response.body() = "not found; there are /metrics and /healthz\n";
    } else if (request.method() != http::verb::get && request.method() != http::verb::head) {
      response.result(http::status::method_not_allowed);
      response.set(http::field::allow, "GET, HEAD");
      response.body() = "read only\n";
    } else if (target == "/metrics") {
      response.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
      response.body() = registry_->ExposeText();
    } else {
      Status health = health_ ? health_() : Status::Ok();
      if (!health.ok()) response.result(http::status::service_unavailable);
      response.body() = (health.ok() ? "ok" : health.ToString()) + "\n";
    }
    return response;
  }

  metrics::Registry* const registry_;
  const std::function<Status()> health_;
  const Answer answer_;
  size_t connections_ =
      0;  // of the server's thread, and the sessions that io_ destroys go before it
  asio::io_context io_{1};
  tcp::acceptor acceptor_{io_};
  asio::steady_timer retry_{io_};
  std::string address_;
  std::once_flag stopped_;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<AdminServer>> AdminServer::Start(const std::string& listen,
                                                        metrics::Registry* registry,
                                                        std::function<Status()> health) {
  auto server = std::make_unique<AdminServerImpl>(registry, std::move(health));
  PERIGEE_TRY(server->Listen(listen));
  return std::unique_ptr<AdminServer>(std::move(server));
}

}  // namespace perigee
