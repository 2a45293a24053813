"""Perigee for training processes.

Files of the node's burst buffer are opened by descriptor: reads, writes and mappings go to the local file itself, with
no copy through a socket and without a mount. The stack is found by ``PERIGEE_SOCKET`` (bufferd's socket) or
``PERIGEE_DATA`` (the data directory of ``perigee up``), or by :func:`connect`.

    with perigee.open("perigee://data/step-100.pt", "wb") as f:
        torch.save(model.state_dict(), f)
    state = torch.load(perigee.path("perigee://data/step-100.pt"), mmap=True)
    perigee.flush("perigee://data/step-100.pt", wait=True)   # class "object": erasure coded

Closing a written file makes it visible through every door (S3, mounts, other processes); ``f.fsync()`` makes it survive
power loss on this node; ``flush(wait=True)`` makes it survive the node.
"""

from .client import Client, connect, default_client
from .file import Path, open, path
from .torch_io import load, save

__all__ = ["Client", "Path", "connect", "default_client", "evict", "flush", "load", "open", "path", "pin", "save",
           "stat", "warm"]


def stat(url):
    """A dictionary: name, type, size, mtime, ETag, generation, tier (inline, burst, blobs, cold), class (unsynced, local,
    partner, object), resident_bytes, dirty_bytes, pinned. FileNotFoundError when there is none."""
    return default_client().stat(url)


def flush(url="", wait=True):
    """Copies to the object tier what is only in this node's burst buffer: one object, all below a directory, or
    everything. With ``wait`` it returns when they are of class "object". Returns files, bytes, left, reasons."""
    return default_client().flush(url, wait)


def evict(url=""):
    """Drops local copies that the object tier has."""
    return default_client().evict(url)


def warm(url, wait=True):
    """Brings objects into this node's burst buffer."""
    return default_client().warm(url, wait)


def pin(url, on=True):
    """Keeps objects in this node's burst buffer, or lets them go."""
    return default_client().pin(url, on)
