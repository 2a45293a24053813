#pragma once
// One end of a TLS connection that speaks the frames of `tls` by hand, as well or as badly as a
// test wants. Blocking, with a limit of ten seconds.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "rdma/tls/frame.h"
#include "rdma/transport.h"

struct ssl_st;
struct ssl_ctx_st;

namespace perigee::rdma {

struct RawTlsFiles {
  std::string ca, cert, key;  // empty: none
  bool old_version = false;   // TLS 1.2
};

class RawTls {
 public:
  static OwnedFd Dial(uint16_t port);
  // Neither fails here: see shaken().
  static RawTls Client(OwnedFd fd, const RawTlsFiles& files);
  static RawTls Server(OwnedFd fd, const RawTlsFiles& files);
  RawTls(RawTls&& other) noexcept;
  ~RawTls();

  bool shaken() const { return shaken_; }  // the handshake was done, as this side sees it
  void SendBytes(std::string_view bytes);
  void Send(const tls::FrameHeader& head, std::string_view message = {}, ConstBytes bulk = {});
  // The next frame that is no beat, with what follows its header; nothing when the peer has ended
  // the connection (or is silent for ten seconds).
  std::optional<tls::FrameHeader> Receive(std::string* body = nullptr);
  // The peer ends the connection, whatever it may send before.
  bool Ended();
  // The same, while each of its beats is answered, so that silence is not the reason.
  bool EndedThoughAlive();
  // As a client of role kNode, or a server of it.
  void Hello();
  void ServeHello();
  // With a reset instead of an orderly end.
  void Reset();

 private:
  RawTls(OwnedFd fd, const RawTlsFiles& files, bool server);
  bool ReadFully(char* out, size_t bytes);
  std::optional<tls::FrameHeader> ReceiveAny(std::string* body);
  OwnedFd fd_;
  ssl_ctx_st* context_ = nullptr;
  ssl_st* ssl_ = nullptr;
  bool shaken_ = false;
  bool ended_ = false;
};

}  // namespace perigee::rdma
