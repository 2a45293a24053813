// perigee stat, ls, cp: objects by name, through the node's bufferd.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/output.h"
#include "client/buffer/burst_session.h"

namespace perigee::cli {

using nlohmann::json;

namespace {

constexpr size_t kCopyPiece = 4 << 20;

Result<wire::Record> LookupPath(client::MetaClient& meta, const std::string& path) {
  wire::LookupRequest q;
  q.path = path;
  PERIGEE_ASSIGN(wire::RecordReply reply, meta.Lookup(q));
  return std::move(reply.record);
}

std::string KindWord(wire::FileKind kind) {
  switch (kind) {
    case wire::FileKind::kFile:
      return "file";
    case wire::FileKind::kDirectory:
      return "directory";
    case wire::FileKind::kSymlink:
      return "symlink";
    default:
      return "special";
  }
}

json StatJson(const std::string& path, const wire::BurstStatReply& s) {
  const wire::Record& r = s.record;
  json j = {{"path", path}, {"id", r.id},   {"kind", KindWord(r.kind)}, {"mode", r.mode},
            {"uid", r.uid}, {"gid", r.gid}, {"nlink", r.nlink}};
  if (r.committed) {
    const auto& v = *r.committed;
    // The burst buffer, where it holds this content, knows whether the commit itself is durable
    // yet.
    bool here = s.state != wire::BurstState::kAbsent && s.generation == v.generation;
    j["tier"] =
        v.size == 0 && v.layout.kind == wire::LayoutKind::kNone ? "inline" : Word(v.layout.kind);
    j["class"] = Word(here ? s.durability : v.durability);
    j["size"] = v.size;
    j["generation"] = v.generation;
    j["etag"] = v.etag;
    j["mtime"] = v.mtime;
    if (v.layout.kind == wire::LayoutKind::kBurst) j["node"] = HexEncode64(v.layout.node);
    if (v.layout.kind == wire::LayoutKind::kBlobs) {
      json extents = json::array();
      for (const auto& e : v.layout.extents) {
        extents.push_back({{"offset", e.offset},
                           {"length", e.length},
                           {"volume", e.volume},
                           {"first", e.first_seq},
                           {"blobs", e.count}});
      }
      j["extents"] = extents;
    }
  }
  j["writer"] = r.writer.has_value();
  j["burst"] = {{"state", Word(s.state)},       {"resident_bytes", s.resident_bytes},
                {"dirty_bytes", s.dirty_bytes}, {"allocated_bytes", s.allocated_bytes},
                {"pinned", s.pinned},           {"readers", s.readers},
                {"writers", s.writers}};
  return j;
}

void PrintStat(const json& j) {
  std::cout << j["path"].get<std::string>() << ": " << j["kind"].get<std::string>() << ", id "
            << j["id"] << "\n";
  if (j.contains("tier")) {
    std::cout << "  tier        " << j["tier"].get<std::string>() << "\n"
              << "  class       " << j["class"].get<std::string>() << "\n"
              << "  size        " << j["size"] << " (" << FormatBytes(j["size"]) << ")\n"
              << "  etag        " << j["etag"].get<std::string>() << ", generation "
              << j["generation"] << "\n"
              << "  modified    " << FormatTime(j["mtime"]) << "\n";
  } else if (j["kind"] == "file") {
    std::cout << "  being written, not published yet\n";
  }
  const json& b = j["burst"];
  if (b["state"] != "absent") {
    std::cout << "  burst copy  " << b["state"].get<std::string>() << ", "
              << FormatBytes(b["resident_bytes"]) << " resident, " << FormatBytes(b["dirty_bytes"])
              << " dirty" << (b["pinned"].get<bool>() ? ", pinned" : "") << "\n";
  }
}

Status CopyIn(client::BurstSession& session, const std::string& from, const std::string& path) {
  int in = open(from.c_str(), O_RDONLY | O_CLOEXEC);
  if (in < 0) return Status::FromErrno(errno, from);
  rdma::OwnedFd source(in);
  struct stat st;
  if (fstat(in, &st) != 0) return Status::FromErrno(errno, from);
  if (!S_ISREG(st.st_mode)) return Status(Code::kInvalidArgument, from + ": not a regular file");
  wire::BurstCreateRequest q;
  q.path = path;
  q.replace = true;
  q.mode = st.st_mode & 0777;
  q.uid = getuid();
  q.gid = getgid();
  q.want_writable_fd = true;
  PERIGEE_ASSIGN(client::OpenedBurst out, session.Create(q));
  Progress progress("copying", static_cast<uint64_t>(st.st_size));
  AlignedBuffer buffer(kCopyPiece);
  uint64_t offset = 0;
  while (true) {
    ssize_t n = pread(in, buffer.data(), buffer.size(), static_cast<off_t>(offset));
    if (n < 0) return Status::FromErrno(errno, from);
    if (n == 0) break;
    if (out.low_space) {
      PERIGEE_TRY(session.Write(out.handle, offset, {buffer.data(), static_cast<size_t>(n)}));
    } else {
      for (ssize_t done = 0; done < n;) {
        ssize_t w = pwrite(out.fd.get(), buffer.data() + done, static_cast<size_t>(n - done),
                           static_cast<off_t>(offset) + done);
        if (w < 0) return Status::FromErrno(errno, "write " + path);
        done += w;
      }
    }
    offset += static_cast<uint64_t>(n);
    progress.Set(offset);
  }
  out.fd.Reset(-1);
  PERIGEE_TRY(session.Publish(out.handle).status());
  return session.Release(out.handle);
}

Status CopyOut(client::BurstSession& session, const std::string& path, const std::string& to) {
  wire::BurstOpenRequest q;
  q.path = path;
  PERIGEE_ASSIGN(client::OpenedBurst in, session.Open(q));
  std::string temp = to + ".perigee-part";
  rdma::OwnedFd target(open(temp.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (target.get() < 0) return Status::FromErrno(errno, temp);
  Progress progress("copying", in.size);
  AlignedBuffer buffer(kCopyPiece);
  for (uint64_t offset = 0; offset < in.size;) {
    size_t want = std::min<uint64_t>(kCopyPiece, in.size - offset);
    if (in.kind == wire::OpenKind::kCached) PERIGEE_TRY(session.Ensure(in.handle, offset, want));
    ssize_t n = pread(in.fd.get(), buffer.data(), want, static_cast<off_t>(offset));
    if (n < 0) return Status::FromErrno(errno, "read " + path);
    if (n == 0) return Status(Code::kStale, path + " became shorter while it was read");
    for (ssize_t done = 0; done < n;) {
      ssize_t w = write(target.get(), buffer.data() + done, static_cast<size_t>(n - done));
      if (w < 0) return Status::FromErrno(errno, temp);
      done += w;
    }
    offset += static_cast<uint64_t>(n);
    progress.Set(offset);
  }
  PERIGEE_TRY(session.Release(in.handle));
  if (fsync(target.get()) != 0) return Status::FromErrno(errno, temp);
  if (rename(temp.c_str(), to.c_str()) != 0) return Status::FromErrno(errno, to);
  return Status::Ok();
}

}  // namespace

int RunStat(int argc, char** argv) {
  Verb v("stat",
         "Shows which tier holds an object, how safe it is (unsynced, local, partner, object), and "
         "its burst copy.");
  std::vector<std::string> targets;
  v.options.AddPositional(&targets, "OBJECT", 1, 0);
  v.options.SetExamples(
      "  perigee stat data/run7/step-100.pt\n  perigee stat /mnt/perigee/data/run7/step-100.pt "
      "--json\n");
  if (!v.Start(argc, argv)) return v.exit_code;
  auto session = client::BurstSession::Over(v.connections->bufferd());
  json all = json::array();
  int code = kExitDone;
  for (const auto& t : targets) {
    wire::BurstTarget target;
    target.path = ObjectPath(v.state, t);
    auto reply = session->Stat(target);
    if (!reply.ok()) {
      code = v.Fail(reply.status().With(t));
      continue;
    }
    json j = StatJson(target.path, *reply);
    if (!v.json) PrintStat(j);
    all.push_back(std::move(j));
  }
  if (v.json) PrintJson(targets.size() == 1 && all.size() == 1 ? all[0] : all);
  return code;
}

int RunLs(int argc, char** argv) {
  Verb v("ls", "Lists buckets, or a directory.");
  bool recursive = false;
  std::vector<std::string> targets;
  v.options.AddFlag("recursive", &recursive, "directories below as well");
  v.options.AddPositional(&targets, "PATH", 0, 1);
  v.options.SetExamples("  perigee ls\n  perigee ls data/run7\n  perigee ls --recursive data\n");
  if (!v.Start(argc, argv)) return v.exit_code;
  auto session = client::BurstSession::Over(v.connections->bufferd());
  std::string path = targets.empty() ? "" : ObjectPath(v.state, targets[0]);
  while (path.ends_with('/')) path.pop_back();
  wire::Record root;
  root.id = wire::kRootId;
  root.kind = wire::FileKind::kDirectory;
  if (!path.empty()) {
    auto found = LookupPath(session->meta(), path);
    if (!found.ok()) return v.Fail(found.status().With(path));
    root = *found;
  }
  json all = json::array();
  std::vector<std::vector<std::string>> rows = {{"size", "tier", "class", "modified", "name"}};
  auto add = [&](const std::string& name, const wire::Record& r) {
    bool dir = r.kind == wire::FileKind::kDirectory;
    std::string tier = r.committed ? Word(r.committed->layout.kind) : dir ? "" : "writing";
    std::string durability = r.committed ? Word(r.committed->durability) : "";
    all.push_back({{"name", name},
                   {"kind", KindWord(r.kind)},
                   {"size", r.committed ? r.committed->size : 0},
                   {"tier", tier},
                   {"class", durability},
                   {"mtime", r.mtime}});
    rows.push_back({dir ? "" : FormatBytes(r.committed ? r.committed->size : 0), tier, durability,
                    FormatTime(r.mtime), name + (dir ? "/" : "")});
  };
  if (root.kind != wire::FileKind::kDirectory) {
    add(path, root);
  } else {
    std::vector<std::pair<wire::FileId, std::string>> left = {{root.id, ""}};
    while (!left.empty()) {
      auto [id, prefix] = left.back();
      left.pop_back();
      wire::ReadDirRequest q;
      q.dir = id;
      while (true) {
        auto page = session->meta().ReadDir(q);
        if (!page.ok()) return v.Fail(page.status().With(path));
        for (const auto& item : page->items) {
          add(prefix + item.name, item.record);
          if (recursive && item.record.kind == wire::FileKind::kDirectory)
            left.push_back({item.record.id, prefix + item.name + "/"});
        }
        if (page->end || page->items.empty()) break;
        q.after = page->items.back().key;
      }
    }
  }
  if (v.json)
    PrintJson(all);
  else
    PrintTable(rows);
  return kExitDone;
}

int RunCp(int argc, char** argv) {
  Verb v("cp",
         "Copies a file into the namespace or out of it. The namespace's side is "
         "perigee://BUCKET/KEY.");
  std::vector<std::string> words;
  v.options.AddPositional(&words, "FROM TO", 2, 2);
  v.options.SetExamples(
      "  perigee cp model.pt perigee://data/model.pt\n  perigee cp perigee://data/model.pt .\n");
  if (!v.Start(argc, argv)) return v.exit_code;
  bool in = words[1].starts_with("perigee://"), out = words[0].starts_with("perigee://");
  if (in == out)
    return v.Fail(Status(Code::kInvalidArgument,
                         "one of FROM and TO is perigee://BUCKET/KEY, the other a local file"));
  auto session = client::BurstSession::Over(v.connections->bufferd());
  std::string object = ObjectPath(v.state, in ? words[1] : words[0]);
  std::string local = in ? words[0] : words[1];
  namespace fs = std::filesystem;
  if (in && (object.ends_with('/') || object.find('/') == std::string::npos)) {
    object += (object.ends_with('/') ? "" : "/") + fs::path(local).filename().string();
  }
  if (out && fs::is_directory(local))
    local = (fs::path(local) / fs::path(object).filename()).string();
  Status done = in ? CopyIn(*session, local, object) : CopyOut(*session, object, local);
  if (!done.ok()) return v.Fail(done);
  if (v.json)
    PrintJson({{"from", words[0]}, {"to", in ? "perigee://" + object : local}});
  else
    std::cout << words[0] << " -> " << (in ? "perigee://" + object : local) << "\n";
  return kExitDone;
}

}  // namespace perigee::cli
