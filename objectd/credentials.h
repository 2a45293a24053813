#pragma once
// The S3 root key: from PERIGEE_ROOT_ACCESS_KEY and PERIGEE_ROOT_SECRET_KEY, else from a file, made
// once with random values (0600, in the AWS shared-credentials format). There is no default key.

#include <string>

#include "base/disk.h"
#include "base/status.h"

namespace perigee::objectd {

struct Credentials {
  std::string access_key, secret_key;
};

Result<Credentials> LoadCredentials(Disk& disk, const std::string& path);

}  // namespace perigee::objectd
