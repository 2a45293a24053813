"""Files by descriptor."""

import io
import os

from .client import _umask, default_client, strip

BUFFER_BYTES = 1 << 20


class PerigeeRaw(io.FileIO):
    """An unbuffered file on a burst file's own descriptor.

    ``close()`` publishes what was written. ``fsync(durability)`` returns when the class is reached: "local" (this node's
    drive) or "object" (erasure coded).
    """

    def __init__(self, client, url, handle, fd, mode, cached, low_space):
        super().__init__(fd, mode, closefd=True)
        self.name = self.url = url
        self._client = client
        self._handle = handle
        self._pid = os.getpid()
        self._cached = cached
        self._slow = low_space

    def readinto(self, buffer):
        if self._cached:
            self._client.session.ensure(self._handle, self.tell(), memoryview(buffer).nbytes)
        return super().readinto(buffer)

    def readall(self):
        if self._cached:
            at = self.tell()
            size = os.fstat(self.fileno()).st_size
            self._client.session.ensure(self._handle, at, max(size - at, 0))
        return super().readall()

    def read(self, size=-1):
        if size is None or size < 0:
            return self.readall()
        if self._cached:
            self._client.session.ensure(self._handle, self.tell(), size)
        return super().read(size)

    def write(self, data):
        if not self._slow:
            return super().write(data)
        view = memoryview(data).cast("B")
        at = self.tell()
        self._client.session.write(self._handle, at, view)
        self.seek(at + view.nbytes)
        return view.nbytes

    def fsync(self, durability="local"):
        self._client.session.fsync(self._handle, durability)

    def close(self):
        if self.closed:
            return
        # Only the process that opened the file publishes and releases it; a forked child drops its descriptor.
        mine = self._pid == os.getpid()
        writable = self.writable()
        try:
            super().close()
        finally:
            if mine:
                session = self._client.session
                try:
                    if writable:
                        session.publish(self._handle)
                finally:
                    session.release(self._handle)


class _Buffered:
    def fsync(self, durability="local"):
        """Flushes the buffer and returns when the bytes are of that class."""
        self.flush()
        self.raw.fsync(durability)


class PerigeeReader(_Buffered, io.BufferedReader):
    pass


class PerigeeWriter(_Buffered, io.BufferedWriter):
    pass


class PerigeeRandom(_Buffered, io.BufferedRandom):
    pass


def open(url, mode="rb", *, buffering=BUFFER_BYTES, client=None):
    """Opens ``perigee://bucket/key``. Modes are those of :func:`open`: r, w, a, x, with + and b or t.

    The object is a file on the burst buffer's own descriptor: ``fileno()`` and ``mmap`` work. "w" replaces the content
    when the file is closed; readers elsewhere see the old content until then.
    """
    kind = mode.replace("b", "").replace("t", "")
    if kind.replace("+", "") not in ("r", "w", "a", "x") or kind.count("+") > 1 or ("b" in mode and "t" in mode):
        raise ValueError(f"invalid mode: {mode!r}")
    client = client or default_client()
    path = strip(url)
    session = client.session
    update = "+" in kind
    base = kind.replace("+", "")
    if base == "r":
        opened = session.open(path, update, False)
    elif base in ("w", "x"):
        opened = session.create(path, base == "w", 0o666 & ~_umask(), os.getuid(), os.getgid())
    else:
        try:
            opened = session.open(path, True, False)
        except FileNotFoundError:
            opened = session.create(path, False, 0o666 & ~_umask(), os.getuid(), os.getgid())
    handle, fd, cached, _, low_space = opened
    raw_mode = {"r": "r+" if update else "r", "w": "r+" if update else "w", "x": "r+" if update else "w",
                "a": "r+" if update else "w"}[base]
    raw = PerigeeRaw(client, url, handle, fd, raw_mode, cached, low_space)
    if base == "a":
        raw.seek(0, os.SEEK_END)
    if buffering == 0:
        if "b" not in mode:
            raise ValueError("text needs a buffer")
        return raw
    if update:
        file = PerigeeRandom(raw, buffering)
    elif base == "r":
        file = PerigeeReader(raw, buffering)
    else:
        file = PerigeeWriter(raw, buffering)
    return file if "b" in mode else io.TextIOWrapper(file)


class Path(os.PathLike):
    """A path to an object's burst file, good while this object lives: what ``torch.load(mmap=True)`` wants.

    A mapping made through it stays valid after it is closed, also when the object is replaced or evicted.
    """

    def __init__(self, url, client=None):
        self._file = open(url, "rb", buffering=0, client=client)
        size = os.fstat(self._file.fileno()).st_size
        if self._file._cached and size:
            # A mapping cannot wait for ranges: all of it comes first.
            self._file._client.session.ensure(self._file._handle, 0, size)
        self._path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"

    def __fspath__(self):
        return self._path

    def __str__(self):
        return self._path

    def close(self):
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.close()


def path(url, client=None):
    """See :class:`Path`."""
    return Path(url, client)
