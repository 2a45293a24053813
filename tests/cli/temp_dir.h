#pragma once
// A directory that goes with the test.

#include <stdlib.h>

#include <filesystem>
#include <string>

struct TempDir {
  TempDir() {
    char text[] = "/tmp/perigee-cli-XXXXXX";
    path = mkdtemp(text);
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::string path;
};
