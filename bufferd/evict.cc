#include "bufferd/evict.h"

#include "tiers/flush/evict_policy.h"

namespace perigee::bufferd {

void Evictor::Wake() {
  if (core_.stopping || armed_.exchange(true)) return;
  if (!core_.work->Post([this] { Run(); }).ok()) armed_ = false;
}

void Evictor::Run() {
  armed_ = false;
  uint64_t bytes = tiers::BytesToEvict(
      budget_->used_bytes(), tiers::WatermarksOf(budget_->budget_bytes()), budget_->ShortBytes());
  if (bytes == 0) return;
  std::vector<tiers::EvictCandidate> candidates;
  bool kept_open = false;
  for (const FilePtr& file : core_.table->All()) {
    std::lock_guard lock(file->mu);
    if (!file->Evictable(nullptr)) continue;
    // Files with readers give nothing back before they are closed.
    if (file->readers == 0)
      candidates.push_back({file->burst, file->allocated(), file->rec.accessed});
    else
      kept_open = true;
  }
  if (kept_open && core_.delegations) core_.delegations->AskBack();
  for (uint64_t burst : tiers::PickEvictions(std::move(candidates), bytes)) {
    if (FilePtr file = core_.table->Find(burst)) {
      std::string why;
      (void)Evict(file, &why);
    }
  }
}

bool Evictor::Evict(const FilePtr& file, std::string* why) {
  uint64_t bytes;
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    id = file->rec.id;
  }
  if (core_.Keeps(id)) {
    *why = "its name is on its way to the namespace";
    return false;
  }
  {
    std::lock_guard lock(file->mu);
    if (!file->Evictable(why)) return false;
    file->gone = true;
    file->rec.state = wire::BurstState::kAbsent;
    bytes = file->allocated();
  }
  core_.Forget(file);
  core_.stats->evicted_files->Add();
  core_.stats->evicted_bytes->Add(static_cast<double>(bytes));
  return true;
}

}  // namespace perigee::bufferd
