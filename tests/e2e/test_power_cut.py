"""The power goes while a whole stack is under load. Every file and every RocksDB of every daemon lies on a file system that forgets
what was not synced (tests/powercut); it goes at a sync of any of them, before it or after it, or at a random moment.

What S3 acknowledged and what was fsynced through the mount must be there afterwards. What was closed only may fall back to any
content since the last that was synced, whole. More rounds, and a repetition:
    PERIGEE_CUTS=100 PERIGEE_CUT_SEED=7
"""

import contextlib
import os
import random
import shutil
import signal
import tempfile
import time

import pytest

from conftest import EXAMPLE_FREE_PORTS, Made, needs_fuse, needs_root
from crash_model import Model, words
from cutfs import CutFs
from test_kill_matrix import LANES, OPTIONS, KillStack, Lane, Load, from_the_object_tier, look, quick_s3, s3_content, settle_doubts, wait_until

SEED = int(os.environ.get("PERIGEE_CUT_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
CUTS = int(os.environ.get("PERIGEE_CUTS", "2"))
# Whose sync: anything, the namespace's mirrors, the drives' indexes and segments, the burst index, burst files, any log or manifest.
PARTS = ("/", "/meta/", "/index/", "/segments", "/burst/index", "/burst/files", ".log", "MANIFEST")


class PowerLane(Lane):
    """What the mount does to names is durable with the next commit that is: until then it may be undone."""

    def rename(self, source, key):
        body, before = source.content, key.content
        # What it replaced serves where it is lost.
        of_source, of_key = source.fallbacks + [body], key.fallbacks + [before] + [old for old in source.fallbacks if old is not None]
        was_durable = not source.fallbacks
        source.fallbacks, key.fallbacks = of_source, of_key
        super().rename(source, key)
        source.fallbacks, key.fallbacks = of_source, of_key
        if was_durable and body != before:
            self.model.moved.append((source, source.states, key, key.states, body))

    def unlink(self, key):
        self.remember(key)
        key.begin("unlink", None)
        key.fallbacks = key.fallbacks + [key.states[0]]
        os.unlink(self.path(key))
        key.acknowledged(None)


class PowerLoad(Load):
    lane = PowerLane


def processes_of(place):
    """Of programs below `place`."""
    found = []
    for pid in os.listdir("/proc"):
        try:
            if pid.isdigit() and os.readlink(f"/proc/{pid}/exe").startswith(place + "/"):
                found.append(int(pid))
        except OSError:
            pass
    return found


class PowerStack(KillStack):
    def __init__(self, place):
        self.disk = CutFs(os.path.join(place, "stack"), "log")
        super().__init__(place)

    def kill_processes(self):
        for pid in processes_of(self.bin):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def power_returns(self, seed):
        self.disk.on(seed)
        wait_until("the killed daemons' end", lambda: not processes_of(self.bin), 30)
        self.new_boot()


class House:
    """A stack on a disk that loses power, and what its clients were told."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.place = tempfile.mkdtemp(prefix="perigee-power-")
        self.stack = PowerStack(self.place)
        self.model = Model()
        self.model.moved = []
        self.well = False
        print(f"\nseed {seed}")

    def start(self):
        self.stack.up("--drives", "6", *EXAMPLE_FREE_PORTS, *OPTIONS)
        self.make_lanes()

    def make_lanes(self):
        for n in range(LANES):
            os.makedirs(os.path.join(self.stack.mount, "data", f"lane{n}"), exist_ok=True)

    def cut(self, load):
        """In words, when it was."""
        disk = self.stack.disk
        load.go_on(self.rng.randrange(60), 4)
        if self.rng.random() < 0.7:
            disk.arm(self.rng.randrange(1, 40), self.rng.choice(("before", "after")), self.rng.choice(PARTS))
            if not disk.is_off.wait(8):
                disk.off()
        else:
            load.stop.wait(self.rng.uniform(0.05, 2))
            disk.off()
        self.stack.kill_processes()
        load.stop.set()
        what = disk.why if disk.is_off.is_set() else "at a random moment"
        self.stack.power_returns(self.rng.randrange(1 << 62))
        return what

    def round(self, n):
        load = PowerLoad(self.stack, self.model, self.rng, self.stack.mount, True, children=False)
        try:
            what = f"cut {n}: {self.cut(load)}"
        finally:
            calls = load.finish()
        began = time.monotonic()
        self.stack.up()
        ready = time.monotonic() - began
        moves = self.fall_back()
        self.make_lanes()
        look(self.stack, self.model, what)
        self.check_moves(moves, what)
        print(f"  {what}; {calls}; up after {ready:.1f} s; {len(self.model.keys)} keys, "
              f"{sum(k.doubtful for k in self.model.keys.values())} in doubt", flush=True)
        self.assert_none(what)

    def fall_back(self):
        """What may have been lost; the moves whose two names nobody touched since, to be found at one of them."""
        model, base = self.model, os.path.join(self.stack.mount, "data")
        moves = [(source, key, body) for source, was, key, now, body in model.moved if source.states is was and key.states is now]
        model.moved.clear()
        model.renames.clear()
        for key in model.keys.values():
            # Made while objectd was away: the name may be kept without its first content, which was not synced.
            key.mount_only = key.mount_only or None in key.fallbacks
            key.states, key.fallbacks = key.states + key.fallbacks, []
        for prefix in model.trees:
            new = os.path.join(base, prefix, "tree-new")
            if os.path.isdir(new):
                os.rename(new, os.path.join(base, prefix, "tree-a"))  # fails where it is there twice
        return moves

    def check_moves(self, moves, when):
        for source, key, body in moves:
            if source.view and key.view and (source.view == (body,)) == (key.view == (body,)):
                self.model.deviation(f"{when}: {source.name} moved to {key.name}: {words(source.view[0])} and {words(key.view[0])}; "
                                     f"{key.expected()}")

    def assert_none(self, what):
        with open(os.path.join(self.stack.data, "log", "bufferd.log"), errors="replace") as f:
            if "burst_index_damaged" in f.read():
                self.model.deviation("the burst index was taken for damaged")
        if self.model.deviations:
            raise AssertionError(f"{what}:\n" + "\n".join(self.model.deviations))

    def close(self):
        try:
            if not self.well:
                kept = tempfile.mkdtemp(prefix="perigee-power-logs-")
                shutil.copytree(os.path.join(self.stack.data, "log"), kept, dirs_exist_ok=True)
                print(f"logs in {kept}")
            made = Made()
            made.stacks.append(self.stack)
            made.close()
        finally:
            self.stack.kill_processes()
            self.stack.end_boot()
            self.stack.disk.close()
            shutil.rmtree(self.place, ignore_errors=True)


@contextlib.contextmanager
def a_rename_before_the_cut():
    """A house where nothing is flushed, and nothing synced that nobody asks for; the two names; and what cuts the power, names durable."""
    house = House(SEED)
    try:
        stack = house.stack
        stack.arm("bufferd", "burst_sync_before_data=delay:60000@*")  # the background sync comes too late
        house.start()
        stack.run("flush", "--hold")
        latest, new = (os.path.join(stack.mount, "data", name) for name in ("latest", "new"))

        def replace_and_cut():
            os.replace(new, latest)
            folder = os.open(os.path.dirname(latest), os.O_RDONLY)
            os.fsync(folder)  # names are durable
            os.close(folder)
            stack.disk.off()
            stack.kill_processes()
            stack.power_returns(SEED)
            stack.up()
        yield stack, latest, new, replace_and_cut
        house.well = True
    finally:
        house.close()


@needs_root
@needs_fuse
def test_power_cuts_under_load():
    house = House(SEED)
    try:
        house.start()
        for n in range(CUTS):
            house.round(n)
        settle_doubts(house.stack, house.model, "at the end")
        from_the_object_tier(house.stack, house.model, "from the object tier")
        house.assert_none("at the end")
        house.well = True
    finally:
        house.close()


@needs_root
@needs_fuse
@pytest.mark.parametrize("objectd", ["there", "away"])
def test_a_save_that_is_only_in_the_buffer_is_replaced_by_a_durable_one(objectd):
    with a_rename_before_the_cut() as (stack, latest, new, replace_and_cut):
        old, later = (random.Random(SEED + n).randbytes(300_000) for n in range(2))
        with open(latest, "wb") as f:
            f.write(old)
            f.flush()
            os.fsync(f.fileno())
        if objectd == "away":
            os.kill(stack.pid_of("objectd"), signal.SIGSTOP)
        with open(new, "wb") as f:
            f.write(later)
        replace_and_cut()
        with open(latest, "rb") as f:
            assert f.read() == later
        assert s3_content(quick_s3(stack, attempts=8), "latest") == later


@needs_root
@needs_fuse
def test_a_save_that_is_lost_gives_way_to_the_one_that_it_was_renamed_over():
    with a_rename_before_the_cut() as (stack, latest, new, replace_and_cut):
        old = random.Random(SEED).randbytes(300_000)
        quick_s3(stack).put_object(Bucket="data", Key="latest", Body=old)
        with open(new, "wb") as f:
            f.write(bytes(1_000_000))
        replace_and_cut()
        with open(latest, "rb") as f:
            assert f.read() == old
        assert s3_content(quick_s3(stack), "latest") == old
        assert not os.path.exists(new)
        stack.wait("told", lambda s: "fell back to what it had replaced by a rename" in str(s), timeout=60)
