#pragma once
// TlsSocket: TLS 1.3 over a connected, non-blocking TCP socket. Reading and writing never wait and
// never raise SIGPIPE. Thread rule: loop-bound.
//
// Failures: kUnavailable: the connection broke. kUnauthenticated: a certificate was refused, here
// or by the peer. kCorrupt: the peer does not speak TLS as this side wants it.

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "rdma/provider_core.h"
#include "rdma/transport.h"

struct bio_st;
struct ssl_st;
struct ssl_ctx_st;

namespace perigee::rdma::tls {

class TlsSocket {
 public:
  // A client names the host that the server's certificate must be for; a server leaves it empty.
  static Result<std::unique_ptr<TlsSocket>> Client(OwnedFd fd, ssl_ctx_st* context,
                                                   const std::string& host, ByteCounters counters);
  static Result<std::unique_ptr<TlsSocket>> Server(OwnedFd fd, ssl_ctx_st* context,
                                                   ByteCounters counters);
  ~TlsSocket();

  enum class Want { kNothing, kRead, kWrite, kEnd };
  struct Outcome {
    size_t bytes = 0;
    Want want = Want::kNothing;  // when there were none
  };
  Result<Outcome> Handshake();  // kNothing: done
  Result<Outcome> Read(MutableBytes out);
  // At most one record is taken, and gathered with others: Push sends them. One that wanted
  // something is to be repeated with as many bytes of the same content.
  Result<Outcome> Write(ConstBytes data);
  // False: the socket does not take all of it now.
  Result<bool> Push();
  void Trim();  // gives back memory of what was gathered
  // Tells the peer as far as that goes without waiting, then ends both directions.
  void Shutdown();
  int fd() const { return fd_.get(); }

 private:
  TlsSocket(OwnedFd fd, ByteCounters counters) : fd_(std::move(fd)), counters_(counters) {}
  static Result<std::unique_ptr<TlsSocket>> Make(OwnedFd fd, ssl_ctx_st* context,
                                                 ByteCounters counters);
  Result<Outcome> Explain(int result);
  // What OpenSSL calls for the socket's bytes.
  static int BioRead(bio_st* bio, char* out, int bytes);
  static int BioWrite(bio_st* bio, const char* data, int bytes);
  static long BioControl(bio_st* bio, int command, long number, void* data);
  static const void* BioMethod();
  bool SendGathered();

  OwnedFd fd_;
  ByteCounters counters_;
  ssl_st* ssl_ = nullptr;
  std::vector<uint8_t> gathered_;  // records that wait for Push
  size_t pushed_ = 0;              // of them
  bool ended_ = false;
  bool failed_ = false;
  int errno_ = 0;
};

}  // namespace perigee::rdma::tls
