#include "cli/service_manager.h"

#include <systemd/sd-daemon.h>

#include <algorithm>

#include "base/log.h"

namespace perigee::cli {

void TellServiceManager(ServiceEvent event, std::string status) {
  std::replace(status.begin(), status.end(), '\n', ' ');  // a line ends a field
  std::string message;
  if (event == ServiceEvent::kReady) message = "READY=1\n";
  if (event == ServiceEvent::kStopping) message = "STOPPING=1\n";
  message += "STATUS=" + status;
  int sent = sd_notify(0, message.c_str());
  if (sent < 0)
    log::Warn("service_manager_not_told", {{"error", Status::FromErrno(-sent, "sd_notify")}});
}

}  // namespace perigee::cli
