"""How bench/run measures: the stack in question and its counters, both sides in turns, the limits of drive and memory."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))

from stack import Failed, Stack, alive, drop_caches  # noqa: E402, F401

REPEATS = 5
GIB = 1 << 30
PORTS = ["--s3-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--bufferd-admin-listen", "127.0.0.1:0"]


class Bench:
    def __init__(self, directory):
        self.dir = directory
        self.local = os.path.join(directory, "local")
        os.makedirs(self.local)
        self.stack = Stack(os.path.join(directory, "stack"), os.path.join(ROOT, "build", "bin"))
        self.kept = {}  # what several rows ask for

    def up(self):
        if not self.stack.info:
            self.stack.up("--drives", "6", "--profile", "4+2", *PORTS)
        return self.stack

    def fresh(self, name):
        """A stack of its own, for a row that fills or breaks it; see `drop`."""
        stack = Stack(os.path.join(self.dir, name), os.path.join(ROOT, "build", "bin"))
        stack.up("--drives", "6", "--profile", "4+2", *PORTS)
        return stack

    @staticmethod
    def drop(stack):
        stack.run("down", check=False)
        shutil.rmtree(stack.data, ignore_errors=True)

    def fill_memory(self):
        """Fills what memory is free with clean page cache (a sparse file's), so that both sides get theirs by reclaiming, as
        on a machine that has been up for a while. Free memory is no common ground: a virtual machine may have handed it
        back to its host, and then whoever touches it first pays for that, four seconds a GiB where this was written.
        So it goes on until all that is free has just been used."""
        path = os.path.join(self.dir, "filler")
        with open(path, "ab+", buffering=0) as f:
            buffer, at, end = bytearray(8 << 20), os.path.getsize(path), None
            while end is None or at < end:
                f.truncate(at + len(buffer))
                at += os.preadv(f.fileno(), [buffer], at)
                if end is None and memory_free() < 512 << 20:
                    end = at + (1 << 30)

    def backing(self, size):
        """The burst file of this size."""
        files = subprocess.run(["find", os.path.join(self.stack.info["burst"], "files"), "-size", f"{size}c"], capture_output=True,
                               text=True, check=True).stdout.split()
        if len(files) != 1:
            raise Failed(f"{len(files)} burst files of {size} bytes")
        return files[0]

    @property
    def mounted(self):
        return os.path.join(self.stack.mount, "data")

    def counters(self, daemon):
        return self.stack.status()[daemon]["counters"]

    def close(self):
        if self.stack.info:
            self.stack.run("down", check=False)


def fdatasync_rate(directory):
    """4 KiB writes made durable one by one, a second."""
    path = os.path.join(directory, "sync-probe")
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, bytes(1 << 20), 0)
    os.fsync(fd)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < 0.5:
        os.pwrite(fd, bytes(4096), (count % 256) * 4096)
        os.fdatasync(fd)
        count += 1
    seconds = time.perf_counter() - begin
    os.close(fd)
    os.unlink(path)
    return count / seconds


def cpu_seconds(pid):
    """What a process has used of the processors so far, all its threads."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def daemon_pid(stack, name):
    return next(d["pid"] for d in stack.status()["daemons"] if d["name"] == name)


def metric(stack, name, daemon="objectd"):
    """A counter of a daemon, over all its labels."""
    with urllib.request.urlopen(f"http://{stack.status()[daemon]['admin']}/metrics") as reply:
        lines = reply.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def alternate(ours, limit, repeats=REPEATS):
    """Medians of both, the sides taking turns to go first. One turn before the clock counts warms both."""
    ours()
    limit()
    a, b = [], []
    for turn in range(repeats):
        for side, values in ((ours, a), (limit, b)) if turn % 2 == 0 else ((limit, b), (ours, a)):
            values.append(side())
    return statistics.median(a), statistics.median(b)


def memory_free():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("MemFree:"))


def drop_file(path):
    """Its pages only: what is freed for all gets cold (see fill_memory)."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def drop_tree(directory):
    for where, _, names in os.walk(directory):
        for name in names:
            drop_file(os.path.join(where, name))


def side_by_side(bench, write):
    """Seconds of write(path), medians of ours and local. Every file is a new one; they are removed after all of them."""
    bench.fill_memory()
    names = iter(range(1 << 20))
    directories = [f"{root}/{write.__name__}" for root in (bench.mounted, bench.local)]

    def side(directory):
        os.mkdir(directory)
        return lambda: write(f"{directory}/{next(names)}")
    try:
        return alternate(*map(side, directories))
    finally:
        for directory in directories:
            shutil.rmtree(directory)


def write_file(path, size, sync=True):
    """Seconds to write `size` bytes in 1 MiB pieces into a new file."""
    piece = memoryview(os.urandom(1 << 20))
    begin = time.perf_counter()
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL)
    for _ in range(size >> 20):
        os.write(fd, piece)
    if sync:
        os.fsync(fd)
    os.close(fd)
    return time.perf_counter() - begin


def read_whole(path):
    """MB/s of one reader, 4 MiB at a time, opening included."""
    buffer, size = bytearray(4 << 20), os.path.getsize(path)
    begin = time.perf_counter()
    with open(path, "rb", buffering=0) as f:
        while f.readinto(buffer):
            pass
    return size / (time.perf_counter() - begin) / 1e6


def fio_read(path, pattern):
    """MB/s of one fio run over the whole file (sequential) or two seconds of random 4 KiB."""
    args = ["--bs=1m", "--rw=read"] if pattern == "seq" else ["--bs=4k", "--rw=randread", "--time_based", "--runtime=2"]
    done = subprocess.run(["fio", "--name=r", f"--filename={path}", "--ioengine=psync", "--invalidate=0", "--output-format=json",
                           f"--size={os.path.getsize(path)}", *args], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["jobs"][0]["read"]["bw_bytes"] / 1e6


def direct_bandwidth(directory, rw):
    """MB/s of the drive itself: 1 GiB, 4 MiB blocks, four in flight, O_DIRECT. Writes go to a new file, as ours go to new
    space, and are synced."""
    path = os.path.join(directory, "drive-probe")
    if rw == "write" and os.path.exists(path):
        os.unlink(path)
    done = subprocess.run(["fio", "--name=d", f"--filename={path}", f"--rw={rw}", "--bs=4m", "--size=1g", "--direct=1",
                           "--ioengine=io_uring", "--iodepth=4", "--end_fsync=1", "--output-format=json"],
                          capture_output=True, text=True, check=True)
    job = json.loads(done.stdout)["jobs"][0]
    return job["read" if rw == "read" else "write"]["bw_bytes"] / 1e6
