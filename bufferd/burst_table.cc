#include "bufferd/burst_table.h"

#include <cstdlib>

namespace perigee::bufferd {
namespace {

constexpr char kCeilingName[] = "burst_ceiling";
constexpr uint64_t kIdsReserved = 4096;
constexpr uint64_t kIdsSkipped = uint64_t{1} << 32;

}  // namespace

Result<std::unique_ptr<BurstTable>> BurstTable::Create(BurstIndex* index) {
  std::unique_ptr<BurstTable> table(new BurstTable(index));
  PERIGEE_ASSIGN(auto stored, index->GetValue(kCeilingName));
  if (stored) {
    if (stored->size() != 8)
      return Status(Code::kCorrupt, "burst id ceiling in the index makes no sense");
    table->next_ = table->ceiling_ = GetBe64(*stored);
  }
  if (index->damaged()) {
    // An older ceiling than the last may be all that came back; what has ids above it is still
    // named by the namespace.
    table->next_ = table->ceiling_ += kIdsSkipped;
    std::string value;
    AppendBe64(&value, table->ceiling_);
    PERIGEE_TRY(index->PutValue(kCeilingName, value, Durable::kYes));
  }
  table->first_ = table->next_;
  return table;
}

Result<wire::BurstId> BurstTable::NextBurst() {
  // The sync happens once in kIdsReserved ids; those who come meanwhile need its outcome anyway.
  std::lock_guard lock(ids_mu_);
  if (next_ == ceiling_) {
    std::string value;
    AppendBe64(&value, ceiling_ + kIdsReserved);
    PERIGEE_TRY(index_->PutValue(kCeilingName, value, Durable::kYes));
    ceiling_ += kIdsReserved;
  }
  return next_++;
}

FilePtr BurstTable::Make(BurstRecord record) {
  return std::make_shared<BurstFile>(std::move(record), allocated_);
}

void BurstTable::Add(const FilePtr& file) {
  std::lock_guard lock(mu_);
  files_[file->burst] = file;
}

void BurstTable::Remove(const FilePtr& file) {
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    id = file->rec.id;
  }
  std::lock_guard lock(mu_);
  files_.erase(file->burst);
  auto it = current_.find(id);
  if (it != current_.end() && it->second == file) current_.erase(it);
}

FilePtr BurstTable::Find(wire::BurstId burst) const {
  std::lock_guard lock(mu_);
  auto it = files_.find(burst);
  return it == files_.end() ? nullptr : it->second;
}

FilePtr BurstTable::Current(wire::FileId id) const {
  std::lock_guard lock(mu_);
  auto it = current_.find(id);
  return it == current_.end() ? nullptr : it->second;
}

bool BurstTable::IsBeforeCurrent(const FilePtr& file) const {
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    id = file->rec.id;
  }
  FilePtr at = Current(id);
  if (at == file) return false;
  while (at && at != file) {
    FilePtr before;
    {
      std::lock_guard lock(at->mu);
      before = at->predecessor;
    }
    at = std::move(before);
  }
  return at == file;
}

FilePtr BurstTable::SetCurrent(wire::FileId id, const FilePtr& file) {
  std::lock_guard lock(mu_);
  FilePtr& slot = current_[id];
  FilePtr before = std::exchange(slot, file);
  return before == file ? nullptr : before;
}

void BurstTable::Renamed(wire::FileId was, const FilePtr& file) {
  wire::FileId id;
  {
    std::lock_guard lock(file->mu);
    id = file->rec.id;
  }
  std::lock_guard lock(mu_);
  auto it = current_.find(was);
  if (it != current_.end() && it->second == file) current_.erase(it);
  current_[id] = file;
}

std::vector<FilePtr> BurstTable::All() const {
  std::lock_guard lock(mu_);
  std::vector<FilePtr> all;
  all.reserve(files_.size());
  for (const auto& [burst, file] : files_) all.push_back(file);
  return all;
}

size_t BurstTable::size() const {
  std::lock_guard lock(mu_);
  return files_.size();
}

void BurstTable::NotifyProgress() {
  std::lock_guard lock(mu_);
  ++progress_;
  progress_cv_.NotifyAll();
}

void BurstTable::WaitProgress(Nanos timeout) {
  std::unique_lock lock(mu_);
  uint64_t seen = progress_;
  progress_cv_.WaitFor(lock, timeout, [&] { return progress_ != seen; });
}

BurstTable::Gate::Gate(BurstTable& table, wire::FileId id) : table_(table), id_(id) {
  std::unique_lock lock(table_.gate_mu_);
  table_.gate_cv_.Wait(lock, [&] { return !table_.gated_.contains(id_); });
  table_.gated_.insert(id_);
}

BurstTable::Gate::~Gate() {
  std::lock_guard lock(table_.gate_mu_);
  table_.gated_.erase(id_);
  table_.gate_cv_.NotifyAll();
}

}  // namespace perigee::bufferd
