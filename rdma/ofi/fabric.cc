#include "rdma/ofi/fabric.h"

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "rdma/ofi/ofi_status.h"
#include "rdma/slab_pool.h"

namespace perigee::rdma::ofi {

namespace {

constexpr uint32_t kApi = FI_VERSION(1, 17);
constexpr uint64_t kCaps = FI_MSG | FI_RMA;
constexpr uint64_t kContexts = FI_CONTEXT | FI_CONTEXT2;
constexpr int kRegistration = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;

// What we could not work with.
std::string WhyNot(const fi_info& info, const std::string& provider) {
  if (provider != info.fabric_attr->prov_name) return "is another provider";
  // Of tcp's two offers the one without shared receives: what comes by those names no connection.
  if (info.ep_attr->rx_ctx_cnt == FI_SHARED_CONTEXT) return "shares receives";
  if ((info.caps & kCaps) != kCaps) return "has no remote memory access";
  if ((info.mode & ~kContexts) != 0) return "wants modes that we do not have";
  if ((info.domain_attr->mr_mode & ~kRegistration) != 0) return "registers memory in other ways";
  if (info.domain_attr->mr_key_size > sizeof(uint64_t)) return "has larger keys";
  if (info.ep_attr->max_msg_size < kPieceBytesMax) return "moves too little at once";
  return "";
}

}  // namespace

void FreeInfo::operator()(fi_info* info) const { fi_freeinfo(info); }

Terms::Terms(const fi_info& info)
    : provider(info.fabric_attr->prov_name),
      domain(info.domain_attr->name != nullptr ? info.domain_attr->name : ""),
      registers_local((info.domain_attr->mr_mode & FI_MR_LOCAL) != 0),
      virtual_addresses((info.domain_attr->mr_mode & FI_MR_VIRT_ADDR) != 0),
      provider_keys((info.domain_attr->mr_mode & FI_MR_PROV_KEY) != 0),
      transmits_max(info.tx_attr->size),
      receives_max(info.rx_attr->size) {}

std::string FabricKey(const fi_info& info) {
  std::string provider = info.fabric_attr->prov_name;
  if (provider == "tcp") return provider;
  return provider + "/" + info.fabric_attr->name + "/" + info.domain_attr->name;
}

Fabric::Fabric(Options options) : options_(std::move(options)) {
  fi_info* all = nullptr;
  // Whether there is one that leads somewhere is asked for each address.
  if (fi_getinfo(kApi, nullptr, nullptr, 0, nullptr, &all) == 0) fi_freeinfo(all);
}

Fabric::~Fabric() {
  for (auto& [key, fabric] : fabrics_) fi_close(&fabric->fid);
}

Result<InfoPtr> Fabric::Ask(const std::string& provider, const rendezvous::SocketAddress& address,
                            Side side) const {
  InfoPtr hints(fi_allocinfo());
  PERIGEE_CHECK(hints != nullptr);
  hints->caps = kCaps;
  hints->mode = kContexts;
  hints->ep_attr->type = FI_EP_MSG;
  hints->domain_attr->mr_mode = kRegistration;
  hints->domain_attr->threading = FI_THREAD_DOMAIN;
  hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
  hints->fabric_attr->prov_name = strdup(provider.c_str());
  hints->addr_format = address.storage.ss_family == AF_INET6 ? FI_SOCKADDR_IN6 : FI_SOCKADDR_IN;
  void* copy = std::malloc(address.length);
  PERIGEE_CHECK(copy != nullptr);
  std::memcpy(copy, address.get(), address.length);
  (side == Side::kListen ? hints->src_addr : hints->dest_addr) = copy;
  (side == Side::kListen ? hints->src_addrlen : hints->dest_addrlen) = address.length;
  fi_info* found = nullptr;
  PERIGEE_TRY(FromFi(fi_getinfo(kApi, nullptr, nullptr, 0, hints.get(), &found), "fi_getinfo"));
  InfoPtr all(found);
  std::string why;
  for (const fi_info* info = all.get(); info != nullptr; info = info->next) {
    std::string not_this = WhyNot(*info, provider);
    if (not_this.empty()) {
      InfoPtr taken(fi_dupinfo(info));
      if (options_.register_as_verbs) taken->domain_attr->mr_mode = kRegistration;
      return taken;
    }
    if (why.find(not_this) == std::string::npos) why += (why.empty() ? "" : ", ") + not_this;
  }
  return Status(Code::kUnavailable, why);
}

Result<InfoPtr> Fabric::Find(const rendezvous::SocketAddress& address, Side side) const {
  std::string why;
  for (const std::string& provider : options_.providers) {
    auto info = Ask(provider, address, side);
    if (info.ok()) return info;
    why += (why.empty() ? "" : "; ") + provider + ": " + info.status().message();
  }
  return Status(Code::kUnavailable,
                "libfabric does not lead to " + address.ToString() + ": " + why);
}

Result<fid_fabric*> Fabric::Open(const fi_info& info) {
  std::string key = FabricKey(info);
  std::lock_guard lock(mu_);
  auto it = fabrics_.find(key);
  if (it != fabrics_.end()) return it->second;
  fid_fabric* fabric = nullptr;
  PERIGEE_TRY(FromFi(fi_fabric(info.fabric_attr, &fabric, nullptr), "fi_fabric"));
  fabrics_.emplace(key, fabric);
  Terms terms(info);
  log::Info("rdma_ofi_terms", {{"provider", terms.provider},
                               {"domain", terms.domain},
                               {"registers_local", terms.registers_local},
                               {"virtual_addresses", terms.virtual_addresses},
                               {"provider_keys", terms.provider_keys},
                               {"iov_limit", info.tx_attr->iov_limit},
                               {"inject_bytes", info.tx_attr->inject_size},
                               {"transmits_max", terms.transmits_max},
                               {"receives_max", terms.receives_max}});
  return fabric;
}

}  // namespace perigee::rdma::ofi
