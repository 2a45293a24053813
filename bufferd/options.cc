#include "bufferd/options.h"

#include <unistd.h>

namespace perigee::bufferd {

Result<Options::Outcome> ParseOptions(int argc, const char* const* argv, BufferdOptions* b) {
  char host[256] = "node";
  if (::gethostname(host, sizeof host - 1) == 0 && b->node_name.empty()) b->node_name = host;
  Options o("perigee-bufferd",
            "Keeps burst files on this node's NVMe, hands them to local clients and flushes them "
            "to the object tier.");
  o.AddString("store", &b->store, "directory of the burst files, on the NVMe's file system", "DIR");
  o.AddString("run-dir", &b->run_dir, "directory of the node's sockets", "DIR");
  o.AddString("objectd", &b->objectd,
              "address of objectd, as tls:10.0.0.1:9002; several of the same with commas (default: "
              "its socket in the run directory)",
              "ADDRESS[,...]");
  o.AddString("secret-file", &b->secret_file, "the cluster secret", "FILE");
  o.AddBytes("budget", &b->budget, "bytes of burst files to keep (0: 80 % of the file system)");
  o.AddBytes("reserve", &b->reserve,
             "bytes of the file system to leave free (0: 1 GiB, or 5 % when that is less)");
  o.AddBytes("memory-limit", &b->memory_limit, "memory to stay within; half of it for transfers");
  o.AddString("admin-listen", &b->admin_listen,
              "address of metrics and health; \"none\" for no such door", "ADDR");
  o.AddString("socket-group", &b->socket_group, "group whose members may connect to the socket",
              "GROUP");
  o.AddDuration("objectd-patience", &b->objectd_patience,
                "how long files and names wait for objectd before they go on without it");
  o.AddFlag("hold-directories", &b->hold_directories,
            "make files at local speed in directories that only this node makes files in");
  o.AddDuration("flush-linger", &b->flush_linger,
                "how long a sealed file waits before it is flushed");
  o.AddCount("flush-parallel", &b->flush_parallel, 1, 64, "files flushed at the same time");
  o.AddBytes("scrub-rate", &b->scrub_rate, "bytes a second that a scrub reads");
  o.AddDuration("scrub-interval", &b->scrub_interval,
                "burst files are scrubbed so often (0s: only by `perigee scrub`)");
  o.AddString("node-name", &b->node_name, "name of this node in status", "NAME");
  rdma::AddNetworkOptions(&o, &b->network);
  o.AddString("log-format", &b->log_format, "text or json", "FORMAT");
  o.SetExamples(
      "  perigee-bufferd --store /nvme/perigee --run-dir /run/perigee --objectd "
      "local:/run/perigee/objectd.sock \\\n"
      "                  --secret-file /etc/perigee/secret --budget 800G\n");
  PERIGEE_ASSIGN(auto outcome, o.Parse(argc, argv));
  if (outcome == Options::Outcome::kDone) return outcome;
  if (b->store.empty()) return Status(Code::kInvalidArgument, "--store: a directory is needed");
  if (b->run_dir.empty()) return Status(Code::kInvalidArgument, "--run-dir: a directory is needed");
  if (b->objectd.empty()) b->objectd = "local:" + b->run_dir + "/objectd.sock";
  if (b->log_format != "text" && b->log_format != "json")
    return Status(Code::kInvalidArgument, "--log-format " + b->log_format + ": text or json");
  if (b->memory_limit < (128 << 20))
    return Status(Code::kInvalidArgument, "--memory-limit: at least 128M");
  if (b->scrub_rate == 0)
    return Status(Code::kInvalidArgument, "--scrub-rate 0: at least 1 byte a second");
  if (b->admin_listen == "none") b->admin_listen.clear();
  PERIGEE_TRY(rdma::CheckNetworkOptions(&b->network, rdma::kBufferdPort, !b->secret_file.empty()));
  if (!b->objectd.starts_with("local:") && b->network.listen.empty())
    return Status(Code::kInvalidArgument,
                  "--objectd " + b->objectd +
                      ": other nodes read this one's burst buffer, --listen HOST:PORT");
  return outcome;
}

}  // namespace perigee::bufferd
