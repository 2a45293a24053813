// Runs every fuzz target over its corpus: fuzz_replay CORPUS_DIR. In the sanitised build this is
// the test that what fuzzing once found stays found; scripts/fuzz looks for more.

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#define X(name) extern "C" int Fuzz_##name(const uint8_t* data, size_t size);
#include "fuzz_targets.def"
#undef X

namespace {

struct Target {
  const char* name;
  int (*run)(const uint8_t* data, size_t size);
};
constexpr Target kTargets[] = {
#define X(name) {#name, Fuzz_##name},
#include "fuzz_targets.def"
#undef X
};

char current[512];  // the input being run; a plain array, so that a signal handler may read it

void NameInput(int signal) {
  (void)!write(STDERR_FILENO, current, std::strlen(current));
  std::signal(signal, SIG_DFL);
}

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: fuzz_replay CORPUS_DIR\n");
    return 2;
  }
  std::signal(SIGABRT, NameInput);
  size_t inputs = 0;
  for (const Target& target : kTargets) {
    const std::filesystem::path dir = std::filesystem::path(argv[1]) / target.name;
    std::vector<std::filesystem::path> files;
    std::error_code missing;
    for (const auto& entry : std::filesystem::directory_iterator(dir, missing))
      files.push_back(entry.path());
    if (files.empty()) {
      std::fprintf(stderr, "fuzz_replay: %s has no corpus\n", dir.c_str());
      return 1;
    }
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
      std::snprintf(current, sizeof current, "fuzz_replay: the input was %s\n", file.c_str());
      // A copy of exactly its size, so that a read beyond it is seen.
      const std::string bytes = ReadAll(file);
      const std::vector<uint8_t> exact(bytes.begin(), bytes.end());
      target.run(exact.data(), exact.size());
    }
    inputs += files.size();
  }
  std::printf("fuzz_replay: %zu inputs for %zu targets\n", inputs, std::size(kTargets));
  return 0;
}
