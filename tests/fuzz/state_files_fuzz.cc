// Files in a data directory that a start reads: the cluster file, the root key, the stack's state.

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/checksum.h"
#include "cli/stack.h"
#include "objectd/credentials.h"
#include "objectd/volume/cluster_file.h"
#include "tests/fuzz/input.h"

namespace {

using namespace perigee;
using namespace perigee::objectd;

class DataDir {
 public:
  DataDir() {
    path_ = (std::filesystem::temp_directory_path() / "perigee-fuzz-XXXXXX").string();
    PERIGEE_CHECK(mkdtemp(path_.data()) != nullptr);
  }
  ~DataDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

void CheckCluster(std::string_view bytes) {
  auto file = DecodeClusterFile(bytes);
  if (!file.ok()) return;
  auto again = DecodeClusterFile(EncodeClusterFile(*file));
  PERIGEE_CHECK(again.ok() && *again == *file);
}

void CheckClusterMessage(std::string_view message) {
  std::string bytes(24, '\0');
  auto* p = reinterpret_cast<uint8_t*>(bytes.data());
  std::memcpy(p, "PGEECLUS", 8);
  PutLe<uint32_t>(p + 8, 1);
  PutLe<uint32_t>(p + 12, static_cast<uint32_t>(message.size()));
  PutLe<uint32_t>(p + 16, Crc32c(AsBytes(message)));
  CheckCluster(bytes.append(message));
}

void CheckCredentials(std::string_view text) {
  auto disk = MemDisk::Create();
  PERIGEE_CHECK(WriteFileAtomically(*disk, "/credentials", text).ok());
  if (auto loaded = LoadCredentials(*disk, "/credentials"); loaded.ok())
    PERIGEE_CHECK(loaded->access_key.size() + loaded->secret_key.size() <= text.size());
}

void CheckStack(std::string_view text) {
  static const DataDir data;
  cli::StackConfig config{.data = data.path()};
  auto disk = CreatePosixDisk(IoEngine::kPread);
  auto file = disk->Open(config.state_path(), OpenMode::kCreateOrOpen);
  PERIGEE_CHECK(file.ok() && (*file)->Truncate(0).ok() && (*file)->WriteAt(0, AsBytes(text)).ok());
  auto state = cli::LoadState(data.path());
  if (!state.ok()) return;
  state->config.data = data.path();
  PERIGEE_CHECK(cli::SaveState(*state).ok());
  PERIGEE_CHECK(cli::LoadState(data.path()).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const uint8_t kind = input.Number<uint8_t>();
  const std::string_view bytes = input.Rest();
  // Letters, so that inputs of text stay text.
  if (kind == 'c') CheckCredentials(bytes);
  if (kind == 's') CheckStack(bytes);
  if (kind == 'f') CheckCluster(bytes);
  if (kind == 'm') CheckClusterMessage(bytes);
  return 0;
}
