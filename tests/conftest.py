"""End-to-end tests: the real daemons, the real clients. A stack a module by default; tests that hurt one make their own."""

import hashlib
import os
import shutil
import sys
import tempfile
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))

from stack import Stack  # noqa: E402

BINARIES = os.environ.get("PERIGEE_BIN", os.path.join(ROOT, "build", "bin"))
HAS_FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)
needs_fuse = pytest.mark.skipif(not HAS_FUSE, reason="no /dev/fuse here")
with open("/proc/self/uid_map") as f:
    ONE_USER = sum(int(line.split()[2]) for line in f) == 1
needs_root = pytest.mark.skipif(os.geteuid() != 0 or ONE_USER, reason="needs root, and other users to become")
WITHIN = 60  # s, for what takes moments
EXAMPLE_FREE_PORTS = ["--s3-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--bufferd-admin-listen", "127.0.0.1:0"]


def until(what, condition, within=WITHIN):
    """What `condition` returns, once that is true."""
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {within} s"
        time.sleep(0.05)
    return found


def put_objects(stack, sizes, prefix="o"):
    """Objects of random bytes, PREFIX0 and on; their md5 by key."""
    s3, sums = stack.s3(), {}
    for i, size in enumerate(sizes):
        body = os.urandom(size)
        s3.put_object(Bucket="data", Key=f"{prefix}{i}", Body=body)
        sums[f"{prefix}{i}"] = hashlib.md5(body).hexdigest()
    return sums


def check_objects(stack, sums):
    s3 = stack.s3()
    for key, md5 in sums.items():
        assert hashlib.md5(s3.get_object(Bucket="data", Key=key)["Body"].read()).hexdigest() == md5, key
    assert {o["Key"] for o in s3.list_objects_v2(Bucket="data")["Contents"]} >= set(sums)


class Made:
    """Stacks made by a test, taken down at its end."""

    def __init__(self):
        self.stacks = []

    def __call__(self, *args, drives=6, data=None, up=True, env=None, prefix=()):
        data = data or tempfile.mkdtemp(prefix="perigee-e2e-")
        stack = Stack(data, BINARIES, prefix)
        self.stacks.append(stack)
        if up:
            stack.up("--drives", str(drives), *EXAMPLE_FREE_PORTS, *args, env=env)
        return stack

    def close(self):
        for stack in self.stacks:
            stack.run("down", check=False, timeout=120)
        faults = [fault for stack in self.stacks for fault in faults_of(stack)]
        for stack in self.stacks:
            shutil.rmtree(stack.data, ignore_errors=True)
        assert not faults, f"{', '.join(faults)} reported a fault: see above"


def faults_of(stack):
    """Daemons whose log has what a sanitizer or a check of our own said; it is printed."""
    for name in ("perigee", "objectd", "bufferd", "fuse"):
        log = os.path.join(stack.data, "log", f"{name}.log")
        if os.path.exists(log):
            with open(log, errors="replace") as f:
                text = f.read()
            if "Sanitizer" in text or "invariant broken" in text or "dropped unread" in text:
                print(text[-8000:])
                yield name


@pytest.fixture
def make_stack():
    made = Made()
    yield made
    made.close()


@pytest.fixture(scope="module")
def stack():
    made = Made()
    yield made()
    made.close()
