#include "rdma/ofi/listen_socket.h"

#include <fcntl.h>
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "base/log.h"
#include "rdma/ofi/device.h"
#include "rdma/ofi/ofi_status.h"

namespace perigee::rdma::ofi {

namespace {

enum class Side { kListening, kUnfinished };

// tcp's own sockets at `address`, which libfabric does not show: the one that listens, or those
// that it accepted and has not made endpoints of. Only these block.
std::vector<int> SocketsAt(const rendezvous::SocketAddress& address, Side side) {
  std::vector<int> out;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", none)) {
    int fd = std::atoi(entry.path().filename().c_str());
    int listens = 0;
    socklen_t bytes = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) != 0) continue;
    bool blocks = (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
    if (side == Side::kListening ? listens == 0 : listens != 0 || !blocks) continue;
    rendezvous::SocketAddress at;
    at.length = sizeof at.storage;
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&at.storage), &at.length) != 0) continue;
    if (at.storage.ss_family == address.storage.ss_family && at.ToString() == address.ToString()) {
      out.push_back(fd);
    }
  }
  return out;
}

// 1.17's tcp reads connection requests from sockets that block: a stranger who sends half of one
// would hold up the loop. Accepted sockets inherit the limit of the listening one; an honest
// request is one segment.
void LimitStrangers(const rendezvous::SocketAddress& listening) {
  const timeval limit{0, 10'000};
  for (int fd : SocketsAt(listening, Side::kListening)) {
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
}

}  // namespace

OfiConnectionRequest::~OfiConnectionRequest() {
  if (pep_) fi_reject(pep_.get(), info_->handle, nullptr, 0);
}

Result<std::unique_ptr<OfiListenSocket>> OfiListenSocket::Create(
    Fabric* fabric, const rendezvous::SocketAddress& address, OnRequest on_request,
    std::function<void(OfiListenSocket*)> ended) {
  PERIGEE_ASSIGN(InfoPtr info, fabric->Find(address, Fabric::Side::kListen));
  std::unique_ptr<OfiListenSocket> out(new OfiListenSocket());
  PERIGEE_ASSIGN(out->fabric_, fabric->Open(*info));
  PERIGEE_ASSIGN(out->eq_, OpenEventQueue(out->fabric_));
  const std::string where = "listen on " + address.ToString();
  fid_pep* pep = nullptr;
  PERIGEE_TRY(FromFi(fi_passive_ep(out->fabric_, info.get(), &pep, nullptr), where));
  out->pep_ = std::shared_ptr<fid_pep>(pep, [](fid_pep* open) { fi_close(&open->fid); });
  PERIGEE_TRY(FromFi(fi_pep_bind(pep, &out->eq_->fid, 0), "fi_pep_bind"));
  PERIGEE_TRY(FromFi(fi_listen(pep), where));
  size_t length = sizeof out->address_.storage;
  PERIGEE_TRY(FromFi(fi_getname(&pep->fid, &out->address_.storage, &length), "fi_getname"));
  out->address_.length = static_cast<socklen_t>(length);
  LimitStrangers(out->address_);
  out->on_request_ = std::move(on_request);
  out->ended_ = std::move(ended);
  return out;
}

OfiListenSocket::~OfiListenSocket() {
  if (ended_) ended_(this);
  on_request_ = nullptr;
  if (address_.length > 0) EndUnfinished();
  pep_.reset();
  if (eq_ != nullptr && fi_close(&eq_->fid) != 0) {
    log::Warn("rdma_ofi_teardown", {{"what", "an event queue"}});
  }
}

// Of peers that have not finished their request 1.17's tcp lets go only when they end. It has them
// in the queue, with a pointer to the passive endpoint: closing both leaks them, sockets included.
void OfiListenSocket::EndUnfinished() {
  for (int fd : SocketsAt(address_, Side::kListening)) shutdown(fd, SHUT_RDWR);
  std::vector<int> before, unfinished;
  do {
    before = std::exchange(unfinished, SocketsAt(address_, Side::kUnfinished));
    for (int fd : unfinished) shutdown(fd, SHUT_RDWR);
    while (Progress()) {  // nobody was told of these
    }
  } while (unfinished != before);  // what stays is somebody else's
}

bool OfiListenSocket::Progress() {
  // Behind the entry comes what the peer sent with its request; we look at none of it.
  alignas(fi_eq_cm_entry) uint8_t event[sizeof(fi_eq_cm_entry) + 256];
  auto* entry = reinterpret_cast<fi_eq_cm_entry*>(event);
  uint32_t kind = 0;
  ssize_t n = ReadEvent(eq_, &kind, event, sizeof event);
  if (n == -FI_EAVAIL) {
    fi_eq_err_entry error{};
    return fi_eq_readerr(eq_, &error, 0) > 0;
  }
  if (n < static_cast<ssize_t>(sizeof(fi_eq_cm_entry))) return false;
  if (kind != FI_CONNREQ) return true;
  auto request = std::make_shared<OfiConnectionRequest>(pep_, InfoPtr(entry->info));
  if (on_request_) on_request_(std::move(request));
  return true;
}

}  // namespace perigee::rdma::ofi
