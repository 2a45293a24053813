"""The connection to this node's bufferd: one per process, opened when first used, made anew after fork."""

import os
import threading

from . import _native

SCHEME = "perigee://"


def strip(url):
    """``perigee://bucket/key`` or ``bucket/key`` -> ``bucket/key``."""
    url = os.fspath(url)
    if url.startswith(SCHEME):
        url = url[len(SCHEME):]
    return url.strip("/")


class Client:
    """Calls at one bufferd. Thread-safe, fork-safe and picklable: what travels is the socket's path."""

    def __init__(self, socket):
        self.socket = os.fspath(socket)
        self._lock = threading.Lock()
        self._pid = None
        self._session = None

    def __reduce__(self):
        return (Client, (self.socket,))

    def __repr__(self):
        return f"Client({self.socket!r})"

    @property
    def session(self):
        if self._pid != os.getpid():
            # A forked child must not touch its parent's connection; the lock may have been held in the parent too.
            lock = threading.Lock() if self._pid is not None else self._lock
            with lock:
                if self._pid != os.getpid():
                    if self._session is not None:
                        _abandoned.append(self._session)  # never destroyed here: its threads are the parent's
                    self._lock = lock
                    self._session = _native.Session(self.socket)
                    self._pid = os.getpid()
        return self._session

    def stat(self, url):
        return self.session.stat(strip(url))

    def info(self, url):
        return self.session.lookup(strip(url))

    def ls(self, url):
        return self.session.list(strip(url))

    def mkdir(self, url, parents=False, mode=0o777):
        self.session.mkdir(strip(url), parents, mode & ~_umask(), os.getuid(), os.getgid())

    def unlink(self, url):
        self.session.remove(strip(url), False)

    def rmdir(self, url):
        self.session.remove(strip(url), True)

    def rename(self, url, new_url, replace=True):
        """Atomic, of files and of whole directories; costs one metadata transaction."""
        self.session.rename(strip(url), strip(new_url), replace)

    def flush(self, url="", wait=True):
        return self.session.flush(strip(url), wait)

    def evict(self, url=""):
        return self.session.evict(strip(url))

    def warm(self, url, wait=True):
        return self.session.warm(strip(url), wait)

    def pin(self, url, on=True):
        return self.session.pin(strip(url), on)


_abandoned = []
_default = None
_default_lock = threading.Lock()


def _umask():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


def connect(socket=None, data=None):
    """The default client from now on: bufferd's ``socket``, or the stack in directory ``data``."""
    global _default
    client = Client(socket or os.path.join(data, "run", "bufferd.sock"))
    with _default_lock:
        _default = client
    return client


def default_client():
    """The client made by :func:`connect`, or the one the environment names."""
    global _default
    with _default_lock:
        if _default is None:
            if os.environ.get("PERIGEE_SOCKET"):
                _default = Client(os.environ["PERIGEE_SOCKET"])
            elif os.environ.get("PERIGEE_DATA"):
                _default = Client(os.path.join(os.environ["PERIGEE_DATA"], "run", "bufferd.sock"))
            else:
                raise RuntimeError("no Perigee stack: set PERIGEE_DATA or PERIGEE_SOCKET, or call perigee.connect()")
        return _default
