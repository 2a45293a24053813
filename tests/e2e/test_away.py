"""The object tier away: checkpoints go on at local speed, and everything is registered afterwards.

Each kind of absence lasts a few seconds here; PERIGEE_AWAY_MINUTES=10 makes each last that long, with the same loop.
"""

import os
import random
import shutil
import signal
import statistics
import tempfile
import threading
import time

import pytest

from conftest import BINARIES, EXAMPLE_FREE_PORTS, Made, needs_fuse
from stack import Stack

SECONDS = float(os.environ.get("PERIGEE_AWAY_MINUTES", "0")) * 60 or 4
PATIENCE = 0.5  # of bufferd: calls in flight when objectd falls silent wait so long
OPTIONS = ["--burst-budget", "1G", "--daemon-option", f"bufferd:--objectd-patience={int(PATIENCE * 1000)}ms"]
KEPT = 2


class AwayStack(Stack):
    """A stack whose objectd does not come back while the file `away` is there."""

    def __init__(self, place):
        binaries = os.path.join(place, "bin")
        os.makedirs(binaries)
        self.away = os.path.join(place, "away")
        for name in ("perigee", "perigee-bufferd", "perigee-fuse"):
            os.symlink(os.path.join(BINARIES, name), os.path.join(binaries, name))
        os.unlink(os.path.join(binaries, "perigee"))
        shutil.copy(os.path.join(BINARIES, "perigee"), binaries)  # it looks for the daemons beside itself
        with open(os.path.join(binaries, "perigee-objectd"), "w") as f:
            f.write(f"#!/bin/sh\n[ -e {self.away} ] && exit 1\nexec {os.path.join(BINARIES, 'perigee-objectd')} \"$@\"\n")
        os.chmod(os.path.join(binaries, "perigee-objectd"), 0o755)
        super().__init__(os.path.join(place, "stack"), binaries)

    def objectd(self):
        return next(d["pid"] for d in self.status()["daemons"] if d["name"] == "objectd")


@pytest.fixture
def away_stack():
    place = tempfile.mkdtemp(prefix="perigee-away-")
    made = Made()
    stack = AwayStack(place)
    made.stacks.append(stack)
    stack.up("--drives", "3", *EXAMPLE_FREE_PORTS, *OPTIONS)
    yield stack
    made.close()
    shutil.rmtree(place, ignore_errors=True)


class Absence:
    """One kind of it, from `begin` to `end`."""

    def __init__(self, stack, kind):
        self.stack, self.kind, self.over = stack, kind, threading.Event()
        self.pid = stack.objectd()
        self.thread = None

    def send(self, sig):
        try:
            os.kill(self.pid, sig)
        except ProcessLookupError:
            pass

    def begin(self):
        if self.kind == "stopped":
            self.send(signal.SIGSTOP)
        elif self.kind == "refusing":
            open(self.stack.away, "w").close()  # its socket stays, with nobody behind it
            self.send(signal.SIGKILL)
        else:
            self.thread = threading.Thread(target=self.again if self.kind == "killed" else self.slowly, daemon=True)
            self.thread.start()

    def again(self):
        while not self.over.is_set():
            self.send(signal.SIGKILL)
            before = self.pid
            while self.pid == before and not self.over.wait(0.05):
                self.pid = self.stack.objectd() or before

    def slowly(self):
        while not self.over.is_set():
            self.send(signal.SIGSTOP)
            self.over.wait(0.9)
            self.send(signal.SIGCONT)
            self.over.wait(0.02)

    def end(self):
        self.over.set()
        if self.thread:
            self.thread.join()
        if os.path.exists(self.stack.away):
            os.unlink(self.stack.away)
        self.send(signal.SIGCONT)


class Saves:
    """Saves a checkpoint after the other, keeps the last ones, and notes how long each call took."""

    def __init__(self, stack, name):
        self.base = os.path.join(stack.mount, "data", name)
        self.random = random.Random(name)
        self.live = []  # (number, {file: content})
        self.best = self.log = b""  # of the files that are rewritten, and written to the end of
        self.number = 0
        self.seconds = []
        self.busy_since = None

    def timed(self, call, *args):
        self.busy_since = time.monotonic()
        result = call(*args)
        self.seconds.append(time.monotonic() - self.busy_since)
        self.busy_since = None
        return result

    def put(self, path, content):
        fd = self.timed(os.open, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self.timed(os.write, fd, content)
            self.timed(os.fsync, fd)
        finally:
            self.timed(os.close, fd)

    def save(self):
        self.number += 1
        directory = os.path.join(self.base, f"step-{self.number}")
        self.timed(os.mkdir, directory)
        files = {}
        for rank in range(2):
            files[f"rank{rank}"] = self.random.randbytes(self.random.choice((5_000, 300_000)))
            self.put(os.path.join(directory, f"rank{rank}"), files[f"rank{rank}"])
        files["metadata"] = b"metadata of %d" % self.number
        self.put(os.path.join(directory, "metadata.tmp"), files["metadata"])
        self.timed(os.rename, os.path.join(directory, "metadata.tmp"), os.path.join(directory, "metadata"))
        # The newest is found by one name, replaced each time.
        files_latest = b"step-%d" % self.number
        self.put(os.path.join(self.base, "latest.tmp"), files_latest)
        self.timed(os.rename, os.path.join(self.base, "latest.tmp"), os.path.join(self.base, "latest"))
        self.best = self.random.randbytes(self.random.choice((4_000, 200_000)))
        self.put(os.path.join(self.base, "best"), self.best)
        line = b"saved step %d\n" % self.number
        fd = self.timed(os.open, os.path.join(self.base, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            self.timed(os.write, fd, line)
        finally:
            self.timed(os.close, fd)
        self.log += line
        self.live.append((self.number, files))
        assert self.timed(os.stat, os.path.join(directory, "rank0")).st_size == len(files["rank0"])
        while len(self.live) > KEPT:
            self.remove(*self.live.pop(0))

    def remove(self, number, files):
        directory = os.path.join(self.base, f"step-{number}")
        assert sorted(self.timed(os.listdir, directory)) == sorted(files)
        for name in files:
            self.timed(os.unlink, os.path.join(directory, name))
        self.timed(os.rmdir, directory)

    def expected(self):
        found = {f"step-{n}/{name}": content for n, files in self.live for name, content in files.items()}
        return found | {"latest": b"step-%d" % self.number, "best": self.best, "log": self.log}


def on_the_mount(base):
    found = {}
    for at, _, names in os.walk(base):
        for name in names:
            with open(os.path.join(at, name), "rb") as f:
                found[os.path.relpath(os.path.join(at, name), base)] = f.read()
    return found


def by_s3(stack, prefix):
    s3 = stack.s3()
    found = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="data", Prefix=prefix + "/"):
        for o in page.get("Contents", []):
            if not o["Key"].endswith("/"):
                found[o["Key"][len(prefix) + 1:]] = s3.get_object(Bucket="data", Key=o["Key"])["Body"].read()
    return found


def sleeping_for_good(pids):
    """Threads in D state now, by pid."""
    found = []
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/stat") as f:
                    if f.read().rsplit(")", 1)[1].split()[0] == "D":
                        found.append((pid, task))
        except FileNotFoundError:
            pass
    return set(found)


@needs_fuse
@pytest.mark.parametrize("kind", ["killed", "stopped", "refusing", "slow"])
def test_saves_go_on_at_local_speed_while_objectd_is_away(away_stack, kind):
    stack = away_stack
    saves = Saves(stack, kind)
    os.mkdir(saves.base)
    for _ in range(3):
        saves.save()
    stack.wait("ids and names at hand", lambda s: s["bufferd"]["registered_later"] == 0)
    stack.run("flush", "--wait")
    before = len(saves.seconds)
    daemons = [d["pid"] for d in stack.status()["daemons"] if d["name"] != "objectd"] + [os.getpid()]
    absence = Absence(stack, kind)
    absence.begin()
    failed = []
    until = time.monotonic() + SECONDS

    def loop():
        try:
            while time.monotonic() < until or saves.number < 6:
                saves.save()
        except (OSError, AssertionError) as e:
            failed.append(repr(e))

    worker = threading.Thread(target=loop, daemon=True)
    worker.start()
    stuck, longest = {}, 0
    while worker.is_alive():
        worker.join(0.2)
        now = sleeping_for_good(daemons)
        stuck = {t: stuck.get(t, 0) + 1 for t in now}
        longest = max([longest, *stuck.values()])
        if saves.busy_since and time.monotonic() - saves.busy_since > 30:
            failed.append("a call hangs")
            break
    absence.end()
    assert not failed, failed
    assert longest < 50, "a thread is in D state for 10 s"
    calls = saves.seconds[before:]
    print(f"\n{kind}: {saves.number} saves, {len(calls)} calls, median {statistics.median(calls) * 1e3:.2f} ms, "
          f"slowest {max(calls) * 1e3:.0f} ms")
    assert max(calls) < 10 and statistics.median(calls) < 0.1
    stack.wait("everything registered", lambda s: s.get("well") and s["bufferd"].get("registered_later") == 0,
               timeout=120 + 2 * SECONDS)
    assert on_the_mount(saves.base) == saves.expected()
    assert by_s3(stack, kind) == saves.expected()
    saves.save()  # with objectd, as before
    assert by_s3(stack, kind) == saves.expected()
    # What was saved meanwhile is in the object tier in the end, and read from there.
    stack.run("flush", "--wait", timeout=120)
    stack.run("evict", "data")
    assert on_the_mount(saves.base) == saves.expected()
