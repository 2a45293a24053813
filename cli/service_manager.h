#pragma once
// What systemd is told of `perigee up` as the main process of a unit of Type=notify (sd_notify(3)):
// when the stack is ready, when it stops, and in one line how it is, which `systemctl status`
// shows. Without NOTIFY_SOCKET in the environment nothing happens. Best effort: a message that
// systemd does not take is logged.

#include <string>

namespace perigee::cli {

enum class ServiceEvent { kStatus, kReady, kStopping };

void TellServiceManager(ServiceEvent event, std::string status);

}  // namespace perigee::cli
