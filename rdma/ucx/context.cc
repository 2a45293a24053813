#include "rdma/ucx/context.h"

#include <sys/statvfs.h>
#include <ucp/api/ucp.h>
#include <ucs/debug/debug.h>

#include <csignal>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "rdma/ucx/ucx_status.h"

namespace perigee::rdma::ucx {

namespace {

constexpr uint64_t kShmBytesMin = uint64_t{128} << 20;  // receive queues and buffers of a few peers

// UCX's queues in shared memory are files of /dev/shm: where that is full a write to them is a
// SIGBUS. A container often has 64 MB.
std::string WhyNoSharedMemory(const ContextOptions& options) {
  if (!options.shared_memory) return "switched off";
  struct statvfs st {};
  if (statvfs("/dev/shm", &st) != 0) return "no /dev/shm";
  uint64_t free = uint64_t{st.f_bavail} * st.f_frsize;
  if (free >= kShmBytesMin) return "";
  return "/dev/shm has " + std::to_string(free >> 20) + " MiB free, wanted " +
         std::to_string(kShmBytesMin >> 20);
}

// Loading libucs installs handlers for crashes, unless its environment says not to. They are the
// program's (or a sanitizer's) business.
void GiveBackSignals() {
  const char* told = std::getenv("UCX_HANDLE_ERRORS");
  if (told != nullptr && std::string_view(told) == "none") return;
  static std::once_flag once;
  std::call_once(once, [] {
    for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) ucs_debug_disable_signal(signal);
  });
}

}  // namespace

Result<std::shared_ptr<Context>> Context::Create(const ContextOptions& options) {
  GiveBackSignals();
  std::shared_ptr<Context> out(new Context());
  out->no_shared_memory_ = WhyNoSharedMemory(options);
  bool shm = out->no_shared_memory_.empty();
  std::vector<std::pair<const char*, std::string>> settings = {
      {"NET_DEVICES", options.devices},
      {"TLS", shm ? "all" : "^sm"},
      {"HANDLE_ERRORS", "none"},
      // What UCX reports comes back as a status, and whoever acts on it logs it.
      {"LOG_LEVEL", "fatal"},
      {"ASYNC_MAX_EVENTS", "16384"},
      // No hooks in the program's malloc and mmap.
      {"MEMTYPE_CACHE", "n"},
      // A restarted daemon binds its port while old connections are in TIME_WAIT.
      {"CM_REUSEADDR", "y"},
  };
  // Only with it are shared memory's lanes used for endpoints that report a dead peer.
  if (shm) settings.emplace_back("MM_ERROR_HANDLING", "y");

  ucp_config_t* config = nullptr;
  PERIGEE_TRY(FromUcs(ucp_config_read(nullptr, nullptr, &config), "ucp_config_read"));
  Status st;
  for (const auto& [key, value] : settings) {
    if (!st.ok()) break;
    st = FromUcs(ucp_config_modify(config, key, value.c_str()), std::string("ucx setting ") + key);
  }
  if (st.ok()) {
    ucp_params_t params{};
    params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED;
    params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
    params.mt_workers_shared = 1;
    st = FromUcs(ucp_init(&params, config, &out->context_), "ucp_init on " + options.devices);
  }
  ucp_config_release(config);
  if (!st.ok()) return st;
  return out;
}

Context::~Context() {
  if (context_ != nullptr) ucp_cleanup(context_);
}

}  // namespace perigee::rdma::ucx
