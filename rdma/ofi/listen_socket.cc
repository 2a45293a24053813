#include "rdma/ofi/listen_socket.h"

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

#include "base/log.h"
#include "rdma/ofi/device.h"
#include "rdma/ofi/ofi_status.h"

namespace perigee::rdma::ofi {

namespace {

// 1.17's tcp reads connection requests from sockets that block: a stranger who sends half of one
// would hold up the loop. Accepted sockets inherit the limit of the listening one, which libfabric
// does not show; an honest request is one segment.
void LimitStrangers(const rendezvous::SocketAddress& listening) {
  const timeval limit{0, 10'000};
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", none)) {
    int fd = std::atoi(entry.path().filename().c_str());
    int accepts = 0;
    socklen_t bytes = sizeof accepts;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &bytes) != 0 || accepts == 0) continue;
    rendezvous::SocketAddress at;
    at.length = sizeof at.storage;
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&at.storage), &at.length) != 0) continue;
    if (at.ToString() != listening.ToString()) continue;
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
  while (pep_ && Progress()) {  // nobody was told of these
  }
  // The queue of its own ends with it. 1.17's tcp keeps peers that have not finished their request
  // in the queue, with a pointer to the passive endpoint, and follows it when they do.
  pep_.reset();
  if (eq_ != nullptr && fi_close(&eq_->fid) != 0) {
    log::Warn("rdma_ofi_teardown", {{"what", "an event queue"}});
  }
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
