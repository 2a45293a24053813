#include "bufferd/burst_index.h"

namespace perigee::bufferd {
namespace {

std::string RecordKey(wire::BurstId burst) {
  std::string k = "r";
  AppendBe64(&k, burst);
  return k;
}
std::string CrcsKey(wire::BurstId burst) {
  std::string k = "c";
  AppendBe64(&k, burst);
  return k;
}

}  // namespace

Status MemIndex::Put(const BurstRecord& record, Durable durable) {
  std::lock_guard lock(mu_);
  now_[RecordKey(record.burst)] = EncodeRecord(record);
  if (durable == Durable::kYes) {
    synced_ = now_;
    ++syncs_;
  }
  return Status::Ok();
}

Status MemIndex::Remove(wire::BurstId burst) {
  std::lock_guard lock(mu_);
  now_.erase(RecordKey(burst));
  now_.erase(CrcsKey(burst));
  return Status::Ok();
}

Status MemIndex::PutCrcs(wire::BurstId burst, const BurstCrcs& crcs) {
  std::lock_guard lock(mu_);
  now_[CrcsKey(burst)] = EncodeCrcs(crcs);
  return Status::Ok();
}

Result<BurstCrcs> MemIndex::GetCrcs(wire::BurstId burst) {
  std::lock_guard lock(mu_);
  auto it = now_.find(CrcsKey(burst));
  if (it == now_.end())
    return Status(Code::kNotFound, "no checksums of burst file " + HexEncode64(burst));
  return DecodeCrcs(it->second);
}

Status MemIndex::PutValue(const std::string& name, const std::string& value, Durable durable) {
  std::lock_guard lock(mu_);
  now_["v" + name] = value;
  if (durable == Durable::kYes) {
    synced_ = now_;
    ++syncs_;
  }
  return Status::Ok();
}

Result<std::optional<std::string>> MemIndex::GetValue(const std::string& name) {
  std::lock_guard lock(mu_);
  auto it = now_.find("v" + name);
  return it == now_.end() ? std::optional<std::string>() : std::optional<std::string>(it->second);
}

Status MemIndex::RemoveValue(const std::string& name) {
  std::lock_guard lock(mu_);
  now_.erase("v" + name);
  return Status::Ok();
}

Status MemIndex::ChangeValues(const std::map<std::string, std::optional<std::string>>& values,
                              Durable durable) {
  std::lock_guard lock(mu_);
  for (const auto& [name, value] : values) {
    if (value)
      now_["v" + name] = *value;
    else
      now_.erase("v" + name);
  }
  if (durable == Durable::kYes) {
    synced_ = now_;
    ++syncs_;
  }
  return Status::Ok();
}

Status MemIndex::ForEachValue(
    const std::string& prefix,
    const std::function<Status(const std::string& name, std::string_view value)>& fn) {
  std::map<std::string, std::string> copy;
  {
    std::lock_guard lock(mu_);
    copy = now_;
  }
  for (const auto& [key, value] : copy) {
    if (key.starts_with("v" + prefix)) PERIGEE_TRY(fn(key.substr(1), value));
  }
  return Status::Ok();
}

Status MemIndex::Sync() {
  std::lock_guard lock(mu_);
  synced_ = now_;
  ++syncs_;
  return Status::Ok();
}

Status MemIndex::ForEach(const std::function<void(BurstRecord)>& fn) {
  std::map<std::string, std::string> copy;
  {
    std::lock_guard lock(mu_);
    copy = now_;
  }
  for (const auto& [key, value] : copy) {
    if (key[0] != 'r') continue;
    PERIGEE_ASSIGN(BurstRecord record, DecodeRecord(value));
    fn(std::move(record));
  }
  return Status::Ok();
}

void MemIndex::Crash() {
  std::lock_guard lock(mu_);
  now_ = synced_;
}

uint64_t MemIndex::syncs() const {
  std::lock_guard lock(mu_);
  return syncs_;
}

bool MemIndex::damaged() const {
  std::lock_guard lock(mu_);
  return damaged_;
}

Status MemIndex::SettleDamage() {
  std::lock_guard lock(mu_);
  damaged_ = false;
  return Status::Ok();
}

void MemIndex::Damage(wire::BurstId burst) {
  std::lock_guard lock(mu_);
  now_.erase(RecordKey(burst));
  synced_.erase(RecordKey(burst));
  damaged_ = true;
}

}  // namespace perigee::bufferd
