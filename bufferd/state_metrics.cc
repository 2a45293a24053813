#include "bufferd/state_metrics.h"

#include <map>
#include <string>
#include <utility>

namespace perigee::bufferd {
namespace {

using metrics::Gauge;
using metrics::Registry;
using wire::Durability;

Gauge* Make(Registry* registry, const char* name, const char* help) {
  return registry->GetGauge(std::string("perigee_bufferd_") + name, help);
}

// What would be lost with this node, by the class it has reached.
class RiskMetrics {
 public:
  explicit RiskMetrics(Registry* registry) {
    const std::map<Durability, std::string> words = {{Durability::kUnsynced, "unsynced"},
                                                     {Durability::kLocal, "local"},
                                                     {Durability::kPartner, "partner"}};
    for (const auto& [durability, word] : words) {
      by_class_[durability] = {
          registry->GetGauge("perigee_bufferd_at_risk_files", "Files that only this node holds",
                             {{"class", word}}),
          registry->GetGauge("perigee_bufferd_at_risk_bytes", "Bytes that only this node holds",
                             {{"class", word}})};
    }
  }

  void Set(const std::vector<wire::RiskRow>& rows) {
    std::map<Durability, wire::RiskRow> found;
    for (const wire::RiskRow& row : rows) found[row.durability] = row;
    for (auto& [durability, gauges] : by_class_) {
      gauges.first->Set(static_cast<double>(found[durability].files));
      gauges.second->Set(static_cast<double>(found[durability].bytes));
    }
  }

 private:
  std::map<Durability, std::pair<Gauge*, Gauge*>> by_class_;
};

}  // namespace

void ExposeState(Registry* r, StateSource source) {
  auto* used = Make(r, "used_bytes", "Bytes of burst files");
  auto* budget = Make(r, "budget_bytes", "Bytes of burst files to keep");
  auto* reserve = Make(r, "reserve_bytes", "Bytes of the file system to leave free");
  auto* low = Make(r, "low_space", "1: over the budget or under the reserve, writers are slowed");
  auto* files = Make(r, "files", "Burst files");
  auto* dirty = Make(r, "dirty_files", "Files not in the object tier yet, open ones included");
  auto* oldest =
      Make(r, "oldest_unflushed_seconds", "Age of the oldest content not in the object tier");
  auto* held = Make(r, "flush_held", "1: no copies to the object tier, by `perigee flush --hold`");
  auto* flushing = Make(r, "flushing_files", "Files being copied to the object tier");
  auto* unregistered =
      Make(r, "unregistered_files", "Files made or closed here that objectd was not told of yet");
  auto* connected = Make(r, "objectd_connected", "0: objectd is away");
  auto* handles = Make(r, "open_handles", "Opens of local clients");
  r->OnCollect([=, source = std::move(source), risk = RiskMetrics(r)]() mutable {
    const wire::BufferdStatusReply now = source.status();
    used->Set(static_cast<double>(now.used_bytes));
    budget->Set(static_cast<double>(now.budget_bytes));
    reserve->Set(static_cast<double>(now.reserve_bytes));
    low->Set(source.low_space());
    files->Set(static_cast<double>(now.files));
    dirty->Set(static_cast<double>(now.dirty_files));
    risk.Set(now.at_risk);
    oldest->Set(static_cast<double>(now.oldest_unflushed_s));
    held->Set(now.flush_held);
    flushing->Set(static_cast<double>(now.flushing));
    unregistered->Set(static_cast<double>(now.registered_later));
    connected->Set(source.objectd_connected());
    handles->Set(static_cast<double>(source.open_handles()));
  });
}

}  // namespace perigee::bufferd
