"""The Python package, with no mount."""

import multiprocessing
import os
import pickle
import subprocess
import sys

import pytest

perigee = pytest.importorskip("perigee")


@pytest.fixture(scope="module")
def stack():
    from conftest import Made
    made = Made()
    stack = made("--no-mount")
    perigee.connect(data=stack.data)
    os.environ["PERIGEE_DATA"] = stack.data
    yield stack
    made.close()


@pytest.mark.parametrize("size", [0, 10, 16384, 50_000, 3 << 20])
def test_what_is_written_is_read_here_and_through_s3(stack, size):
    body = os.urandom(size)
    with perigee.open("perigee://data/x", "wb") as f:
        f.write(body)
    with perigee.open("perigee://data/x") as f:
        assert f.read() == body
    assert stack.s3().get_object(Bucket="data", Key="x")["Body"].read() == body
    assert perigee.stat("data/x")["size"] == size


def test_objects_that_are_not_resident_are_filled(stack):
    body = os.urandom(30 << 20)
    stack.s3().put_object(Bucket="data", Key="cold", Body=body)
    with perigee.open("data/cold") as f:
        f.seek(20 << 20)
        assert f.read(1000) == body[20 << 20:(20 << 20) + 1000]
        f.seek(0)
        assert f.read() == body


def test_modes(stack):
    with perigee.open("data/modes", "w") as f:
        f.write("one\n")
    with perigee.open("data/modes", "a") as f:
        f.write("two\n")
    with perigee.open("data/modes", "r+b") as f:
        f.write(b"ONE")
    assert perigee.open("data/modes", "r").read() == "ONE\ntwo\n"
    with pytest.raises(FileExistsError):
        perigee.open("data/modes", "xb")
    with pytest.raises(FileNotFoundError):
        perigee.open("data/none")
    with pytest.raises(ValueError):
        perigee.open("data/modes", "rw")


def test_flush_evict_and_tiers(stack):
    with perigee.open("data/tiers", "wb") as f:
        f.write(os.urandom(2 << 20))
    assert perigee.stat("data/tiers")["tier"] == "burst"
    assert perigee.flush("data/tiers", wait=True)["left"] == 0
    info = perigee.stat("data/tiers")
    assert (info["tier"], info["class"]) == ("blobs", "object")
    assert perigee.evict("data/tiers")["left"] == 0
    assert perigee.stat("data/tiers")["resident_bytes"] == 0
    perigee.warm("data/tiers", wait=True)
    assert perigee.stat("data/tiers")["resident_bytes"] == 2 << 20


def test_fsync_reaches_the_class_asked_for(stack):
    with perigee.open("data/sync", "wb") as f:
        f.write(os.urandom(1 << 20))
        f.fsync()
        assert perigee.stat("data/sync")["class"] in ("local", "object")


def test_torch_save_and_mapped_load(stack):
    import torch
    state = {"w": torch.randn(1000, 100), "n": torch.arange(7)}
    perigee.save(state, "perigee://data/t.pt")
    loaded = perigee.load("perigee://data/t.pt", mmap=True)
    assert all(torch.equal(state[k], loaded[k]) for k in state)
    with perigee.path("perigee://data/t.pt") as p:
        mapped = torch.load(p, mmap=True)
    perigee.flush("data/t.pt")
    perigee.evict("data/t.pt")
    assert torch.equal(mapped["w"], state["w"])  # a mapping outlives eviction
    assert torch.equal(perigee.load("perigee://data/t.pt", mmap=True)["w"], state["w"])


def test_distributed_checkpoint_finds_the_file_system_by_url(stack):
    import torch
    import torch.distributed.checkpoint as dcp
    state = {"a": torch.randn(300, 300), "b": torch.arange(10)}
    dcp.save(state, checkpoint_id="perigee://data/step-1", no_dist=True)
    loaded = {k: torch.zeros_like(v) for k, v in state.items()}
    dcp.load(loaded, checkpoint_id="perigee://data/step-1", no_dist=True)
    assert all(torch.equal(state[k], loaded[k]) for k in state)
    keys = {o["Key"] for o in stack.s3().list_objects_v2(Bucket="data", Prefix="step-1/")["Contents"]}
    assert "step-1/.metadata" in keys


def test_fsspec(stack):
    import fsspec
    fs = fsspec.filesystem("perigee")
    fs.makedirs("data/fs/deep", exist_ok=True)
    fs.pipe("data/fs/deep/a", b"hello")
    assert fs.cat("data/fs/deep/a") == b"hello" and fs.cat_file("data/fs/deep/a", 1, 3) == b"el"
    assert fs.ls("data/fs", detail=False) == ["data/fs/deep"]
    assert sorted(fs.find("data/fs")) == ["data/fs/deep/a"]
    fs.mv("data/fs/deep", "data/fs/moved")
    assert fs.exists("data/fs/moved/a") and not fs.exists("data/fs/deep")
    with fs.transaction:
        with fs.open("data/fs/t", "wb") as f:
            f.write(b"x")
        assert not fs.exists("data/fs/t")
    assert fs.cat("data/fs/t") == b"x"
    fs.rm("data/fs", recursive=True)
    assert not fs.exists("data/fs")
    assert pickle.loads(pickle.dumps(fs)).exists("data")


def _child(queue):
    with perigee.open("data/forked", "rb") as f:
        queue.put(f.read())
    with perigee.open("data/from-child", "wb") as f:
        f.write(b"child")


def test_a_forked_child_has_its_own_connection(stack):
    with perigee.open("data/forked", "wb") as f:
        f.write(b"parent")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == b"parent"
    child.join(60)
    assert child.exitcode == 0
    assert perigee.open("data/from-child").read() == b"child"


def test_a_file_object_survives_a_process_that_forgets_to_close(stack):
    script = ("import os, perigee\nf = perigee.open('data/unclosed', 'wb', buffering=0)\nf.write(b'x' * 100000)\nos._exit(0)\n")
    subprocess.run([sys.executable, "-c", script], check=True, env=dict(os.environ, PERIGEE_DATA=stack.data))
    # Never published: nothing is there for readers, and the name can be written again.
    with perigee.open("data/unclosed", "wb") as f:
        f.write(b"again")
    assert perigee.open("data/unclosed").read() == b"again"


def test_the_module_links_and_exports_nothing_that_a_training_process_has():
    import perigee._native as native
    out = subprocess.run(["ldd", native.__file__], capture_output=True, text=True, check=True).stdout
    assert not any(lib in out for lib in ("libucp", "libfabric", "libprotobuf"))
    symbols = subprocess.run(["nm", "-D", "--defined-only", native.__file__], capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["PyInit__native"]


def test_the_mount_links_neither(stack):
    from conftest import BINARIES
    out = subprocess.run(["ldd", f"{BINARIES}/perigee-fuse"], capture_output=True, text=True, check=True).stdout
    assert not any(lib in out for lib in ("libucp", "libfabric", "libprotobuf"))
