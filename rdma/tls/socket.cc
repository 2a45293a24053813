#include "rdma/tls/socket.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "rdma/tls/context.h"

namespace perigee::rdma::tls {

namespace {
constexpr size_t kGatherMax =
    128 << 10;  // each send wakes the receiver, and costs as much as a record
constexpr int kDrainReads = 16;
}  // namespace

// ---------------------------------------------------------------- the socket, for OpenSSL

// Its own socket BIO writes without MSG_NOSIGNAL, and each record by itself.
const void* TlsSocket::BioMethod() {
  static const BIO_METHOD* method = [] {
    BIO_METHOD* m = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "perigee socket");
    BIO_meth_set_read(m, BioRead);
    BIO_meth_set_write(m, BioWrite);
    BIO_meth_set_ctrl(m, BioControl);
    return m;
  }();
  return method;
}

int TlsSocket::BioRead(BIO* bio, char* out, int bytes) {
  auto* self = static_cast<TlsSocket*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  ssize_t n = recv(self->fd_.get(), out, static_cast<size_t>(bytes), MSG_DONTWAIT);
  if (n > 0) {
    if (self->counters_.received != nullptr) {
      self->counters_.received->Add(static_cast<double>(n));
    }
    return static_cast<int>(n);
  }
  if (n == 0) {
    self->ended_ = true;
  } else if (errno == EAGAIN || errno == EINTR) {
    BIO_set_retry_read(bio);
  } else {
    self->errno_ = errno;
  }
  return n == 0 ? 0 : -1;
}

int TlsSocket::BioWrite(BIO* bio, const char* data, int bytes) {
  auto* self = static_cast<TlsSocket*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (self->gathered_.size() >= kGatherMax && !self->SendGathered()) {
    if (self->errno_ == 0) BIO_set_retry_write(bio);
    return -1;
  }
  const auto* record = reinterpret_cast<const uint8_t*>(data);  // chars go one by one
  self->gathered_.insert(self->gathered_.end(), record, record + bytes);
  return bytes;
}

long TlsSocket::BioControl(BIO* bio, int command, long, void*) {
  if (command != BIO_CTRL_FLUSH) return 0;
  auto* self = static_cast<TlsSocket*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (self->SendGathered()) return 1;
  if (self->errno_ == 0) BIO_set_retry_write(bio);
  return -1;
}

// False: the socket takes no more now, or errno_ says what is wrong.
bool TlsSocket::SendGathered() {
  while (pushed_ < gathered_.size()) {
    ssize_t n = send(fd_.get(), gathered_.data() + pushed_, gathered_.size() - pushed_,
                     MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) errno_ = errno;
      return false;
    }
    if (counters_.sent != nullptr) counters_.sent->Add(static_cast<double>(n));
    pushed_ += static_cast<size_t>(n);
  }
  gathered_.clear();
  pushed_ = 0;
  return true;
}

Result<bool> TlsSocket::Push() {
  if (SendGathered()) return true;
  if (errno_ == 0) return false;
  failed_ = true;
  return Status(Code::kUnavailable, Status::FromErrno(errno_, "the connection").message());
}

void TlsSocket::Trim() {
  if (gathered_.empty()) std::vector<uint8_t>().swap(gathered_);
}

// ---------------------------------------------------------------- life

Result<std::unique_ptr<TlsSocket>> TlsSocket::Make(OwnedFd fd, SSL_CTX* context,
                                                   ByteCounters counters) {
  std::unique_ptr<TlsSocket> socket(new TlsSocket(std::move(fd), counters));
  socket->ssl_ = SSL_new(context);
  BIO* bio = BIO_new(static_cast<const BIO_METHOD*>(BioMethod()));
  if (socket->ssl_ == nullptr || bio == nullptr) {
    BIO_free(bio);
    return Status(Code::kInternal, "SSL_new: " + TakeTlsError());
  }
  BIO_set_data(bio, socket.get());
  BIO_set_init(bio, 1);
  SSL_set_bio(socket->ssl_, bio, bio);
  return socket;
}

Result<std::unique_ptr<TlsSocket>> TlsSocket::Client(OwnedFd fd, SSL_CTX* context,
                                                     const std::string& host,
                                                     ByteCounters counters) {
  PERIGEE_ASSIGN(auto socket, Make(std::move(fd), context, counters));
  SSL* ssl = socket->ssl_;
  uint8_t binary[16];
  bool address = inet_pton(AF_INET, host.c_str(), binary) == 1 ||
                 inet_pton(AF_INET6, host.c_str(), binary) == 1;
  bool named = address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str()) == 1
                       : SSL_set1_host(ssl, host.c_str()) == 1;
  if (!named) return Status(Code::kInvalidArgument, "\"" + host + "\" is no host name");
  SSL_set_connect_state(ssl);
  return socket;
}

Result<std::unique_ptr<TlsSocket>> TlsSocket::Server(OwnedFd fd, SSL_CTX* context,
                                                     ByteCounters counters) {
  PERIGEE_ASSIGN(auto socket, Make(std::move(fd), context, counters));
  SSL_set_accept_state(socket->ssl_);
  return socket;
}

TlsSocket::~TlsSocket() { SSL_free(ssl_); }

void TlsSocket::Shutdown() {
  if (!failed_ && SSL_is_init_finished(ssl_) == 1) {
    ERR_clear_error();
    (void)SSL_shutdown(ssl_);
    (void)SendGathered();
    ERR_clear_error();
  }
  // Unread bytes would turn the end into a reset, and the peer might lose the alert that says why.
  char unread[4096];
  for (int i = 0; i < kDrainReads && recv(fd_.get(), unread, sizeof unread, MSG_DONTWAIT) > 0;) ++i;
  (void)shutdown(fd_.get(), SHUT_RDWR);
}

// ---------------------------------------------------------------- bytes

Result<TlsSocket::Outcome> TlsSocket::Explain(int result) {
  int error = SSL_get_error(ssl_, result);
  if (error == SSL_ERROR_WANT_READ && !ended_) return Outcome{0, Want::kRead};
  if (error == SSL_ERROR_WANT_WRITE) return Outcome{0, Want::kWrite};
  failed_ = true;
  if (errno_ != 0) {
    ERR_clear_error();
    return Status(Code::kUnavailable, Status::FromErrno(errno_, "the connection").message());
  }
  long verified = SSL_get_verify_result(ssl_);
  if (verified != X509_V_OK) {
    ERR_clear_error();
    return Status(Code::kUnauthenticated, std::string("the peer's certificate: ") +
                                              X509_verify_cert_error_string(verified));
  }
  // Alerts of the peer are numbered from here on (openssl/sslerr.h).
  unsigned long reason = ERR_GET_REASON(ERR_peek_last_error());
  if (reason >= SSL_AD_REASON_OFFSET) {
    return Status(Code::kUnauthenticated, "the peer refused: " + TakeTlsError());
  }
  if (ended_ || error == SSL_ERROR_ZERO_RETURN) {
    ERR_clear_error();
    return Outcome{0, Want::kEnd};
  }
  return Status(Code::kCorrupt, "TLS: " + TakeTlsError());
}

Result<TlsSocket::Outcome> TlsSocket::Handshake() {
  ERR_clear_error();
  int result = SSL_do_handshake(ssl_);
  if (result == 1) return Outcome{};
  return Explain(result);
}

Result<TlsSocket::Outcome> TlsSocket::Read(MutableBytes out) {
  ERR_clear_error();
  size_t bytes = 0;
  int result = SSL_read_ex(ssl_, out.data(), out.size(), &bytes);
  if (result == 1) return Outcome{bytes, Want::kNothing};
  return Explain(result);
}

Result<TlsSocket::Outcome> TlsSocket::Write(ConstBytes data) {
  ERR_clear_error();
  size_t bytes = 0;
  int result = SSL_write_ex(ssl_, data.data(), data.size(), &bytes);
  if (result == 1) return Outcome{bytes, Want::kNothing};
  return Explain(result);
}

}  // namespace perigee::rdma::tls
