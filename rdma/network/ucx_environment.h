#pragma once
// UCX acts when it is loaded, before main: it patches munmap and its like in libc, for caches of
// registered memory, and takes over the handlers of crashes; so does libinfinipath, which libfabric
// loads, and writes files where the process runs. The environment tells them not to.

namespace perigee::rdma {

// What it is told, where the environment does not say otherwise.
inline constexpr const char* kUcxEnvironment[][2] = {{"UCX_MEM_EVENTS", "no"},
                                                     {"UCX_HANDLE_ERRORS", "none"},
                                                     {"IPATH_NO_BACKTRACE", "1"}};

// First thing in the main of a program that links UCX: where that is not in the environment yet,
// starts the program anew with it, same process. Returns when it is there, or when the program
// cannot be started anew; UCX does as it likes then.
void StartWithoutUcxHooks(char** argv);

}  // namespace perigee::rdma
