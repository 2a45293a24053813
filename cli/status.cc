// perigee status, perigee drive.

#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/node.h"
#include "cli/output.h"
#include "rdma/rpc.h"
#include "rdma/wire/control.h"

namespace perigee::cli {

using nlohmann::json;

namespace {

constexpr rdma::CallOptions kSoon{.timeout = 5 * kSecond};

json ToJson(const std::vector<wire::NamedCount>& counters) {
  json out = json::object();
  for (const auto& c : counters) out[c.name] = c.value;
  return out;
}

json ToJson(const std::vector<wire::PreflightItem>& items) {
  json out = json::array();
  for (const auto& i : items)
    out.push_back({{"name", i.name}, {"state", i.state}, {"detail", i.detail}});
  return out;
}

json ToJson(const wire::NetworkInfo& n) {
  return {{"provider", n.provider.empty() ? "none" : n.provider},
          {"why", n.why},
          {"listen", n.listen},
          {"addresses", n.addresses}};
}

json ToJson(const std::vector<wire::RailInfo>& rails) {
  json out = json::array();
  for (const auto& r : rails)
    out.push_back({{"address", r.address},
                   {"state", r.state},
                   {"problem", r.problem},
                   {"bytes_per_s", r.bytes_per_s},
                   {"latency_ns", r.latency_ns},
                   {"calls_in_flight", r.calls_in_flight},
                   {"bytes", r.bytes},
                   {"cool_downs", r.cool_downs}});
  return out;
}

json ToJson(const std::vector<wire::LinkInfo>& links) {
  json out = json::array();
  for (const auto& l : links)
    out.push_back({{"to", l.to},
                   {"address", l.address},
                   {"connected", l.connected},
                   {"since", l.since},
                   {"problem", l.problem},
                   {"refused", l.refused},
                   {"rails", ToJson(l.rails)}});
  return out;
}

json ToJson(const wire::DriveInfo& d) {
  return {{"id", HexEncode64(d.drive_id)}, {"dir", d.dir},       {"node", HexEncode64(d.node)},
          {"state", Word(d.state)},        {"reason", d.reason}, {"total_bytes", d.total_bytes},
          {"free_bytes", d.free_bytes}};
}

json ToJson(const wire::ObjectdStatusReply& r) {
  json drives = json::array(), volumes = json::array();
  for (const auto& d : r.drives) drives.push_back(ToJson(d));
  for (const auto& v : r.volumes) {
    json ids = json::array();
    for (auto id : v.drives) ids.push_back(HexEncode64(id));
    volumes.push_back({{"volume", v.volume},
                       {"profile", std::to_string(v.k) + "+" + std::to_string(v.m)},
                       {"drives", ids},
                       {"writable", v.writable},
                       {"degraded_blobs", v.degraded_blobs}});
  }
  return {{"s3", r.s3_address},
          {"admin", r.admin_address},
          {"profile", std::to_string(r.k) + "+" + std::to_string(r.m)},
          {"drives", drives},
          {"volumes", volumes},
          {"volumes_to_repair", r.volumes_to_repair},
          {"blobs_to_repair", r.blobs_to_repair},
          {"garbage_blobs", r.garbage_blobs},
          {"repairing", r.repairing},
          {"mirrors", r.mirrors},
          {"drives_share_file_system", r.drives_share_file_system},
          {"unhealthy", r.unhealthy},
          {"storage", NodesJson(r.storage)},
          {"network", ToJson(r.network)},
          {"links", ToJson(r.links)},
          {"preflight", ToJson(r.preflight)},
          {"counters", ToJson(r.counters)}};
}

json ToJson(const wire::BufferdStatusReply& r) {
  json risk = json::object();
  for (const auto& row : r.at_risk)
    risk[Word(row.durability)] = {{"files", row.files}, {"bytes", row.bytes}};
  return {{"node", HexEncode64(r.node)},
          {"store", r.store_dir},
          {"admin", r.admin_address},
          {"budget_bytes", r.budget_bytes},
          {"used_bytes", r.used_bytes},
          {"reserve_bytes", r.reserve_bytes},
          {"files", r.files},
          {"dirty_files", r.dirty_files},
          {"at_risk", risk},
          {"oldest_unflushed_s", r.oldest_unflushed_s},
          {"flush_held", r.flush_held},
          {"flushing", r.flushing},
          {"registered_later", r.registered_later},
          {"transport", r.objectd_transport},
          {"network", ToJson(r.network)},
          {"links", ToJson(r.links)},
          {"preflight", ToJson(r.preflight)},
          {"counters", ToJson(r.counters)},
          {"reported", r.reported}};
}

void PrintPreflight(const std::string& daemon, const std::vector<wire::PreflightItem>& items) {
  for (const auto& i : items) {
    if (i.state != "ok")
      std::cout << "  " << daemon << ": " << i.name << " " << i.state << ": " << i.detail << "\n";
  }
}

void PrintRails(const std::vector<wire::RailInfo>& rails) {
  for (const auto& r : rails) {
    std::cout << "    rail " << r.address << ": " << r.state;
    if (r.bytes_per_s != 0) std::cout << ", " << FormatBytes(r.bytes_per_s) << "/s";
    std::cout << ", " << FormatBytes(r.bytes) << " so far";
    if (r.cool_downs != 0) std::cout << ", cooled down " << r.cool_downs << " times";
    if (!r.problem.empty()) std::cout << ": " << r.problem;
    std::cout << "\n";
  }
}

void PrintNetwork(const wire::NetworkInfo& network, const std::vector<wire::LinkInfo>& links) {
  for (const auto& address : network.addresses)
    std::cout << "  for other machines: " << address << " (" << network.why << ")\n";
  for (const auto& l : links) {
    std::cout << "  to " << l.to << ": " << l.address << (l.connected ? ", connected" : ", away");
    if (l.since != 0) std::cout << ", since " << FormatTime(l.since);
    if (!l.connected && !l.problem.empty()) std::cout << ": " << l.problem;
    std::cout << "\n";
    PrintRails(l.rails);
  }
}

// Other nodes' drives, and what may be lost of all.
void PrintStorage(const wire::NodeListReply& storage) {
  if (storage.nodes.size() > 1)
    PrintNodes(storage);
  else
    PrintSurvives(storage);
}

void PrintObjectd(const wire::ObjectdStatusReply& r) {
  size_t online = 0;
  for (const auto& d : r.drives) online += d.state == wire::DriveState::kOnline;
  const bool has_namespace = r.k != 0;  // else a storage node
  std::cout << "\nobject tier   ";
  if (has_namespace) std::cout << "profile " << r.k << "+" << r.m << ", ";
  std::cout << online << " of " << r.drives.size() << " drives online";
  if (has_namespace) std::cout << "; metadata mirrors: " << r.mirrors;
  std::cout << "\n";
  if (!r.unhealthy.empty()) std::cout << "              NOT SERVING: " << r.unhealthy << "\n";
  if (r.drives_share_file_system) {
    std::cout << "              drives share a file system: fine for trying out, one disk failure "
                 "loses all\n";
  }
  std::vector<std::vector<std::string>> rows = {{"  drive", "state", "free", "of", ""}};
  for (const auto& d : r.drives) {
    rows.push_back({"  " + d.dir, Word(d.state), FormatBytes(d.free_bytes),
                    FormatBytes(d.total_bytes), d.reason});
  }
  PrintTable(rows);
  if (has_namespace) {
    std::cout << "  volumes " << r.volumes.size() << ", to repair " << r.volumes_to_repair << " ("
              << r.blobs_to_repair << " blobs" << (r.repairing ? ", repairing now" : "") << ")\n";
  }
  PrintStorage(r.storage);
  PrintNetwork(r.network, r.links);
}

void PrintBufferd(const wire::BufferdStatusReply& r) {
  std::cout << "\nburst buffer  " << r.store_dir << ": " << FormatBytes(r.used_bytes) << " of "
            << FormatBytes(r.budget_bytes) << ", " << r.files << " files, " << r.dirty_files
            << " not in the object tier yet" << (r.flush_held ? "; FLUSH IS HELD" : "") << "\n";
  std::vector<std::vector<std::string>> rows = {
      {"  at risk if this node died now", "files", "bytes"}};
  for (const auto& row : r.at_risk) {
    rows.push_back(
        {"  class " + Word(row.durability), std::to_string(row.files), FormatBytes(row.bytes)});
  }
  PrintTable(rows);
  if (r.dirty_files != 0) std::cout << "  oldest unflushed: " << r.oldest_unflushed_s << " s\n";
  PrintNetwork(r.network, r.links);
  for (const auto& line : r.reported) std::cout << "  reported: " << line << "\n";
}

}  // namespace

int RunStatus(int argc, char** argv) {
  Verb v("status",
         "Shows daemons, drives, repair, the burst buffer, bytes at risk, transports and the "
         "mount's mode.");
  v.options.SetExamples(
      "  perigee status --data /var/lib/perigee\n  perigee status --json | jq .bufferd.at_risk\n");
  v.for_storage_nodes = true;
  if (!v.Start(argc, argv)) return v.exit_code;
  const StackConfig& config = v.state.config;
  auto supervisor = RunningSupervisor(config.data);
  auto objectd = rdma::Call<wire::ObjectdStatusReply>(
      *v.connections->objectd(), wire::Method::kControlObjectdStatus, wire::Empty{}, {}, kSoon);
  Result<wire::BufferdStatusReply> bufferd = Status(Code::kNotFound, "no burst buffer");
  if (!config.drives_only()) {
    bufferd = rdma::Call<wire::BufferdStatusReply>(
        *v.connections->bufferd(), wire::Method::kControlBufferdStatus, wire::Empty{}, {}, kSoon);
  }
  Result<wire::FuseStatusReply> fuse = Status(Code::kNotFound, "no mount");
  if (!config.mount.empty()) {
    fuse = rdma::Call<wire::FuseStatusReply>(
        *v.connections->fuse(), wire::Method::kControlFuseStatus, wire::Empty{}, {}, kSoon);
  }
  bool serving = objectd.ok() && objectd->unhealthy.empty();
  if (serving && config.drives_only())
    serving = !objectd->links.empty() && objectd->links[0].connected;
  // While bufferd goes on by itself, other doors do not show yet what this one has done.
  const bool burst = bufferd.ok() && !bufferd->links.empty() && bufferd->links[0].connected;
  bool well = supervisor.has_value() && serving && (config.drives_only() || burst) &&
              (config.mount.empty() || fuse.ok());

  if (v.json) {
    json j = json::parse(StateJson(v.state));
    j["running"] = supervisor.has_value();
    j["well"] = well;
    j["objectd"] = objectd.ok() ? ToJson(*objectd) : json{{"error", objectd.status().message()}};
    j["bufferd"] = bufferd.ok() ? ToJson(*bufferd) : json{{"error", bufferd.status().message()}};
    j["fuse"] = fuse.ok() ? json{{"mount", fuse->mount},
                                 {"passthrough", fuse->passthrough},
                                 {"why", fuse->why},
                                 {"counters", ToJson(fuse->counters)}}
                          : json{{"error", fuse.status().message()}};
    PrintJson(j);
    return well ? kExitDone : kExitFailed;
  }

  std::cout << "stack         " << config.data
            << (supervisor ? ", pid " + std::to_string(*supervisor) : ": NOT RUNNING") << "\n";
  if (supervisor) {
    std::vector<std::vector<std::string>> rows = {{"  daemon", "pid", "state", "restarts"}};
    for (const auto& d : v.state.daemons) {
      rows.push_back({"  " + d.name, std::to_string(d.pid), d.state, std::to_string(d.restarts)});
    }
    PrintTable(rows);
    if (config.has_namespace()) std::cout << "S3            " << v.state.endpoint << "\n";
    if (config.drives_only())
      std::cout << "storage node  " << v.state.address << ", of " << config.join << "\n";
  }
  if (!config.mount.empty()) {
    std::cout << "mount         " << config.mount << ": "
              << (fuse.ok() ? fuse->why : fuse.status().message()) << "\n";
  }
  if (objectd.ok())
    PrintObjectd(*objectd);
  else
    std::cout << "objectd       " << objectd.status().message() << "\n";
  if (bufferd.ok())
    PrintBufferd(*bufferd);
  else if (!config.drives_only())
    std::cout << "bufferd       " << bufferd.status().message() << "\n";
  std::cout << "\npreflight\n";
  if (objectd.ok()) PrintPreflight("objectd", objectd->preflight);
  if (bufferd.ok()) PrintPreflight("bufferd", bufferd->preflight);
  std::cout << (well ? "  all doors answer\n" : "  NOT WELL\n") << std::flush;
  return well ? kExitDone : kExitFailed;
}

int RunDrive(int argc, char** argv) {
  Verb v("drive",
         "Lists the drives (drive ls), or formats the directory of a lost one and repairs onto it "
         "(drive replace DIR).");
  std::vector<std::string> words;
  v.options.AddPositional(&words, "ls | replace DIR", 1, 2);
  v.options.SetExamples("  perigee drive ls\n  perigee drive replace /srv/d3\n");
  v.for_storage_nodes = true;
  if (!v.Start(argc, argv)) return v.exit_code;
  if (words[0] == "ls" && words.size() == 1) {
    auto reply = rdma::Call<wire::ObjectdStatusReply>(
        *v.connections->objectd(), wire::Method::kControlObjectdStatus, wire::Empty{}, {}, kSoon);
    if (!reply.ok()) return v.Fail(reply.status());
    if (v.json) {
      PrintJson(ToJson(*reply)["drives"]);
      return kExitDone;
    }
    PrintObjectd(*reply);
    return kExitDone;
  }
  if (words[0] == "replace" && words.size() == 2) {
    if (!v.state.config.has_objectd())
      return v.Fail(Status(Code::kUnavailable,
                           "the drives are at " + v.state.config.objectd + ": run it there"));
    wire::DriveReplaceRequest q;
    q.dir = std::filesystem::absolute(words[1]).lexically_normal().string();
    auto reply =
        rdma::Call<wire::DriveInfo>(*v.connections->objectd(), wire::Method::kControlDriveReplace,
                                    q, {}, {.timeout = 60 * kSecond});
    if (!reply.ok()) return v.Fail(reply.status());
    if (v.json)
      PrintJson(ToJson(*reply));
    else
      std::cout << reply->dir << " is drive " << HexEncode64(reply->drive_id)
                << " now; repair has started (perigee status)\n";
    return kExitDone;
  }
  return v.Fail(Status(Code::kInvalidArgument, "ls, or replace DIR"));
}

}  // namespace perigee::cli
