#include "tests/sim/workload.h"

namespace perigee::sim {
namespace {

constexpr size_t kKeys = 12;
constexpr size_t kCallsARound = 12;
constexpr size_t kUnpackedMax = 48;
// Within which doors agree again: a message that was lost keeps a call to a drive waiting for 30 s.
constexpr Nanos kQuiet = 40 * kSecond;
constexpr Nanos kHealed = 240 * kSecond;  // within which a whole cluster has got over everything

}  // namespace

Workload::Workload(Cluster& cluster, uint64_t seed, Faults faults)
    : cluster_(cluster), random_(seed), faults_(faults) {
  for (size_t i = 0; i < kKeys; i++)
    keys_.push_back(std::make_unique<Key>("d" + std::to_string(i % 2) + "/k" + std::to_string(i)));
}

void Workload::Note(const std::string& who, const std::string& what, const Status& outcome) {
  cluster_.trace.Add(who + ": " + what + ": " +
                     (outcome.ok() ? "ok" : std::string(CodeName(outcome.code()))));
}

void Workload::Deviation(const std::string& text) {
  cluster_.trace.Add("DEVIATION " + text);
  deviations_.push_back(text);
}

bool Workload::Await(const std::string& what, Nanos time, const std::function<bool()>& holds) {
  if (cluster_.Within(time, holds)) return true;
  Deviation(what + ": not within " + std::to_string(time / kSecond) + " s");
  return false;
}

// ---------------------------------------------------------------- users

std::pair<wire::FileId, std::string> Workload::PlaceOf(const Key& key) const {
  const size_t slash = key.path().find('/');
  return {dirs_.at(key.path().substr(0, slash)), key.path().substr(slash + 1)};
}

std::string Workload::NewContent(Random& random) {
  static constexpr uint64_t kMost[] = {300, 15'000, 60'000, 400'000, 1 << 20};
  std::string bytes(1 + random.Below(kMost[random.Below(std::size(kMost))]), '\0');
  random.Fill(bytes.data(), bytes.size());
  return bytes;
}

void Workload::Save(GpuNode& gpu, Key& key, Random& random) {
  const std::string bytes = NewContent(random);
  const std::string what = "save " + key.path() + " " + Words(bytes);
  const uint64_t sync = random.Below(4);
  // A file that was opened for writing and not closed may be what is left: it is empty.
  key.Begin(gpu.name() + " " + what, {"", bytes});
  const auto [dir, name] = PlaceOf(key);
  auto open = gpu.Create(dir, name, std::string(kBucket) + "/" + key.path());
  Note(gpu.name(), what + " open", open.status());
  if (!open.ok()) return;
  Close(gpu, key, what, *open, bytes, sync);
}

void Workload::Close(GpuNode& gpu, Key& key, const std::string& what,
                     const wire::BurstOpenReply& open, const std::string& bytes, uint64_t sync) {
  Status written = gpu.Write(open, 0, bytes);
  Status published = written.ok() ? gpu.Publish(open) : std::move(written);
  Note(gpu.name(), what + " close", published);
  if (published.ok()) {
    key.Acknowledged(bytes);
    ++acknowledged_;
    if (sync <= 1) {
      const bool flushed = sync == 0;
      Status synced =
          gpu.Fsync(open, flushed ? wire::Durability::kObject : wire::Durability::kLocal);
      Note(gpu.name(), what + " fsync", synced);
      if (synced.ok() && !key.doubtful())
        key.Durable(flushed ? Key::At::kObjectTier : Key::At::kNode);
    }
  }
  Status released = gpu.Release(open);
  Note(gpu.name(), what + " release", released);
}

// New files in a row: the node comes to hold the directory.
void Workload::Unpack(GpuNode& gpu, Random& random, std::vector<Key*>* mine) {
  const std::string dir = random.OneIn(2) ? "d0" : "d1";
  for (uint64_t left = 12 + random.Below(12); left > 0 && unpacked_ < kUnpackedMax; --left) {
    const std::string name = "u" + std::to_string(unpacked_++);
    keys_.push_back(std::make_unique<Key>(dir + "/" + name));
    Key& key = *keys_.back();
    mine->push_back(&key);
    std::string bytes(1 + random.Below(300), '\0');
    random.Fill(bytes.data(), bytes.size());
    const std::string what = "unpack " + key.path() + " " + Words(bytes);
    key.Begin(gpu.name() + " " + what, {"", bytes});
    auto open = gpu.CreateIn(dirs_.at(dir), name);
    Note(gpu.name(), what + " open", open.status());
    if (!open.ok()) return;
    Close(gpu, key, what, *open, bytes, random.Below(12));
    Key& earlier = *(*mine)[random.Below(mine->size())];
    if (random.OneIn(6) && !earlier.doubtful() && earlier.content()) Remove(gpu, earlier);
    if (random.OneIn(4)) Peek(random.Below(kDoors), key);
  }
}

void Workload::Remove(GpuNode& gpu, Key& key) {
  key.Begin(gpu.name() + " unlink", {std::nullopt});
  const auto [dir, name] = PlaceOf(key);
  auto removed = gpu.meta().Unlink({.parent = dir, .name = name});
  Note(gpu.name(), "unlink " + key.path(), removed.status());
  if (!removed.ok()) return;
  key.Acknowledged(std::nullopt);
  ++acknowledged_;
}

void Workload::Move(GpuNode& gpu, Key& from, Key& to) {
  const Content content = from.content();
  to.ReplacedBy(from);
  from.Begin(gpu.name() + " rename to " + to.path(), {std::nullopt});
  to.Begin(gpu.name() + " rename from " + from.path(), {content});
  const auto [old_dir, old_name] = PlaceOf(from);
  const auto [dir, name] = PlaceOf(to);
  wire::RenameRequest q{.parent = old_dir,
                        .name = old_name,
                        .new_parent = dir,
                        .new_name = name,
                        .flags = wire::kRenameCareful};
  auto moved = gpu.meta().Rename(q);
  if (moved.code() == Code::kPreconditionFailed) {
    Note(gpu.name(), "sync " + from.path(), gpu.Sync(from.path()));
    q.flags = 0;
    moved = gpu.meta().Rename(q);
  }
  Note(gpu.name(), "rename " + from.path() + " to " + to.path(), moved.status());
  if (!moved.ok()) {
    renames_.push_back({&from, &to, content});
    return;
  }
  from.Acknowledged(std::nullopt);
  to.Acknowledged(content);
  ++acknowledged_;
}

void Workload::Put(Key& key, Random& random) {
  const std::string bytes = NewContent(random);
  const bool upload = random.OneIn(4);
  const std::string what = (upload ? "upload " : "put ") + key.path() + " " + Words(bytes);
  key.Begin(what, {bytes});
  Status put = cluster_.OnNamespace([&](NamespaceProcess& p) {
    return upload ? p.Upload(kBucket, key.path(), bytes) : p.Put(kBucket, key.path(), bytes);
  });
  Note("s3", what, put);
  if (!put.ok()) return;
  key.Acknowledged(bytes);
  key.Durable(Key::At::kObjectTier);
  ++acknowledged_;
}

void Workload::Delete(Key& key) {
  key.Begin("delete", {std::nullopt});
  Status deleted =
      cluster_.OnNamespace([&](NamespaceProcess& p) { return p.Delete(kBucket, key.path()); });
  Note("s3", "delete " + key.path(), deleted);
  if (!deleted.ok()) return;
  key.Acknowledged(std::nullopt);
  key.Durable(Key::At::kObjectTier);
  ++acknowledged_;
}

Result<std::string> Workload::Read(size_t door, const Key& key) {
  if (door < 2) {
    GpuNode& gpu = *cluster_.gpus[door];
    if (++reads_ % 4 == 0) return gpu.Read(std::string(kBucket) + "/" + key.path());
    const auto [dir, name] = PlaceOf(key);
    return gpu.Read(dir, name);
  }
  return cluster_.OnNamespace([&](NamespaceProcess& p) { return p.Get(kBucket, key.path()); });
}

// Anything that was there since the last look may be shown, and nothing else; without faults,
// nothing but what was acknowledged last.
void Workload::Peek(size_t door, Key& key) {
  const std::string who = door < 2 ? cluster_.gpus[door]->name() : "s3";
  const size_t changes = key.changes();
  Result<std::string> bytes = Read(door, key);
  Note(who, "read " + key.path(), bytes.status());
  const bool sure = !faults_.any() && !key.doubtful() && key.changes() == changes;
  const bool absent = !key.content() || key.content() == "";
  if (bytes.code() == Code::kNotFound && sure && !absent)
    Deviation(who + " does not find " + key.path() + ", which had " + key.Expected());
  if (!bytes.ok()) return;
  if (!key.MayShow(*bytes) || (sure && key.content() != *bytes))
    Deviation(who + " read " + Words(*bytes) + " of " + key.path() + ", which had " +
              key.Expected());
}

void Workload::Act(size_t door, std::vector<Key*> keys, uint64_t seed) {
  Random random(seed);
  Event never;
  for (size_t call = 0; call < kCallsARound; call++) {
    never.WaitFor(static_cast<Nanos>(random.Below(kSecond)));
    const uint64_t what = random.Below(10);
    Key& key = *keys[random.Below(keys.size())];
    if (what >= 8) {
      Peek(door, *keys_[random.Below(keys_.size())]);
      continue;
    }
    if (key.doubtful()) continue;
    if (door == 2) {
      // An empty one is not closed yet: for S3 there is nothing to delete.
      if (what == 0 && key.content() && !key.content()->empty())
        Delete(key);
      else
        Put(key, random);
      continue;
    }
    GpuNode& gpu = *cluster_.gpus[door];
    Key& other = *keys[random.Below(keys.size())];
    if (what == 0 && key.content()) {
      Remove(gpu, key);
    } else if (what == 1 && key.content() && &other != &key && !other.doubtful()) {
      Move(gpu, key, other);
    } else if (what == 2) {
      Note(gpu.name(), "flush", gpu.Flush(std::string(kBucket) + "/" + key.path(), false));
    } else if (what == 4 && unpacked_ < kUnpackedMax) {
      Unpack(gpu, random, &keys);
    } else if (what == 3) {
      Note(gpu.name(), "evict", gpu.Evict(std::string(kBucket) + "/" + key.path()));
    } else {
      Save(gpu, key, random);
    }
  }
}

// ---------------------------------------------------------------- rounds

void Workload::SetUp() {
  for (size_t host = 0; host < cluster_.Hosts().size(); host++) {
    Status started = cluster_.Start(host);
    if (!started.ok()) return Deviation(cluster_.Hosts()[host] + ": " + started.ToString());
  }
  Status made = cluster_.OnNamespace([&](NamespaceProcess& p) -> Status {
    return p.ns().CreateBucket({.name = kBucket}).status();
  });
  if (!made.ok()) return Deviation("bucket: " + made.ToString());
  auto bucket = cluster_.gpus[0]->meta().Lookup({.name = kBucket});
  if (!bucket.ok()) return Deviation("bucket: " + bucket.status().ToString());
  for (const char* name : {"d0", "d1"}) {
    auto dir =
        cluster_.gpus[0]->meta().Mkdir({.parent = bucket->record.id, .name = name, .mode = 0755});
    if (!dir.ok()) return Deviation("mkdir: " + dir.status().ToString());
    dirs_[name] = dir->record.id;
  }
  Await("drives online", kHealed, [&] { return cluster_.ns.process()->DrivesOnline() == 7; });
}

void Workload::Round() {
  std::vector<std::vector<Key*>> keys(kDoors);
  for (auto& key : keys_) keys[random_.Below(kDoors)].push_back(key.get());
  for (size_t door = 0; door < kDoors; door++) {
    if (keys[door].empty()) continue;
    ++acting_;
    Status posted =
        cluster_.scheduler->Post([this, door, mine = keys[door], seed = random_.Next()] {
          Act(door, mine, seed);
          --acting_;
        });
    PERIGEE_CHECK(posted.ok());
  }
  while (acting_ > 0) {
    cluster_.scheduler->RunFor(static_cast<Nanos>(random_.Below(2 * kSecond)));
    if (acting_ > 0) Befall();
  }
  Mend();
}

void Workload::Befall() {
  const std::vector<std::string> hosts = cluster_.Hosts();
  const size_t host = random_.Below(hosts.size());
  switch (random_.Below(8)) {
    case 0:
    case 1:
      if (faults_.messages) Disturb();
      break;
    case 2:
      if (faults_.partitions) {
        const size_t other = (host + 1 + random_.Below(hosts.size() - 1)) % hosts.size();
        cluster_.trace.Add("partition of " + hosts[host] + " and " + hosts[other]);
        cluster_.network->Partition(hosts[host], hosts[other]);
      }
      break;
    case 3:
      cluster_.trace.Add("partitions healed");
      cluster_.network->HealAll();
      break;
    case 4:
    case 5:
      if (!cluster_.Up(host) || !(faults_.kills || faults_.power)) break;
      if (faults_.power && (!faults_.kills || random_.OneIn(2))) {
        cluster_.trace.Add("power cut of " + hosts[host]);
        cluster_.CutPower(host);
        PowerWasCut(host);
      } else {
        cluster_.trace.Add("kill of " + hosts[host]);
        cluster_.Kill(host);
      }
      break;
    default:
      for (size_t down = 0; down < hosts.size(); down++)
        if (!cluster_.Up(down)) Note(hosts[down], "start", cluster_.Start(down));
  }
}

void Workload::Disturb() {
  rdma::SimFaults f;
  f.delay_max = static_cast<Nanos>(200 * kMicrosecond + random_.Below(200 * kMillisecond));
  f.lose_per_million = static_cast<uint32_t>(random_.Below(20'000));
  f.duplicate_per_million = static_cast<uint32_t>(random_.Below(50'000));
  f.reset_per_million = static_cast<uint32_t>(random_.Below(5'000));
  cluster_.trace.Add("messages are disturbed");
  cluster_.network->SetFaults(f);
}

// The drives of storage nodes hold nothing that is not durable.
void Workload::PowerWasCut(size_t host) {
  if (host == 1 || host == 2) return;
  power_cut_ = true;
  for (auto& key : keys_) key->PowerCut();
}

void Workload::Mend() {
  cluster_.trace.Add("all is mended");
  cluster_.network->HealAll();
  cluster_.network->SetFaults({});
  const std::vector<std::string> hosts = cluster_.Hosts();
  for (size_t host = 0; host < hosts.size(); host++) {
    Status last;
    const bool started = cluster_.Within(kHealed, [&] {
      if (cluster_.Up(host)) return true;
      last = cluster_.Start(host);
      return last.ok();
    });
    if (!started) Deviation(hosts[host] + " does not start: " + last.ToString());
  }
  const rdma::SimCounts counts = cluster_.network->counts();
  cluster_.trace.Add(std::to_string(counts.messages) + " messages, " + std::to_string(counts.lost) +
                     " lost");
  cluster_.scheduler->RunFor(kQuiet);
}

// ---------------------------------------------------------------- looks

Result<Content> Workload::Settled(size_t door, const Key& key) {
  Status last;
  Content content;
  const bool told = cluster_.Within(kHealed, [&] {
    Result<std::string> bytes = Read(door, key);
    last = bytes.status();
    if (bytes.ok()) content = std::move(*bytes);
    // kStale: a content that fell back while it was looked for; the next look finds what it is now.
    return last.ok() || last.Is(Code::kNotFound);
  });
  if (!told) return last;
  if (!last.ok()) return Content();
  return content;
}

void Workload::Look() {
  for (auto& key : keys_) {
    std::vector<Content> seen;
    for (size_t door = 0; door < kDoors; door++) {
      const std::string who = door < 2 ? cluster_.gpus[door]->name() : "s3";
      Result<Content> content = Settled(door, *key);
      if (!content.ok()) {
        Deviation(who + " cannot read " + key->path() + ": " + content.status().ToString() +
                  "; expected " + key->Expected());
        return;
      }
      cluster_.trace.Add("look " + who + " " + key->path() + ": " + Words(*content));
      seen.push_back(std::move(*content));
    }
    // A file that nobody has closed yet is empty on the mount, and not there for S3.
    if (seen[0] == "" && !seen[2]) seen[2] = "";
    if (seen[0] != seen[1] || seen[0] != seen[2])
      Deviation(key->path() + " is " + Words(seen[0]) + " on gpu1, " + Words(seen[1]) +
                " on gpu2, " + Words(seen[2]) + " at S3; expected " + key->Expected());
    for (const Content& content : seen) {
      if (key->Allows(content)) continue;
      Deviation(key->path() + " is " + Words(content) + "; expected " + key->Expected());
      break;
    }
    key->Settled(seen[0]);
  }
  for (const Rename& rename : renames_) {
    if (power_cut_ || rename.from->content() == rename.content ||
        rename.to->content() == rename.content)
      continue;
    Deviation("a rename from " + rename.from->path() + " to " + rename.to->path() + " lost " +
              Words(rename.content));
  }
  renames_.clear();
  power_cut_ = false;
  CheckListings();
}

void Workload::CheckListings() {
  std::set<std::string> expected;
  for (auto& key : keys_)
    if (key->content()) expected.insert(key->path());
  auto compare = [&](const std::string& who, const std::set<std::string>& listed) {
    for (const std::string& path : expected)
      if (!listed.contains(path)) Deviation(who + " does not list " + path);
    for (const std::string& path : listed)
      if (!expected.contains(path)) Deviation(who + " lists " + path + ", which nobody made");
  };
  for (auto& gpu : cluster_.gpus) {
    std::set<std::string> listed;
    for (const auto& [name, id] : dirs_) {
      auto page = gpu->meta().ReadDir({.dir = id});
      if (!page.ok()) {
        Deviation(gpu->name() + " cannot list: " + page.status().ToString());
        return;
      }
      for (const wire::DirItem& item : page->items) listed.insert(name + "/" + item.name);
    }
    compare(gpu->name(), listed);
  }
  std::set<std::string> listed;
  auto page =
      cluster_.OnNamespace([&](NamespaceProcess& p) { return p.ns().ListObjects(kBucket, {}); });
  if (!page.ok()) return Deviation("S3 cannot list: " + page.status().ToString());
  for (const auto& [key, record] : page->objects)
    if (!key.ends_with('/')) listed.insert(key);
  // Files that were never closed are not objects.
  for (auto& key : keys_)
    if (key->content() == "") listed.insert(key->path());
  compare("S3", listed);
}

void Workload::Settle() {
  for (auto& gpu : cluster_.gpus) {
    Status last;
    if (!cluster_.Within(kHealed, [&] {
          last = gpu->Flush("", /*wait=*/true);
          Note(gpu->name(), "flush all", last);
          return last.ok();
        }))
      Deviation(gpu->name() + " cannot flush: " + last.ToString());
    Await(gpu->name() + " has told the namespace of everything", kHealed, [&] {
      wire::BufferdStatusReply status;
      if (gpu->up()) gpu->process()->engine().FillStatus(&status);
      return gpu->up() && status.registered_later == 0;
    });
  }
  // Leases run out, what was given up is collected, what is missing is repaired.
  cluster_.scheduler->RunFor(3 * NamespaceProcess::kLease + 2 * NamespaceProcess::kGrace);
  Await("drives online", kHealed, [&] { return cluster_.ns.process()->DrivesOnline() == 7; });
  for (auto check = wire::kFsckFirst; check <= wire::kFsckLast;
       check = static_cast<wire::FsckCheck>(static_cast<int>(check) + 1)) {
    std::string found;
    auto clean = [&] {
      auto findings = cluster_.OnNamespace([&](NamespaceProcess& p) { return p.Fsck(check); });
      found = findings.ok() ? "" : findings.status().ToString();
      if (findings.ok())
        for (const auto& finding : *findings)
          found += " " + std::string(NameOf(finding.kind)) + " (" + finding.what + ")";
      return found.empty();
    };
    if (!cluster_.Within(kHealed, clean))
      Deviation("fsck of " + std::string(NameOf(check)) + ":" + found);
  }
  for (auto& gpu : cluster_.gpus) Note(gpu->name(), "evict all", gpu->Evict(""));
  Look();
}

}  // namespace perigee::sim
