"""torch.save and torch.load on perigee:// URLs. torch is imported when they are called."""

from .file import open, path


def save(obj, url, *, durability=None, **kwargs):
    """``torch.save(obj, url)``. ``durability``: None returns when the bytes are in the burst buffer and visible, "local"
    when they survive power loss here, "object" when they are erasure coded."""
    import torch

    with open(url, "wb") as f:
        torch.save(obj, f, **kwargs)
        if durability is not None:
            f.fsync(durability)


def load(url, *, mmap=False, **kwargs):
    """``torch.load(url)``; with ``mmap`` tensors are mapped from the burst file, nothing is read ahead of use."""
    import torch

    if mmap:
        with path(url) as p:
            return torch.load(p, mmap=True, **kwargs)
    with open(url, "rb") as f:
        return torch.load(f, **kwargs)
