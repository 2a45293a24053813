// beast_server: what an HTTP server costs that is nothing but Boost.Beast: it answers every GET
// with the object's bytes from memory (bench/s3_load/pattern.h, so that s3_load can check them),
// swallows every PUT, and looks at nothing else. Two threads; prints its address, ends with its
// standard input. beast_server SIZE

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/bind_handler.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <charconv>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>

#include "base/options.h"
#include "bench/s3_load/pattern.h"

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kThreads = 2;

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, const perigee::bench::Pattern& pattern)
      : socket_(std::move(socket)), pattern_(pattern) {}

  void ReadHead() {
    parser_.emplace();
    parser_->body_limit(boost::none);
    http::async_read_header(socket_, buffer_, *parser_,
                            beast::bind_front_handler(&Session::OnRead, shared_from_this()));
  }

 private:
  void OnRead(error_code ec, size_t) {
    if (ec && ec != http::error::need_buffer) return;
    if (parser_->is_done()) return Reply();
    parser_->get().body().data = sink_;
    parser_->get().body().size = sizeof sink_;
    http::async_read_some(socket_, buffer_, *parser_,
                          beast::bind_front_handler(&Session::OnRead, shared_from_this()));
  }

  void Reply() {
    reply_ = {};
    reply_.version(11);
    reply_.result(http::status::ok);
    reply_.keep_alive(parser_->get().keep_alive());
    if (parser_->get().method() == http::verb::get) {
      const std::string_view target = parser_->get().target();
      uint64_t number = 0;
      std::from_chars(target.data() + target.rfind('/') + 1, target.data() + target.size(), number);
      const std::string_view body = pattern_.Of(number);
      reply_.body() = {body.data(), body.size()};
    }
    reply_.prepare_payload();
    http::async_write(socket_, reply_,
                      beast::bind_front_handler(&Session::OnWritten, shared_from_this()));
  }

  void OnWritten(error_code ec, size_t) {
    if (!ec && reply_.keep_alive()) ReadHead();
  }

  tcp::socket socket_;
  const perigee::bench::Pattern& pattern_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::buffer_body>> parser_;
  http::response<http::span_body<const char>> reply_;
  char sink_[64 << 10];
};

void Accept(tcp::acceptor& acceptor, const perigee::bench::Pattern& pattern) {
  acceptor.async_accept([&](error_code ec, tcp::socket socket) {
    if (ec) return;
    socket.set_option(tcp::no_delay(true), ec);
    std::make_shared<Session>(std::move(socket), pattern)->ReadHead();
    Accept(acceptor, pattern);
  });
}

}  // namespace

int main(int argc, char** argv) {
  auto size = perigee::ParseBytes(argc == 2 ? argv[1] : "");
  if (!size.ok()) {
    std::fprintf(stderr, "usage: beast_server SIZE\n");
    return 2;
  }
  const perigee::bench::Pattern pattern(*size);
  asio::io_context io(kThreads);
  tcp::acceptor acceptor(io, tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0));
  Accept(acceptor, pattern);
  std::printf("127.0.0.1:%u\n", acceptor.local_endpoint().port());
  std::fflush(stdout);
  std::thread threads[kThreads];
  for (std::thread& t : threads) t = std::thread([&] { io.run(); });
  while (std::getchar() != EOF) {
  }
  io.stop();
  for (std::thread& t : threads) t.join();
  return 0;
}
