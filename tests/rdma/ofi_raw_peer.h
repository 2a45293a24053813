#pragma once
// A peer of `ofi` that uses libfabric by hand, on the test's own thread: it sends any bytes, and
// reads and writes any memory that the other side lets it.

#include <doctest/doctest.h>
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>
#include <rdma/fi_rma.h>

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "base/checksum.h"
#include "rdma/hello.h"
#include "rdma/ofi/device.h"
#include "rdma/ofi/envelope.h"
#include "rdma/ofi/listen_socket.h"
#include "rdma/rendezvous/frame.h"
#include "tests/rdma/rendezvous_world.h"

namespace perigee::rdma::ofi {

class RawFabric {
 public:
  struct Message {
    Envelope envelope;
    rendezvous::FrameHeader head;
    std::string data;
  };

  // A server, once it listens.
  RawFabric() {
    auto pool = SlabPool::Create({});
    REQUIRE(pool.ok());
    pool_ = *pool;
  }
  // A client of the server at "ofi:HOST:PORT".
  explicit RawFabric(const std::string& address) : RawFabric() {
    auto info = fabric_.Find(*rendezvous::ParseAddress(address.substr(4)), Fabric::Side::kConnect);
    REQUIRE(info.ok());
    Open(**info);
    REQUIRE(fi_connect(ep_, (*info)->dest_addr, nullptr, 0) == 0);
    REQUIRE(Await([this] { return up_; }));
  }
  ~RawFabric() {
    socket_.reset();
    if (ep_ != nullptr) fi_close(&ep_->fid);
  }

  // Its address, to Connect to.
  std::string Listen() {
    auto accept = [this](std::shared_ptr<rendezvous::ConnectionRequest> request) {
      auto& ours = static_cast<OfiConnectionRequest&>(*request);
      Open(ours.info());
      REQUIRE(fi_accept(ep_, nullptr, 0) == 0);
      ours.Accepted();
    };
    auto socket = OfiListenSocket::Create(&fabric_, *rendezvous::ParseAddress("127.0.0.1:0"),
                                          accept, nullptr);
    REQUIRE(socket.ok());
    socket_ = std::move(*socket);
    return "ofi:" + socket_->address().ToString();
  }

  // One message of libfabric's.
  void SendBytes(std::string bytes) {
    sent_.push_back(std::move(bytes));  // until the end: libfabric sends when it can
    ssize_t rc;
    do {
      Progress();
      rc = fi_send(ep_, sent_.back().data(), sent_.back().size(), nullptr, 0, nullptr);
    } while (rc == -FI_EAGAIN && !ended_);
  }
  void Send(Envelope envelope, const std::string& head = "", const std::string& data = "") {
    std::string out(kEnvelopeBytes, '\0');
    envelope.head_bytes = static_cast<uint32_t>(head.size());
    if (!data.empty()) envelope.data_bytes = static_cast<uint32_t>(data.size());
    EncodeEnvelope(envelope, reinterpret_cast<uint8_t*>(out.data()));
    SendBytes(out + head + data);
  }
  void Send(rendezvous::FrameHeader head, const std::string& body) {
    head.body_len = static_cast<uint32_t>(body.size());
    head.data_crc = Crc32c(AsBytes(body));
    Send(Envelope{}, EncodeFrame(head, ""), body);
  }
  // `bulk` is what the checksum is of; the envelope says where it would be.
  void Announce(rendezvous::FrameHeader head, const std::string& bulk, Envelope envelope) {
    head.data = rendezvous::DataKind::kBodyInHead;
    head.bulk_len = static_cast<uint32_t>(bulk.size());
    head.data_crc = Crc32c(AsBytes(bulk));
    envelope.kind = EnvelopeKind::kAnnounce;
    envelope.data_bytes = head.bulk_len;
    Send(envelope, EncodeFrame(head, ""));
  }
  Exposure Expose(const std::string& what, Memory::Access access) {
    auto exposure = device_->memory().Expose(reinterpret_cast<const uint8_t*>(what.data()),
                                             what.size(), access);
    REQUIRE(exposure.ok());
    return std::move(*exposure);
  }
  // Tries to. `from` stays; what comes of it shows at the other side, or in ended().
  void Write(const std::string& from, uint64_t addr, uint64_t key) {
    REQUIRE(fi_write(ep_, from.data(), from.size(), nullptr, 0, addr, key, nullptr) == 0);
    Progress();
  }
  void Read(std::string* to, uint64_t addr, uint64_t key) {
    REQUIRE(fi_read(ep_, to->data(), to->size(), nullptr, 0, addr, key, nullptr) == 0);
    Progress();
  }
  // Nothing: the connection has ended, or is silent for ten seconds. Pings are passed over.
  std::optional<Message> Receive() {
    while (Await([this] { return !arrived_.empty() || ended_; }) && !arrived_.empty()) {
      std::string bytes = std::move(arrived_.front());
      arrived_.pop_front();
      Message message;
      auto envelope = DecodeEnvelope(AsBytes(bytes));
      REQUIRE(envelope.ok());
      message.envelope = *envelope;
      std::string head = bytes.substr(kEnvelopeBytes, envelope->head_bytes);
      if (!head.empty()) {
        std::string_view body;
        auto frame = rendezvous::DecodeFrame(AsBytes(head), envelope->data_bytes,
                                             {kHeaderBytesMax, kPieceBytesMax}, &body);
        REQUIRE(frame.ok());
        message.head = *frame;
        message.data = bytes.substr(kEnvelopeBytes + head.size());
        if (frame->kind == rendezvous::FrameKind::kPing) continue;
      }
      return message;
    }
    return std::nullopt;
  }
  template <class Pred>
  bool Await(Pred pred) {
    Nanos limit = RealClock::Get().Monotonic() + 10 * kSecond;
    while (!pred()) {
      if (RealClock::Get().Monotonic() > limit) return false;
      Progress();
    }
    return true;
  }
  // Not by silence: it pings.
  bool Ended() {
    Nanos next_ping = 0;
    return Await([&] {
      Nanos now = RealClock::Get().Monotonic();
      if (!ended_ && now > next_ping) {
        next_ping = now + 500 * kMillisecond;
        Send({.kind = rendezvous::FrameKind::kPing}, "");
      }
      return ended_;
    });
  }
  void Hello() {
    HelloClient hello(NodeOptions(66));
    Send({.kind = rendezvous::FrameKind::kHelloStart}, hello.Start());
    auto answer = hello.Answer(Must().data);
    REQUIRE(answer.ok());
    Send({.kind = rendezvous::FrameKind::kHelloAnswer}, *answer);
    REQUIRE(hello.Finish(Must().data).ok());
  }
  // The server's side of it.
  void Welcome() {
    HelloServer hello(NodeOptions(67));
    auto challenge = hello.Challenge(Must().data);
    REQUIRE(challenge.ok());
    Send({.kind = rendezvous::FrameKind::kHelloChallenge}, *challenge);
    REQUIRE(hello.Verify(Must().data).ok());
    Send({.kind = rendezvous::FrameKind::kHelloVerdict}, hello.Welcome());
  }
  Message Must() {
    auto message = Receive();
    REQUIRE(message.has_value());
    return std::move(*message);
  }

 private:
  void Open(fi_info& info) {
    auto fabric = fabric_.Open(info);
    REQUIRE(fabric.ok());
    auto device = Device::Open(*fabric, info, pool_);
    REQUIRE(device.ok());
    device_ = std::move(*device);
    auto ep = device_->NewEndpoint(info);
    REQUIRE(ep.ok());
    ep_ = *ep;
    for (auto& buffer : buffers_) Post(&buffer);
  }
  void Post(std::array<char, kBufferBytes>* buffer) {
    REQUIRE(fi_recv(ep_, buffer->data(), buffer->size(), nullptr, 0, buffer) == 0);
  }
  void Progress() {
    if (socket_) (void)socket_->Progress();
    if (!device_) return;
    fi_cq_msg_entry entry{};
    ssize_t n = fi_cq_read(device_->cq(), &entry, 1);
    if (n == 1 && (entry.flags & FI_RECV) != 0) {
      auto* buffer = static_cast<std::array<char, kBufferBytes>*>(entry.op_context);
      arrived_.emplace_back(buffer->data(), entry.len);
      Post(buffer);
    } else if (n == -FI_EAVAIL) {
      fi_cq_err_entry error{};
      (void)fi_cq_readerr(device_->cq(), &error, 0);
    }
    fi_eq_cm_entry event{};
    uint32_t kind = 0;
    n = fi_eq_read(device_->eq(), &kind, &event, sizeof event, 0);
    if (n == -FI_EAVAIL) {
      fi_eq_err_entry error{};
      (void)fi_eq_readerr(device_->eq(), &error, 0);
      ended_ = true;
    } else if (n > 0) {
      (kind == FI_CONNECTED ? up_ : ended_) = true;
    }
  }

  Fabric fabric_{Fabric::Options{{"tcp"}, false}};
  std::shared_ptr<SlabPool> pool_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<OfiListenSocket> socket_;
  fid_ep* ep_ = nullptr;
  std::array<std::array<char, kBufferBytes>, 8> buffers_;
  std::deque<std::string> sent_, arrived_;
  bool up_ = false, ended_ = false;
};

}  // namespace perigee::rdma::ofi
