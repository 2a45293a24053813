#include "objectd/s3/http_server.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <vector>

#include "base/event.h"
#include "base/log.h"
#include "base/options.h"
#include "objectd/s3/errors.h"
#include "objectd/s3/time_format.h"

namespace perigee::objectd::s3 {

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr Nanos kLingerMax = kSecond;

// What the loop says itself before it closes a connection.
std::string Refusal(ErrorCode code, std::string message) {
  Error error{code, std::move(message)};
  ResponseHead head;
  head.status = InfoOf(code).http_status;
  head.headers.Add("Content-Type", "application/xml");
  std::string body = ErrorXml(error, "", "");
  std::string out;
  AppendResponseHead(&out, head, {body.size(), FormatHttpDate(RealClock::Get().Wall()), {}, false});
  return out + body;
}

// Owned by one thread at a time: the loop while it waits, a pool thread while it is served.
struct Session {
  Session(tcp::socket s, Patience& patience)
      : socket(std::move(s)), connection(socket.native_handle(), patience, RealClock::Get()) {}
  tcp::socket socket;
  Connection connection;
  Nanos head_since = 0;  // when the first byte of an incomplete head came; 0: none

  // What it waits for in the loop, if it is there: a request, the rest of a head, the end.
  enum class Wait { kNone, kIdle, kHead, kLinger };
  std::mutex mu;  // guards the two below
  Wait wait = Wait::kNone;
  Nanos since = 0;
};
using SessionPtr = std::shared_ptr<Session>;

class AsioHttpServer final : public HttpServer {
 public:
  AsioHttpServer(HttpServerOptions options, RequestHandler handler, Scheduler& pool,
                 metrics::Registry& metrics)
      : options_(std::move(options)),
        handler_(std::move(handler)),
        pool_(pool),
        patience_(options_.patience),
        work_(io_.get_executor()),
        strand_(asio::make_strand(io_)),
        acceptor_(strand_),
        retry_(strand_),
        sweep_(strand_),
        open_(metrics.GetGauge("perigee_s3_connections", "Open S3 connections")),
        refused_(
            metrics.GetCounter("perigee_s3_refused_total",
                               "Connections or requests refused because a bound was reached")) {}

  ~AsioHttpServer() override { Stop(); }

  Status Listen() {
    PERIGEE_ASSIGN(HostPort at, ParseHostPort(options_.listen));
    error_code ec;
    asio::ip::address address =
        asio::ip::make_address(at.host == "localhost" ? "127.0.0.1" : at.host, ec);
    if (ec) return Status(Code::kInvalidArgument, "not an IP address: " + at.host);
    tcp::endpoint endpoint(address, at.port);
    acceptor_.open(endpoint.protocol(), ec);
    if (!ec) acceptor_.set_option(asio::socket_base::reuse_address(true), ec);
    if (!ec) acceptor_.bind(endpoint, ec);
    if (!ec) acceptor_.listen(4096, ec);
    if (ec) return Status::FromErrno(ec.value(), "listen on " + options_.listen);
    tcp::endpoint bound = acceptor_.local_endpoint(ec);
    if (ec) return Status::FromErrno(ec.value(), "listen on " + options_.listen);
    std::string host = bound.address().to_string();
    address_ =
        (bound.address().is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(bound.port());
    Accept();
    for (uint32_t i = 0; i < std::max(1u, options_.loop_threads); ++i) {
      threads_.emplace_back([this] { io_.run(); });
    }
    return Status::Ok();
  }

  std::string address() const override { return address_; }

  void Stop() override {
    {
      std::unique_lock lock(mu_);
      if (stopping_) return;
      stopping_ = true;
    }
    asio::post(strand_, [this] {
      error_code ignored;
      acceptor_.close(ignored);
      retry_.cancel();
      sweep_.cancel();
    });
    ShutdownSessions(Which::kWaiting);
    {
      std::unique_lock lock(mu_);
      empty_.WaitFor(lock, options_.stop_grace, [this] { return sessions_.empty(); });
    }
    ShutdownSessions(Which::kAll);
    {
      std::unique_lock lock(mu_);
      empty_.Wait(lock, [this] { return sessions_.empty() && serving_ == 0; });
    }
    io_.stop();
    for (std::thread& t : threads_) t.join();
  }

 private:
  enum class Which { kWaiting, kAll };

  void ShutdownSessions(Which which) {
    std::lock_guard lock(mu_);
    for (const SessionPtr& s : sessions_) {
      std::lock_guard session_lock(s->mu);
      if (which == Which::kAll || s->wait != Session::Wait::kNone) s->connection.Shutdown();
    }
  }

  void Accept() {
    acceptor_.async_accept(io_, [this](error_code ec, tcp::socket socket) {
      if (ec == asio::error::operation_aborted) return;
      if (ec) {
        // Out of descriptors, most likely: try again when some have been closed.
        log::Warn("s3_accept_failed", {{"why", ec.message()}});
        retry_.expires_after(std::chrono::milliseconds(100));
        retry_.async_wait([this](error_code cancelled) {
          if (!cancelled) Accept();
        });
        return;
      }
      Admit(std::move(socket));
      Accept();
    });
  }

  void Admit(tcp::socket socket) {
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::keep_alive(true), ignored);
    auto session = std::make_shared<Session>(std::move(socket), patience_);
    bool start_sweep = false;
    {
      std::lock_guard lock(mu_);
      if (stopping_) return;
      if (sessions_.size() >= options_.connections_max) {
        refused_->Add();
        session->connection.SendNow(Refusal(ErrorCode::kSlowDown, {}));
        return;
      }
      sessions_.insert(session);
      start_sweep = !sweeping_;
      sweeping_ = true;
    }
    open_->Add(1);
    if (start_sweep) Sweep();
    Arm(std::move(session));
  }

  // Called by the session's owner, of any thread; the loop owns it from here on.
  void Arm(SessionPtr session) {
    Nanos now = RealClock::Get().Monotonic();
    if (!session->connection.has_bytes())
      session->head_since = 0;
    else if (session->head_since == 0)
      session->head_since = now;
    Await(session, session->head_since ? Session::Wait::kHead : Session::Wait::kIdle,
          session->head_since ? session->head_since : now);
  }

  void Await(SessionPtr session, Session::Wait wait, Nanos since) {
    bool stopping;
    {
      std::lock_guard lock(mu_);
      stopping = stopping_;
    }
    {
      std::lock_guard lock(session->mu);
      session->wait = wait;
      session->since = since;
      if (stopping) session->connection.Shutdown();
    }
    tcp::socket& socket = session->socket;
    socket.async_wait(tcp::socket::wait_read,
                      [this, wait, since, session = std::move(session)](error_code ec) {
                        {
                          std::lock_guard lock(session->mu);
                          session->wait = Session::Wait::kNone;
                        }
                        if (ec) return Remove(session);
                        if (wait != Session::Wait::kLinger)
                          return Route(session, session->connection.ReadAvailable());
                        if (!session->connection.Linger()) return Remove(session);
                        Await(session, wait, since);
                      });
  }

  void Linger(const SessionPtr& session) {
    session->connection.BeginLinger();
    Await(session, Session::Wait::kLinger, RealClock::Get().Monotonic());
  }

  void Route(const SessionPtr& session, Connection::Intake intake) {
    switch (intake) {
      case Connection::Intake::kMore:
        return Arm(session);
      case Connection::Intake::kHeadReady:
        return Dispatch(session);
      case Connection::Intake::kTooLong:
        session->connection.SendNow(
            Refusal(ErrorCode::kInvalidRequest, "The head of the request is over 32768 bytes."));
        return Linger(session);
      case Connection::Intake::kClosed:
        return Remove(session);
    }
  }

  void Dispatch(const SessionPtr& session) {
    bool beyond;
    {
      std::lock_guard lock(mu_);
      beyond = options_.overflow && in_pool_ >= options_.pool_threads;
      ++serving_;
      if (!beyond) ++in_pool_;
    }
    Status posted = (beyond ? *options_.overflow : pool_).Post([this, session, beyond] {
      Serve(session);
      Served(beyond);
    });
    if (posted.ok()) return;
    refused_->Add();
    session->connection.SendNow(Refusal(ErrorCode::kSlowDown, {}));
    Linger(session);
    Served(beyond);
  }

  void Serve(const SessionPtr& session) {
    After after = session->connection.ServeOne(handler_);
    if (after == After::kClose) return Remove(session);
    if (after == After::kLinger) return Linger(session);
    session->head_since = 0;
    Connection::Intake next = session->connection.CheckBuffered();
    if (next == Connection::Intake::kMore) session->connection.ReleaseIdleBuffer();
    Route(session, next);
  }

  // Stop must not return while a pool thread is still inside this object.
  void Served(bool beyond) {
    std::lock_guard lock(mu_);
    if (!beyond) --in_pool_;
    if (--serving_ == 0) empty_.NotifyAll();
  }

  void Remove(const SessionPtr& session) {
    open_->Add(-1);
    std::lock_guard lock(mu_);
    sessions_.erase(session);
    if (sessions_.empty()) empty_.NotifyAll();
  }

  // Of what waits in the loop.
  Nanos Timeout(Session::Wait wait, bool pressed) const {
    switch (wait) {
      case Session::Wait::kHead:
        return options_.head_timeout;
      case Session::Wait::kLinger:
        return kLingerMax;
      default:
        return pressed ? std::min(options_.pressed_idle_timeout, options_.idle_timeout)
                       : options_.idle_timeout;
    }
  }

  // Ends connections that waited too long. Runs only while there are any.
  void Sweep() {
    Nanos least = std::min({options_.head_timeout, options_.idle_timeout,
                            options_.pressed_idle_timeout, 2 * kLingerMax});
    sweep_.expires_after(std::chrono::nanoseconds(std::max(least / 2, 10 * kMillisecond)));
    sweep_.async_wait([this](error_code ec) {
      if (ec) return;
      Nanos now = RealClock::Get().Monotonic();
      {
        std::lock_guard lock(mu_);
        const bool pressed = sessions_.size() > options_.connections_max / 4 * 3;
        for (const SessionPtr& s : sessions_) {
          std::lock_guard session_lock(s->mu);
          if (s->wait != Session::Wait::kNone && now - s->since > Timeout(s->wait, pressed))
            s->connection.Shutdown();
        }
        if (sessions_.empty() || stopping_) {
          sweeping_ = false;
          return;
        }
      }
      Sweep();
    });
  }

  const HttpServerOptions options_;
  const RequestHandler handler_;
  Scheduler& pool_;
  Patience patience_;
  asio::io_context io_;
  // Sessions that the pool serves are no work of the loop, but come back to it.
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  asio::strand<asio::io_context::executor_type> strand_;  // of the acceptor and the timers
  asio::basic_socket_acceptor<tcp, asio::strand<asio::io_context::executor_type>> acceptor_;
  using Timer = asio::basic_waitable_timer<std::chrono::steady_clock,
                                           asio::wait_traits<std::chrono::steady_clock>,
                                           asio::strand<asio::io_context::executor_type>>;
  Timer retry_, sweep_;
  std::string address_;
  std::vector<std::thread> threads_;
  metrics::Gauge* const open_;
  metrics::Counter* const refused_;

  std::mutex mu_;  // guards the rest; taken before a session's
  CondVar empty_;
  std::unordered_set<SessionPtr> sessions_;
  uint32_t serving_ = 0, in_pool_ = 0;
  bool stopping_ = false, sweeping_ = false;
};

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::Start(HttpServerOptions options,
                                                      RequestHandler handler, Scheduler& pool,
                                                      metrics::Registry& metrics) {
  auto server =
      std::make_unique<AsioHttpServer>(std::move(options), std::move(handler), pool, metrics);
  PERIGEE_TRY(server->Listen());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace perigee::objectd::s3
