// perigee ca: the authority of a cluster, and the certificates of its nodes (transport `tls`).

#include <sys/stat.h>

#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/certificates.h"
#include "base/disk.h"
#include "cli/commands.h"
#include "cli/output.h"

namespace perigee::cli {

namespace {

constexpr uint64_t kFileBytesMax = 1 << 20;
constexpr int64_t kDay = 24 * 3600;
constexpr int64_t kClockSkew = 300;  // between this machine and the nodes
constexpr uint64_t kDaysMost = 36'500;
constexpr uint64_t kAuthorityDays = 3650, kNodeDays = 365;

struct Files {
  std::string certificate, key;
};

Files Beside(const std::string& directory, const std::string& name) {
  std::string stem = (std::filesystem::path(directory) / name).string();
  return {stem + ".crt", stem + ".key"};
}

class CaVerb {
 public:
  CaVerb()
      : options_("perigee ca",
                 "The authority of a cluster and the certificates of its nodes, for --transport "
                 "tls. init makes the authority (ca.crt, ca.key) in --dir; issue makes NAME.crt "
                 "and NAME.key for a node that is reached by these names and addresses; renew "
                 "issues the given certificates anew, for the same names.") {}

  int Run(int argc, char** argv) {
    options_.AddString("dir", &dir_, "directory of the authority", "DIR");
    options_.AddString("out", &out_, "issue: where the node's files go; otherwise --dir", "DIR");
    options_.AddString("name", &name_, "init: what the authority is called");
    options_.AddCount("days", &days_, 0, kDaysMost,
                      "how long it is valid; 0: init 3650, issue and renew 365");
    options_.AddFlag("force", &force_, "init, issue: replace files that are there");
    options_.AddFlag("new-key", &new_key_, "renew: with a new key");
    options_.AddFlag("json", &json_, "print one JSON value");
    options_.AddPositional(&words_, "init|issue|renew [NAME|FILE.crt]", 1, 0);
    options_.SetExamples(
        "  perigee ca init --dir /root/perigee-ca\n"
        "  perigee ca issue --dir /root/perigee-ca --out /tmp/n7 node7.example.org 10.0.0.7\n"
        "  perigee ca renew --dir /root/perigee-ca /etc/perigee/node7.example.org.crt\n");
    auto parsed = options_.Parse(argc, argv);
    if (!parsed.ok()) return Complain("ca", parsed.status());
    if (*parsed == Options::Outcome::kDone) return kExitDone;
    Status st = Act();
    if (!st.ok()) return Complain("ca", st);
    Print();
    return kExitDone;
  }

 private:
  Status Act() {
    std::string action = words_[0];
    words_.erase(words_.begin());
    if (action != "init" && action != "issue" && action != "renew") {
      return Status(Code::kInvalidArgument, "'" + action + "': init, issue or renew");
    }
    if (dir_.empty()) {
      return Status(Code::kInvalidArgument, "where is the authority? --dir DIR");
    }
    if (action == "init") {
      if (!words_.empty()) return Status(Code::kInvalidArgument, "init takes no names");
      return Init();
    }
    if (words_.empty()) {
      return Status(Code::kInvalidArgument, action == "issue"
                                                ? "for which host names and addresses?"
                                                : "which certificates? FILE.crt...");
    }
    return action == "issue" ? Issue() : Renew();
  }

  Status Init() {
    PERIGEE_TRY(MayWrite(Authority()));
    PERIGEE_ASSIGN(CertifiedKey made, MakeAuthority(name_, For(kAuthorityDays)));
    return Write(Authority(), made);
  }

  Status Issue() {
    Files files = Beside(out_.empty() ? dir_ : out_, words_[0]);
    PERIGEE_TRY(MayWrite(files));
    PERIGEE_ASSIGN(CertifiedKey authority, ReadAuthority());
    PERIGEE_ASSIGN(CertifiedKey made,
                   IssueCertificate(authority, {words_[0], words_, For(kNodeDays), ""}));
    return Write(files, made);
  }

  Status Renew() {
    PERIGEE_ASSIGN(CertifiedKey authority, ReadAuthority());
    for (const std::string& path : words_) {
      if (!path.ends_with(".crt")) {
        return Status(Code::kInvalidArgument, path + ": not the name of a certificate, FILE.crt");
      }
      Files files{path, path.substr(0, path.size() - 4) + ".key"};
      PERIGEE_ASSIGN(std::string before, ReadWholeFile(*disk_, files.certificate, kFileBytesMax));
      auto info = InspectCertificate(before);
      if (!info.ok()) return info.status().With(path);
      if (info->authority) {
        return Status(Code::kInvalidArgument, path + " is an authority: make a new one with init");
      }
      CertificateOrder order{info->subject, info->names, For(kNodeDays), ""};
      if (!new_key_) {
        PERIGEE_ASSIGN(order.key, ReadWholeFile(*disk_, files.key, kFileBytesMax));
      }
      PERIGEE_ASSIGN(CertifiedKey made, IssueCertificate(authority, order));
      if (new_key_) {
        PERIGEE_TRY(Write(files, made));
      } else {
        PERIGEE_TRY(WriteFileAtomically(*disk_, files.certificate, made.certificate));
        PERIGEE_TRY(Note(files, made));
      }
    }
    return Status::Ok();
  }

  Files Authority() const { return Beside(dir_, "ca"); }

  Result<CertifiedKey> ReadAuthority() const {
    Files files = Authority();
    struct stat st {};
    if (stat(files.key.c_str(), &st) == 0 && (st.st_mode & 077) != 0) {
      return Status(Code::kPermissionDenied,
                    files.key + " can be read by others: chmod 600, and think of a new authority");
    }
    CertifiedKey authority;
    PERIGEE_ASSIGN(authority.certificate, ReadWholeFile(*disk_, files.certificate, kFileBytesMax));
    PERIGEE_ASSIGN(authority.key, ReadWholeFile(*disk_, files.key, kFileBytesMax));
    return authority;
  }

  Validity For(uint64_t days) const {
    int64_t now = RealClock::Get().Wall() / kSecond;
    return {now - kClockSkew, now + static_cast<int64_t>(days_ == 0 ? days : days_) * kDay};
  }

  Status MayWrite(const Files& files) const {
    for (const std::string& path : {files.certificate, files.key}) {
      std::error_code ignored;
      if (!force_ && std::filesystem::exists(std::filesystem::symlink_status(path, ignored))) {
        return Status(Code::kAlreadyExists, path + " exists: --force replaces it");
      }
    }
    return Status::Ok();
  }

  // The key first: a daemon that finds a pair that does not match goes on with what it has.
  Status Write(const Files& files, const CertifiedKey& made) {
    PERIGEE_TRY(WriteFileAtomically(*disk_, files.key, made.key));
    PERIGEE_TRY(WriteFileAtomically(*disk_, files.certificate, made.certificate));
    return Note(files, made);
  }

  Status Note(const Files& files, const CertifiedKey& made) {
    PERIGEE_ASSIGN(CertificateInfo info, InspectCertificate(made.certificate));
    made_.push_back({{"certificate", files.certificate},
                     {"key", files.key},
                     {"subject", info.subject},
                     {"names", info.names},
                     {"until", FormatTime(info.validity.until * kSecond)}});
    return Status::Ok();
  }

  void Print() const {
    if (json_) return PrintJson(made_);
    for (const auto& one : made_) {
      std::cout << one["certificate"].get<std::string>() << " until "
                << one["until"].get<std::string>() << '\n';
    }
  }

  Options options_;
  std::unique_ptr<Disk> disk_ = CreatePosixDisk();
  std::string dir_, out_, name_ = "perigee cluster";
  uint64_t days_ = 0;
  bool force_ = false, new_key_ = false, json_ = false;
  std::vector<std::string> words_;
  nlohmann::json made_ = nlohmann::json::array();
};

}  // namespace

int RunCa(int argc, char** argv) { return CaVerb().Run(argc, argv); }

}  // namespace perigee::cli
