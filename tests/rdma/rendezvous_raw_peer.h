#pragma once
// A peer that speaks messages by hand, on the test's own thread.

#include <doctest/doctest.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/checksum.h"
#include "rdma/hello.h"
#include "rdma/rendezvous/frame.h"
#include "rdma/rendezvous/worker.h"
#include "tests/rdma/rendezvous_world.h"

namespace perigee::rdma::rendezvous {

class RawPeer final : public EndpointUser {
 public:
  // A server, once it listens.
  explicit RawPeer(const ProviderUnderTest& provider) : provider_(provider) {
    auto worker = provider.worker();
    REQUIRE(worker.ok());
    worker_ = std::move(*worker);
  }
  // A client of the server at "PROVIDER:HOST:PORT".
  RawPeer(const ProviderUnderTest& provider, const std::string& address) : RawPeer(provider) {
    auto endpoint = worker_->Connect(*ParseAddress(address.substr(provider.name.size() + 1)), this);
    REQUIRE(endpoint.ok());
    endpoint_ = *endpoint;
  }
  ~RawPeer() override {
    socket_.reset();
    if (endpoint_) endpoint_->Close();
  }

  // A server for one connection. Its address, to Connect to.
  std::string Listen() {
    auto accept = [this](std::shared_ptr<ConnectionRequest> request) {
      auto endpoint = worker_->Accept(std::move(request), this);
      REQUIRE(endpoint.ok());
      endpoint_ = *endpoint;
    };
    auto socket = worker_->Listen(*ParseAddress("127.0.0.1:0"), accept);
    REQUIRE(socket.ok());
    socket_ = std::move(*socket);
    return provider_.name + ":" + socket_->address().ToString();
  }

  void SendRaw(std::string head, std::string data = "") {
    auto sending = std::make_unique<Sending>();
    sending->head = std::move(head);
    sending->copy = std::move(data);
    sending->data = AsBytes(sending->copy);
    endpoint_->Send(std::move(sending));
    worker_->Progress();
  }
  // With lengths and checksum as they should be for `data`.
  void Send(FrameHeader head, const std::string& data = "") {
    head.body_len = static_cast<uint32_t>(data.size());
    head.data_crc = Crc32c(AsBytes(data));
    SendRaw(EncodeFrame(head, ""), data);
  }
  void SendBulk(FrameHeader head, const std::string& bulk) {
    head.data = DataKind::kBodyInHead;
    head.bulk_len = static_cast<uint32_t>(bulk.size());
    head.data_crc = Crc32c(AsBytes(bulk));
    SendRaw(EncodeFrame(head, ""), bulk);
  }
  struct Message {
    FrameHeader head;
    std::string body;
    Arrival arrival;
  };
  // Nothing: the connection has ended, or is silent for ten seconds. Pings are passed over.
  std::optional<Message> Receive() {
    while (Await([this] { return !arrived_.empty() || ended_; }) && !arrived_.empty()) {
      Message message;
      message.arrival = std::move(arrived_.front());
      arrived_.pop_front();
      std::string_view body;
      auto head = DecodeFrame(AsBytes(message.arrival.head), message.arrival.bytes,
                              {kHeaderBytesMax, kPieceBytesMax}, &body);
      REQUIRE(head.ok());
      if (head->kind == FrameKind::kPing) continue;
      message.head = *head;
      message.body = head->data == DataKind::kBodyInHead
                         ? std::string(body)
                         : message.arrival.data.substr(0, head->body_len);
      return message;
    }
    return std::nullopt;
  }
  template <class Pred>
  bool Await(Pred pred) {
    Nanos limit = RealClock::Get().Monotonic() + 10 * kSecond;
    while (!pred()) {
      if (RealClock::Get().Monotonic() > limit) return false;
      worker_->Progress();
    }
    return true;
  }
  bool Ended() {
    return Await([this] { return ended_; });
  }
  void Hello(const TransportOptions& as = NodeOptions(66)) {
    HelloClient hello(as);
    Send({.kind = FrameKind::kHelloStart}, hello.Start());
    auto challenge = Receive();
    REQUIRE(challenge.has_value());
    auto answer = hello.Answer(challenge->body);
    REQUIRE(answer.ok());
    Send({.kind = FrameKind::kHelloAnswer}, *answer);
    auto verdict = Receive();
    REQUIRE(verdict.has_value());
    REQUIRE(verdict->head.kind == FrameKind::kHelloVerdict);
    REQUIRE(hello.Finish(verdict->body).ok());
  }
  // The server's side of it.
  void Welcome() {
    HelloServer hello(NodeOptions(67));
    auto start = Receive();
    REQUIRE(start.has_value());
    auto challenge = hello.Challenge(start->body);
    REQUIRE(challenge.ok());
    Send({.kind = FrameKind::kHelloChallenge}, *challenge);
    auto answer = Receive();
    REQUIRE(answer.has_value());
    REQUIRE(hello.Verify(answer->body).ok());
    Send({.kind = FrameKind::kHelloVerdict}, hello.Welcome());
  }
  Endpoint& endpoint() { return *endpoint_; }

  void OnArrival(Arrival arrival) override { arrived_.push_back(std::move(arrival)); }
  void OnFailure(const Status& why) override {
    why.Ignore();
    ended_ = true;
  }

 private:
  const ProviderUnderTest& provider_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<ListenSocket> socket_;
  std::shared_ptr<Endpoint> endpoint_;
  std::deque<Arrival> arrived_;
  bool ended_ = false;
};

}  // namespace perigee::rdma::rendezvous
