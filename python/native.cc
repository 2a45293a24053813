// perigee._native: a BurstSession for Python. Calls release the GIL; errors become OSError with the
// right errno. One Session per process; perigee/client.py makes a new one after fork.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cerrno>

#include "base/log.h"
#include "client/buffer/burst_session.h"

namespace py = pybind11;

namespace perigee::python {
namespace {

int ErrnoOf(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return EINVAL;
    case Code::kNotFound:
      return ENOENT;
    case Code::kAlreadyExists:
      return EEXIST;
    case Code::kPermissionDenied:
    case Code::kUnauthenticated:
      return EACCES;
    case Code::kNotEmpty:
      return ENOTEMPTY;
    case Code::kNotDirectory:
      return ENOTDIR;
    case Code::kIsDirectory:
      return EISDIR;
    case Code::kCrossDevice:
      return EXDEV;
    case Code::kStale:
      return ESTALE;
    case Code::kBusy:
      return EBUSY;
    case Code::kNoSpace:
      return ENOSPC;
    case Code::kTooLarge:
      return ENAMETOOLONG;
    case Code::kUnavailable:
      return ECONNREFUSED;
    case Code::kDeadlineExceeded:
      return ETIMEDOUT;
    case Code::kUnimplemented:
      return EOPNOTSUPP;
    default:
      return EIO;
  }
}

[[noreturn]] void Throw(const Status& status, const std::string& what) {
  // Python's OSError picks FileNotFoundError and its kind from the errno.
  py::object error = py::module_::import("builtins")
                         .attr("OSError")(ErrnoOf(status.code()), status.message(), what);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw py::error_already_set();
}

template <class Fn>
auto Free(const std::string& what, Fn fn) {
  auto result = [&] {
    py::gil_scoped_release release;
    return fn();
  }();
  if (!result.ok()) Throw(result.status(), what);
  return std::move(*result);
}

template <class Fn>
void FreeStatus(const std::string& what, Fn fn) {
  Status status = [&] {
    py::gil_scoped_release release;
    return fn();
  }();
  if (!status.ok()) Throw(status, what);
}

const char* Word(wire::LayoutKind k) {
  switch (k) {
    case wire::LayoutKind::kInline:
      return "inline";
    case wire::LayoutKind::kBlobs:
      return "blobs";
    case wire::LayoutKind::kBurst:
      return "burst";
    case wire::LayoutKind::kCold:
      return "cold";
    default:
      return "inline";
  }
}

const char* Word(wire::Durability d) {
  static const char* kWords[] = {"unsynced", "local", "partner", "object"};
  auto i = static_cast<size_t>(d);
  return i < std::size(kWords) ? kWords[i] : "unknown";
}

py::dict Info(const std::string& name, const wire::Record& r) {
  py::dict d;
  d["name"] = name;
  d["type"] = r.kind == wire::FileKind::kDirectory ? "directory"
              : r.kind == wire::FileKind::kSymlink ? "link"
                                                   : "file";
  d["size"] = r.committed ? r.committed->size : 0;
  d["mtime"] = static_cast<double>(r.mtime) / 1e9;
  d["created"] = static_cast<double>(r.btime) / 1e9;
  d["mode"] = r.mode;
  d["uid"] = r.uid;
  d["gid"] = r.gid;
  d["id"] = r.id;
  if (r.committed) {
    d["ETag"] = r.committed->etag;
    d["generation"] = r.committed->generation;
    d["tier"] = Word(r.committed->layout.kind);
    d["class"] = Word(r.committed->durability);
  }
  return d;
}

class Session {
 public:
  explicit Session(const std::string& socket) {
    session_ = Free(socket, [&] { return client::BurstSession::Connect(socket); });
  }

  // -> (handle, fd, cached, size, low_space). The fd is the caller's.
  py::tuple Open(const std::string& path, bool write, bool truncate) {
    wire::BurstOpenRequest q;
    q.path = path;
    q.access = write ? wire::Access::kWrite : wire::Access::kRead;
    q.truncate = truncate;
    q.want_writable_fd = write;
    return Opened(Free(path, [&] { return session_->Open(q); }));
  }
  py::tuple Create(const std::string& path, bool replace, uint32_t mode, uint32_t uid,
                   uint32_t gid) {
    wire::BurstCreateRequest q;
    q.path = path;
    q.replace = replace;
    q.mode = mode;
    q.uid = uid;
    q.gid = gid;
    q.want_writable_fd = true;
    return Opened(Free(path, [&] { return session_->Create(q); }));
  }
  void Publish(uint64_t handle) {
    Free("publish", [&] { return session_->Publish(handle); });
  }
  void Fsync(uint64_t handle, const std::string& durability) {
    auto wanted = durability == "object"    ? wire::Durability::kObject
                  : durability == "partner" ? wire::Durability::kPartner
                                            : wire::Durability::kLocal;
    Free("fsync", [&] { return session_->Fsync(handle, wanted); });
  }
  void Ensure(uint64_t handle, uint64_t offset, uint64_t length) {
    FreeStatus("read", [&] { return session_->Ensure(handle, offset, length); });
  }
  void Write(uint64_t handle, uint64_t offset, const py::buffer& data) {
    py::buffer_info info = data.request();
    ConstBytes bytes(static_cast<const uint8_t*>(info.ptr),
                     static_cast<size_t>(info.size * info.itemsize));
    FreeStatus("write", [&] { return session_->Write(handle, offset, bytes); });
  }
  void Release(uint64_t handle) {
    FreeStatus("close", [&] { return session_->Release(handle); });
  }

  py::dict Stat(const std::string& path) {
    wire::BurstTarget t;
    t.path = path;
    auto s = Free(path, [&] { return session_->Stat(t); });
    py::dict d = Info(path, s.record);
    if (s.record.committed && s.state != wire::BurstState::kAbsent &&
        s.generation == s.record.committed->generation) {
      d["class"] = Word(s.durability);
    }
    d["resident_bytes"] = s.resident_bytes;
    d["dirty_bytes"] = s.dirty_bytes;
    d["pinned"] = s.pinned;
    return d;
  }
  py::dict Lookup(const std::string& path) {
    wire::LookupRequest q;
    q.path = path;
    auto reply = Free(path, [&]() -> Result<wire::RecordReply> {
      if (path.empty()) return session_->meta().GetAttr({.id = wire::kRootId, .unknown = {}});
      return session_->meta().Lookup(q);
    });
    return Info(path, reply.record);
  }
  // Names below the directory, as Info dictionaries with bare names.
  py::list List(const std::string& path) {
    uint64_t id = wire::kRootId;
    if (!path.empty()) id = Lookup(path)["id"].cast<uint64_t>();
    wire::ReadDirRequest q;
    q.dir = id;
    py::list out;
    while (true) {
      auto page = Free(path, [&] { return session_->meta().ReadDir(q); });
      for (const auto& item : page.items) out.append(Info(item.name, item.record));
      if (page.end || page.items.empty()) return out;
      q.after = page.items.back().key;
    }
  }
  void Mkdir(const std::string& path, bool parents, uint32_t mode, uint32_t uid, uint32_t gid) {
    auto [parent, name] = Split(path);
    wire::MakeRequest q;
    q.mode = mode;
    q.uid = uid;
    q.gid = gid;
    q.parents = parents;
    if (parents) {
      q.parent = wire::kRootId;
      q.name = path;
    } else {
      q.parent = IdOf(parent);
      q.name = name;
    }
    Free(path, [&] { return session_->meta().Mkdir(q); });
  }
  void Remove(const std::string& path, bool directory) {
    auto [parent, name] = Split(path);
    wire::RemoveRequest q;
    q.parent = IdOf(parent);
    q.name = name;
    Free(path, [&] { return directory ? session_->meta().Rmdir(q) : session_->meta().Unlink(q); });
  }
  void Rename(const std::string& from, const std::string& to, bool replace) {
    auto [from_parent, from_name] = Split(from);
    auto [to_parent, to_name] = Split(to);
    wire::RenameRequest q;
    q.parent = IdOf(from_parent);
    q.name = from_name;
    q.new_parent = IdOf(to_parent);
    q.new_name = to_name;
    q.flags = replace ? 0 : wire::kRenameNoReplace;
    Free(from, [&] { return session_->meta().Rename(q); });
  }

  py::dict Flush(const std::string& path, bool wait) {
    return Batch(path, wait, true, [](auto& s, const auto& t) { return s.Flush(t); });
  }
  py::dict Evict(const std::string& path) {
    return Batch(path, false, true, [](auto& s, const auto& t) { return s.Evict(t); });
  }
  py::dict Warm(const std::string& path, bool wait) {
    return Batch(path, wait, true, [](auto& s, const auto& t) { return s.Warm(t); });
  }
  py::dict Pin(const std::string& path, bool on) {
    return Batch(path, false, on, [](auto& s, const auto& t) { return s.Pin(t); });
  }

 private:
  static std::pair<std::string, std::string> Split(const std::string& path) {
    size_t slash = path.rfind('/');
    if (slash == std::string::npos) return {"", path};
    return {path.substr(0, slash), path.substr(slash + 1)};
  }
  uint64_t IdOf(const std::string& path) {
    return path.empty() ? wire::kRootId : Lookup(path)["id"].cast<uint64_t>();
  }
  static py::tuple Opened(client::OpenedBurst o) {
    return py::make_tuple(o.handle, o.fd.Release(), o.kind == wire::OpenKind::kCached, o.size,
                          o.low_space);
  }
  template <class Fn>
  py::dict Batch(const std::string& path, bool wait, bool on, Fn fn) {
    wire::BurstTarget t;
    t.path = path;
    t.wait = wait;
    t.on = on;
    auto r = Free(path, [&] { return fn(*session_, t); });
    py::dict d;
    d["files"] = r.files;
    d["bytes"] = r.bytes;
    d["left"] = r.left;
    d["reasons"] = r.reasons;
    return d;
  }

  std::unique_ptr<client::BurstSession> session_;
};

}  // namespace
}  // namespace perigee::python

PYBIND11_MODULE(_native, m) {
  using perigee::python::Session;
  perigee::log::Configure("python", perigee::log::Level::kWarn, perigee::log::Format::kText);
  py::class_<Session>(m, "Session")
      .def(py::init<const std::string&>())
      .def("open", &Session::Open)
      .def("create", &Session::Create)
      .def("publish", &Session::Publish)
      .def("fsync", &Session::Fsync)
      .def("ensure", &Session::Ensure)
      .def("write", &Session::Write)
      .def("release", &Session::Release)
      .def("stat", &Session::Stat)
      .def("lookup", &Session::Lookup)
      .def("list", &Session::List)
      .def("mkdir", &Session::Mkdir)
      .def("remove", &Session::Remove)
      .def("rename", &Session::Rename)
      .def("flush", &Session::Flush)
      .def("evict", &Session::Evict)
      .def("warm", &Session::Warm)
      .def("pin", &Session::Pin);
}
