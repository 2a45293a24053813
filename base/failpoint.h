#pragma once
// Failpoints: named places where a test can make the process die, fail or wait.
//
// Every sync, rename, commit and reply on a data path has one before and one after it, declared in
// base/failpoints.def. They exist only where PERIGEE_FAILPOINTS is defined (test builds); elsewhere
// they are nothing.
//   PERIGEE_FAILPOINT(name);              may kill or delay
//   PERIGEE_FAILPOINT_STATUS(name);       may also return an injected kIo from the enclosing
//   function
// Armed by the environment, PERIGEE_FAILPOINTS="name=kill@3,other=error", or by failpoint::Arm in
// unit tests: action[@n] where action is kill (SIGKILL to self), error, delay:MS, and n counts hits
// from 1 (default 1: the first;
// `*` for every). Unknown names are refused at start.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace perigee::failpoint {

enum class Id : uint16_t {
#define PERIGEE_DECLARE_FAILPOINT(name) name,
#include "base/failpoints.def"
#undef PERIGEE_DECLARE_FAILPOINT
  kCount
};

#ifdef PERIGEE_FAILPOINTS
Status Hit(Id id);
Status Arm(std::string_view spec);  // kInvalidArgument names what is unknown
Status ArmFromEnvironment();
void DisarmAll();
uint64_t Hits(Id id);
std::vector<std::string> Names();
#define PERIGEE_FAILPOINT(name) ::perigee::failpoint::Hit(::perigee::failpoint::Id::name).Ignore()
#define PERIGEE_FAILPOINT_STATUS(name) \
  PERIGEE_TRY(::perigee::failpoint::Hit(::perigee::failpoint::Id::name))
#else
inline Status ArmFromEnvironment() { return Status::Ok(); }
#define PERIGEE_FAILPOINT(name) \
  do {                          \
  } while (0)
#define PERIGEE_FAILPOINT_STATUS(name) \
  do {                                 \
  } while (0)
#endif

}  // namespace perigee::failpoint
