"""Drives that are slow, fail, are read-only or full: one at a time, all, and those with the namespace's mirrors. What is stored stays
readable, what cannot be written is refused, and all of it recovers when the fault goes. The faults come from tests/powercut."""

import concurrent.futures
import errno
import os
import statistics
import tempfile
import time

import botocore.exceptions
import pytest

from conftest import Made, check_objects, needs_fuse, needs_root, put_objects
from cutfs import CutFs
from test_kill_matrix import quick_s3, wait_until

pytestmark = [needs_fuse, needs_root]
SIZES = [100, 20_000, 300_000, 3 << 20]


class Faulty:
    """A stack on a file system with knobs."""

    def __init__(self, make):
        self.place = tempfile.mkdtemp(prefix="perigee-faults-")
        self.disk = CutFs(os.path.join(self.place, "disk"))
        self.stack = make("--no-mount", data=os.path.join(self.place, "disk", "stack"))
        self.sums = put_objects(self.stack, SIZES, "before")
        self.drives = [d["dir"] for d in self.stack.status()["objectd"]["drives"]]

    def put(self, key, body):
        """True, or the HTTP status of the refusal."""
        try:
            quick_s3(self.stack).put_object(Bucket="data", Key=key, Body=body)
            return True
        except botocore.exceptions.ClientError as e:
            return e.response["ResponseMetadata"]["HTTPStatusCode"]
        except botocore.exceptions.BotoCoreError:
            return 0

    def puts_work_again(self):
        wait_until("a put that works", lambda: self.put("again", os.urandom(100_000)) is True and
                   self.put("again-small", b"x") is True, 60)
        check_objects(self.stack, self.sums)

    def state_of(self, status, drive):
        return next(d["state"] for d in status["objectd"]["drives"] if d["dir"] == drive)

    def mirrors(self):
        return [d for d in self.drives if os.path.exists(os.path.join(d, "meta", "CURRENT"))]


@pytest.fixture
def faulty():
    made, all_of = Made(), []

    def make():
        all_of.append(Faulty(made))
        return all_of[-1]

    yield make
    for f in all_of:
        for d in f.drives:
            f.disk.fault(d)
    made.close()
    for f in all_of:
        f.disk.close()
        os.rmdir(os.path.join(f.place, "disk"))
        os.rmdir(f.place)


def time_of(call, *args):
    began = time.monotonic()
    assert call(*args) is True
    return time.monotonic() - began


def test_a_slow_drive_does_not_stall_the_others(faulty):
    f = faulty()
    mirrors = f.mirrors()
    slow = next(d for d in f.drives if d not in mirrors)
    before = statistics.median(time_of(f.put, f"before-{i}", b"x") for i in range(10))
    f.disk.fault(slow, delay_ms=300)
    began = time.monotonic()
    check_objects(f.stack, f.sums)
    assert time.monotonic() - began < 10
    # What has no shard there does not notice.
    assert statistics.median(time_of(f.put, f"small-{i}", b"x") for i in range(10)) < 3 * before + 0.1
    assert time_of(f.put, "large", os.urandom(1 << 20)) < 20
    f.disk.fault(slow)
    # A slow mirror of the namespace delays what is to be durable there; those who wait share that, instead of queueing up.
    f.disk.fault(mirrors[0], delay_ms=300)
    s3 = quick_s3(f.stack)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        began = time.monotonic()
        list(pool.map(lambda i: s3.put_object(Bucket="data", Key=f"shared-{i}", Body=b"x"), range(48)))
    assert time.monotonic() - began < 48 * 0.6 / 2  # one by one, each waits for a write and a sync
    f.disk.fault(mirrors[0])
    f.puts_work_again()


def test_a_drive_that_fails_its_writes_is_left_out(faulty):
    f = faulty()
    bad = f.mirrors()[0]
    f.disk.fault(bad, write=errno.EIO, sync=errno.EIO)
    for i, size in enumerate(SIZES):
        assert f.put(f"meanwhile{i}", os.urandom(size)) is True
    check_objects(f.stack, f.sums)
    f.stack.wait("the drive is shown offline", lambda s: f.state_of(s, bad) == "offline", timeout=30)
    f.stack.wait("the namespace on three drives again", lambda s: "3 of 3" in str(s["objectd"]["mirrors"]), timeout=60)
    f.disk.fault(bad)
    f.stack.kill_all()
    f.stack.up()  # stale now: reconciled before it serves
    f.stack.wait("repair", lambda s: s["objectd"]["volumes_to_repair"] == 0 and f.state_of(s, bad) == "online", timeout=60)
    f.puts_work_again()


def test_a_drive_that_fails_its_reads_is_read_around(faulty):
    f = faulty()
    f.disk.fault(os.path.join(f.drives[1], "segments"), read=errno.EIO)
    f.disk.fault(os.path.join(f.drives[4], "segments"), read=errno.EIO)
    check_objects(f.stack, f.sums)
    f.disk.fault(os.path.join(f.drives[1], "segments"))
    f.disk.fault(os.path.join(f.drives[4], "segments"))
    f.puts_work_again()


def test_drives_that_hang_are_read_around(faulty):
    f = faulty()
    segments = [os.path.join(f.drives[i], "segments") for i in (1, 4)]
    for of_drive in segments:
        f.disk.fault(of_drive, delay_ms=10_000)
    for most in (8, 4):  # the second time they are known to be slow
        began = time.monotonic()
        check_objects(f.stack, f.sums)
        assert time.monotonic() - began < most
    with open(os.path.join(f.stack.data, "log", "objectd.log")) as log:
        assert "drive_slow" in log.read()
    for of_drive in segments:
        f.disk.fault(of_drive)
    f.puts_work_again()


@pytest.mark.parametrize("of_mirrors", [0, 1, 2])
def test_drives_that_hang_for_good_are_left_out_until_they_answer(faulty, of_mirrors):
    f = faulty()
    mirrors = f.mirrors()
    bad = mirrors[:of_mirrors] + [d for d in f.drives if d not in mirrors][:2 - of_mirrors]
    # Who writes to the namespace's first mirror at that moment gets no answer, and asks again.
    s3 = quick_s3(f.stack, attempts=3, read_timeout=20)
    bodies = {f"meanwhile{i}": os.urandom(SIZES[i % len(SIZES)]) for i in range(48)}
    for d in bad:
        f.disk.fault(d, delay_ms=3_600_000)
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket="data", Key=key, Body=bodies[key]), bodies))
    assert time.monotonic() - began < 40
    began = time.monotonic()
    check_objects(f.stack, f.sums)
    assert time.monotonic() - began < 8
    status = f.stack.status()
    assert [f.state_of(status, d) for d in bad] == ["offline"] * 2
    refused = f.stack.run("drive", "replace", bad[0], check=False)
    assert refused.returncode == 1 and "hangs: its device must answer" in refused.stderr, refused
    for d in bad:
        f.disk.fault(d)
    f.stack.wait("all well", lambda s: s["well"] and all(f.state_of(s, d) == "online" for d in bad), timeout=60)
    for key, body in bodies.items():
        assert s3.get_object(Bucket="data", Key=key)["Body"].read() == body
    f.puts_work_again()


def test_a_start_goes_on_without_drives_that_hang(faulty):
    f = faulty()
    mirrors = f.mirrors()
    bad = [mirrors[0], next(d for d in f.drives if d not in mirrors)]
    f.stack.kill_all()
    for d in bad:
        f.disk.fault(d, delay_ms=3_600_000)
    f.stack.up()
    status = f.stack.status()
    assert [f.state_of(status, d) for d in bad] == ["lost"] * 2
    assert "its device does not answer" in f.stack.run("drive", "ls").stdout
    refused = f.stack.run("drive", "replace", bad[1], check=False)
    assert refused.returncode == 1 and "hangs: its device must answer" in refused.stderr, refused
    check_objects(f.stack, f.sums)
    assert f.put("meanwhile", os.urandom(SIZES[-1])) is True
    for d in bad:
        f.disk.fault(d)
    f.stack.wait("all well", lambda s: s["well"] and all(f.state_of(s, d) == "online" for d in bad), timeout=60)
    f.puts_work_again()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
def test_when_all_drives_fail_nothing_is_lost_and_all_comes_back(faulty, error):
    f = faulty()
    for d in f.drives:
        f.disk.fault(d, write=error)
    for i in range(3):
        assert f.put(f"refused{i}", os.urandom(SIZES[i])) is not True
    for d in f.drives:
        f.disk.fault(d)
    if error != errno.ENOSPC:
        f.stack.kill_all()  # a drive that failed otherwise is out until a restart
        f.stack.up()
    f.puts_work_again()


def test_full_mirrors_of_the_namespace_are_down_until_there_is_room(faulty):
    f = faulty()
    mirrors = f.mirrors()
    for d in mirrors:
        f.disk.fault(os.path.join(d, "meta"), write=errno.ENOSPC)
    assert f.put("refused", b"x") is not True
    for d in mirrors:
        f.disk.fault(os.path.join(d, "meta"))
    f.puts_work_again()
