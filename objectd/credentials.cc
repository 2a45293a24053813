#include "objectd/credentials.h"

#include <sys/stat.h>

#include <cstdlib>
#include <sstream>

#include "base/bytes.h"
#include "base/random.h"

namespace perigee::objectd {

namespace {
constexpr size_t kAccessBytesMin = 3, kSecretBytesMin = 8;

Status Check(const Credentials& c, const std::string& where) {
  if (c.access_key.size() < kAccessBytesMin || c.secret_key.size() < kSecretBytesMin) {
    return Status(
        Code::kInvalidArgument,
        where +
            ": an access key of at least 3 and a secret key of at least 8 characters are needed");
  }
  return Status::Ok();
}

Result<Credentials> Parse(const std::string& text, const std::string& path) {
  Credentials c;
  std::istringstream in(text);
  std::string line;
  while (std::getline(in, line)) {
    size_t equals = line.find('=');
    if (equals == std::string::npos) continue;
    auto trim = [](std::string s) {
      size_t from = s.find_first_not_of(" \t\r"), to = s.find_last_not_of(" \t\r");
      return from == std::string::npos ? std::string() : s.substr(from, to - from + 1);
    };
    std::string name = trim(line.substr(0, equals)), value = trim(line.substr(equals + 1));
    if (name == "aws_access_key_id") c.access_key = value;
    if (name == "aws_secret_access_key") c.secret_key = value;
  }
  PERIGEE_TRY(Check(c, path));
  return c;
}
}  // namespace

Result<Credentials> LoadCredentials(Disk& disk, const std::string& path) {
  const char* access = std::getenv("PERIGEE_ROOT_ACCESS_KEY");
  const char* secret = std::getenv("PERIGEE_ROOT_SECRET_KEY");
  Credentials c;
  bool from_environment = access && secret;
  if ((access == nullptr) != (secret == nullptr)) {
    return Status(Code::kInvalidArgument,
                  "PERIGEE_ROOT_ACCESS_KEY and PERIGEE_ROOT_SECRET_KEY: set both or none");
  }
  if (from_environment) {
    c = {access, secret};
    PERIGEE_TRY(Check(c, "PERIGEE_ROOT_ACCESS_KEY, PERIGEE_ROOT_SECRET_KEY"));
    if (path.empty()) return c;
  } else {
    if (path.empty())
      return Status(Code::kInvalidArgument,
                    "--credentials-file: a file is needed when the environment has no root key");
    auto text = ReadWholeFile(disk, path, 64 << 10);
    if (text.ok()) return Parse(*text, path);
    if (text.code() != Code::kNotFound) return std::move(text).TakeStatus();
    c = {HexEncode(SecretBytes(10)), HexEncode(SecretBytes(20))};
  }
  // The file says what is in force, for whoever starts clients on this machine.
  mode_t before = umask(0077);
  Status written = WriteFileAtomically(disk, path,
                                       "[default]\naws_access_key_id = " + c.access_key +
                                           "\naws_secret_access_key = " + c.secret_key + "\n");
  umask(before);
  PERIGEE_TRY(written);
  return c;
}

}  // namespace perigee::objectd
