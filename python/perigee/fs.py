"""fsspec file system for perigee:// URLs; torch.distributed.checkpoint finds it by the URL alone."""

import os

from fsspec.spec import AbstractFileSystem

from .client import Client, default_client, strip
from .file import open as open_file


class PerigeeFileSystem(AbstractFileSystem):
    """Objects of this node's burst buffer. ``socket`` or ``data`` name a stack; without them the environment does.

    Files are local descriptors, so there is no block cache. Rename is atomic and costs one metadata transaction, of
    whole directories too.
    """

    protocol = "perigee"
    root_marker = ""
    cachable = True

    def __init__(self, socket=None, data=None, **kwargs):
        super().__init__(**kwargs)
        if socket or data:
            self._client = Client(socket or os.path.join(data, "run", "bufferd.sock"))
        else:
            self._client = default_client()

    @classmethod
    def _strip_protocol(cls, path):
        if isinstance(path, list):
            return [cls._strip_protocol(p) for p in path]
        return strip(path)

    def _entry(self, path, info):
        entry = dict(info)
        entry["name"] = path
        entry["islink"] = info["type"] == "link"
        return entry

    def info(self, path, **kwargs):
        path = self._strip_protocol(path)
        return self._entry(path, self._client.info(path))

    def ls(self, path, detail=True, **kwargs):
        path = self._strip_protocol(path)
        info = self.info(path)
        if info["type"] != "directory":
            entries = [info]
        else:
            prefix = path + "/" if path else ""
            entries = [self._entry(prefix + i["name"], i) for i in self._client.ls(path)]
        return entries if detail else sorted(e["name"] for e in entries)

    def exists(self, path, **kwargs):
        try:
            self.info(path)
            return True
        except (FileNotFoundError, NotADirectoryError):
            return False

    def mkdir(self, path, create_parents=True, **kwargs):
        path = self._strip_protocol(path)
        if create_parents:
            self.makedirs(self._parent(path), exist_ok=True)
        self._client.mkdir(path)

    def makedirs(self, path, exist_ok=False):
        path = self._strip_protocol(path)
        if not path:
            return
        if not exist_ok and self.exists(path):
            raise FileExistsError(path)
        self._client.mkdir(path, parents=True)

    def rmdir(self, path):
        self._client.rmdir(self._strip_protocol(path))

    def rm_file(self, path):
        self._client.unlink(self._strip_protocol(path))

    _rm = rm_file

    def rm(self, path, recursive=False, maxdepth=None):
        paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
        for p in map(self._strip_protocol, paths):
            if self.info(p)["type"] != "directory":
                self.rm_file(p)
                continue
            if recursive:
                for entry in self.ls(p):
                    self.rm(entry["name"], recursive=True)
            self.rmdir(p)

    def mv(self, path1, path2, recursive=None, maxdepth=None, **kwargs):
        self._client.rename(self._strip_protocol(path1), self._strip_protocol(path2))

    mv_file = mv
    rename = mv

    def cp_file(self, path1, path2, **kwargs):
        if self.isdir(path1):
            self.makedirs(path2, exist_ok=True)
            return
        with self.open(path1, "rb") as source, self.open(path2, "wb") as target:
            while piece := source.read(8 << 20):
                target.write(piece)

    def _open(self, path, mode="rb", block_size=None, autocommit=True, cache_options=None, **kwargs):
        path = self._strip_protocol(path)
        if not autocommit:
            return _Uncommitted(self, path, mode)
        return open_file(path, mode, client=self._client)

    def open(self, path, mode="rb", block_size=None, cache_options=None, compression=None, **kwargs):
        # fsspec's own open resolves text mode and compression, and asks _open for bytes.
        return super().open(path, mode, block_size, cache_options, compression, **kwargs)

    def created(self, path):
        return _time(self.info(path)["created"])

    def modified(self, path):
        return _time(self.info(path)["mtime"])

    def ukey(self, path):
        return self.info(path).get("ETag", "")

    def cat_file(self, path, start=None, end=None, **kwargs):
        with self.open(path, "rb") as f:
            if start is not None:
                f.seek(start, os.SEEK_SET if start >= 0 else os.SEEK_END)
            if end is None:
                return f.read()
            if end < 0:
                end += self.info(path)["size"]
            return f.read(end - f.tell())

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        with open_file(self._strip_protocol(path), "xb" if mode == "create" else "wb", client=self._client) as f:
            f.write(value)


class _Uncommitted:
    """A file of an fsspec transaction: written beside its name, renamed on commit, removed on discard."""

    def __init__(self, fs, path, mode):
        if mode != "wb":
            raise ValueError("a transaction writes with mode 'wb'")
        self.fs, self.path = fs, path
        self.temp = f"{path}.uncommitted-{os.urandom(6).hex()}"
        self._file = open_file(self.temp, "wb", client=fs._client)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.close()

    def close(self):
        self._file.close()

    def commit(self):
        self.close()
        self.fs.mv(self.temp, self.path)

    def discard(self):
        self.close()
        self.fs.rm_file(self.temp)


def _time(seconds):
    from datetime import datetime, timezone

    return datetime.fromtimestamp(seconds, tz=timezone.utc)
