"""The rows of bench/run. Each gives ours, the limit taken in the same run, their ratio, and the counters that prove its path."""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))

from stack import Failed, Stack, drop_caches  # noqa: E402

REPEATS = 5
GIB = 1 << 30
PORTS = ["--s3-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--bufferd-admin-listen", "127.0.0.1:0"]


class Bench:
    def __init__(self, directory):
        self.dir = directory
        self.local = os.path.join(directory, "local")
        os.makedirs(self.local)
        self.stack = Stack(os.path.join(directory, "stack"), os.path.join(ROOT, "build", "bin"))

    def up(self):
        if not self.stack.info:
            self.stack.up("--drives", "6", "--profile", "4+2", *PORTS)
        return self.stack

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


def row_reads(bench, pattern, dropped):
    bench.up()
    ours_path, local_path = f"{bench.mounted}/read", f"{bench.local}/read"
    if not os.path.exists(ours_path):
        write_file(ours_path, GIB)
        write_file(local_path, GIB)
    bench.stack.run("flush", "--resume")
    bench.stack.run("flush", "--wait")
    before = bench.counters("fuse")

    bench.fill_memory()

    def side(path, backing):
        def once():
            if dropped:
                drop_file(backing)
            return fio_read(path, pattern)
        return once
    ours, limit = alternate(side(ours_path, bench.backing(GIB)), side(local_path, local_path))
    after = bench.counters("fuse")
    return {"ours": ours, "against": limit, "unit": "MB/s", "ratio": ours / limit, "limit": 0.95,
            "proof": {"passthrough_opens": after["opens_passthrough"] - before["opens_passthrough"],
                      "fuse_read_requests": after["read_requests"] - before["read_requests"]}}


def row_write(bench):
    """Without a flush beside it: how much the mount costs. Saves during a flush are another question."""
    bench.up()
    bench.stack.run("flush", "--hold")
    before = bench.counters("fuse")

    def write(path):
        return write_file(path, GIB)
    ours, limit = side_by_side(bench, write)
    after = bench.counters("fuse")
    return {"ours": GIB / ours / 1e6, "against": GIB / limit / 1e6, "unit": "MB/s", "ratio": limit / ours, "limit": 0.90,
            "proof": {"passthrough_opens": after["opens_passthrough"] - before["opens_passthrough"],
                      "fuse_write_requests": after["write_requests"] - before["write_requests"]}}


def row_torch_save(bench, sync):
    import torch
    bench.up()
    bench.stack.run("flush", "--hold")
    state = {f"w{i}": torch.randn(1 << 24) for i in range(16)}

    def save(path):
        begin = time.perf_counter()
        with open(path, "wb") as f:
            torch.save(state, f)
            if sync:
                f.flush()
                os.fsync(f.fileno())
        return time.perf_counter() - begin
    before = bench.counters("fuse")
    ours, limit = side_by_side(bench, save)
    after = bench.counters("fuse")
    return {"ours": ours, "against": limit, "unit": "s blocked", "ratio": ours / limit, "limit": 1.10, "at_most": True,
            "proof": {"passthrough_opens": after["opens_passthrough"] - before["opens_passthrough"],
                      "fuse_write_requests": after["write_requests"] - before["write_requests"]}}


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


def row_flush(bench):
    bench.up()
    before = bench.counters("bufferd")
    names = [f"flush-{i}" for i in range(REPEATS + 1)]  # all stay: deleting is no part of it

    def ours():
        bench.stack.run("flush", "--hold")
        name = names.pop()
        write_file(f"{bench.mounted}/{name}", GIB)
        bench.fill_memory()
        time.sleep(0.2)  # the seal comes after close
        begin = time.perf_counter()
        bench.stack.run("flush", "--resume")
        bench.stack.run("flush", "--wait", f"data/{name}")
        return GIB / (time.perf_counter() - begin) / 1e6
    ours_mbps, limit = alternate(ours, lambda: direct_bandwidth(bench.local, "write"))
    after = bench.counters("bufferd")
    return {"ours": ours_mbps, "against": limit * 4 / 6, "unit": "MB/s", "ratio": ours_mbps / (limit * 4 / 6), "limit": 0.6,
            "proof": {"bytes_flushed": after["bytes_flushed"] - before["bytes_flushed"], "tier": bench.stack.stat("data/flush-1")["tier"]}}


def row_restore(bench):
    """Two drives gone, caches dropped: how fast a 1 GiB file comes back through the mount."""
    stack = Stack(os.path.join(bench.dir, "restore"), os.path.join(ROOT, "build", "bin"))
    stack.up("--drives", "6", "--profile", "4+2", *PORTS)
    try:
        write_file(f"{stack.mount}/data/f", GIB)
        stack.run("flush", "--wait")
        drives = [d["dir"] for d in stack.status()["objectd"]["drives"]]
        stack.run("evict")
        stack.down()
        drop_caches()
        for d in random.Random(1).sample(drives, 2):
            shutil.rmtree(d)
            os.mkdir(d)
        stack.up()
        before = stack.status()["bufferd"]["counters"]

        def ours():
            stack.run("evict")
            for drive in drives:
                drop_tree(drive)
            bench.fill_memory()
            return read_whole(f"{stack.mount}/data/f")

        def local_cold():
            path = os.path.join(bench.local, "cold")
            if not os.path.exists(path):
                write_file(path, GIB)
            drop_file(path)
            bench.fill_memory()
            return read_whole(path)
        ours_mbps, limit = alternate(ours, lambda: direct_bandwidth(bench.local, "read"))
        status = stack.status()
        after = status["bufferd"]["counters"]
        # What the same read costs where the bytes lie in a local file: memory for the page cache, and a copy.
        local = statistics.median(local_cold() for _ in range(3))
        return {"ours": ours_mbps, "against": limit, "unit": "MB/s", "ratio": ours_mbps / limit, "limit": 0.5,
                "proof": {"bytes_filled_blobs": after["bytes_filled_blobs"] - before["bytes_filled_blobs"],
                          "lost": sum(d["state"] != "online" for d in status["objectd"]["drives"]),
                          "local_cold_read_MBps": round(local)}}
    finally:
        stack.run("down", check=False)
        shutil.rmtree(stack.data, ignore_errors=True)


def row_encode(bench):
    """The repetitions of both sides are interleaved at random by Google Benchmark."""
    out = os.path.join(bench.dir, "ec.json")
    subprocess.run([os.path.join(ROOT, "build", "bench", "bin", "ec_bench"), "--benchmark_filter=BareIsal|ThroughErasureCode",
                    "--benchmark_repetitions=9", "--benchmark_enable_random_interleaving=true",
                    f"--benchmark_out={out}", "--benchmark_out_format=json"], capture_output=True, text=True, check=True)
    with open(out) as f:
        medians = {b["run_name"]: b for b in json.load(f)["benchmarks"] if b.get("aggregate_name") == "median"}
    ours, bare = (medians[name]["bytes_per_second"] / 1e6 for name in ("ThroughErasureCode", "BareIsal"))
    return {"ours": ours, "against": bare, "unit": "MB/s", "ratio": ours / bare, "limit": 0.9, "proof": {}}


def row_idle(bench):
    bench.up()
    bench.stack.run("flush", "--resume")
    bench.stack.run("flush", "--wait")
    time.sleep(15)
    pids = bench.stack.pids()

    def cpu():
        total = 0
        for pid in pids:
            with open(f"/proc/{pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def rss():
        total = 0
        for pid in pids:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                total += next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
        return total / 1024
    before, begin = cpu(), time.perf_counter()
    time.sleep(20)
    share = (cpu() - before) / (time.perf_counter() - begin)
    mib = rss()
    return {"ours": mib, "against": 200, "unit": "MiB resident (Pss)", "ratio": mib / 200, "limit": 1.0, "at_most": True,
            "proof": {"core_percent": round(share * 100, 2), "core_percent_at_most": 1.0}, "also": share < 0.01}


ROWS = {
    "read_seq_warm": lambda b: row_reads(b, "seq", False),
    "read_rand_warm": lambda b: row_reads(b, "rand", False),
    "read_seq_dropped": lambda b: row_reads(b, "seq", True),
    "read_rand_dropped": lambda b: row_reads(b, "rand", True),
    "write_fsync": row_write,
    "torch_save": lambda b: row_torch_save(b, False),
    "torch_save_fsync": lambda b: row_torch_save(b, True),
    "flush": row_flush,
    "restore_two_lost": row_restore,
    "encode": row_encode,
    "idle": row_idle,
}


def main():
    parser = argparse.ArgumentParser(prog="bench/run")
    parser.add_argument("--only", action="append", choices=sorted(ROWS), help="this row (several times for several)")
    parser.add_argument("--json", action="store_true", help="one line of JSON a row")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--dir", default=os.path.join(ROOT, ".work"), help="where to measure: a directory of the file system in question")
    args = parser.parse_args()
    if args.list:
        print("\n".join(ROWS))
        return 0
    os.makedirs(args.dir, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="bench-", dir=args.dir)
    bench = Bench(directory)
    well = True
    try:
        for name in args.only or ROWS:
            before = fdatasync_rate(bench.local)
            try:
                row = ROWS[name](bench)
            except (Failed, OSError, subprocess.SubprocessError, KeyError, StopIteration) as e:
                row = {"error": f"{type(e).__name__}: {e}"}
            row = {"name": name, **row, "fdatasync_per_s": [round(before), round(fdatasync_rate(bench.local))]}
            row["ok"] = "error" not in row and row.get("also", True) and \
                (row["ratio"] <= row["limit"] if row.get("at_most") else row["ratio"] >= row["limit"])
            well &= row["ok"]
            print(json.dumps(row) if args.json else text(row), flush=True)
    finally:
        bench.close()
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if well else 1


def text(row):
    if "error" in row:
        return f"{row['name']:18} FAILED: {row['error']}"
    word = "at most" if row.get("at_most") else "at least"
    return (f"{row['name']:18} {row['ours']:10.1f} against {row['against']:10.1f} {row['unit']}: ratio {row['ratio']:.3f}, {word} "
            f"{row['limit']}: {'ok' if row['ok'] else 'SHORT'}   fdatasync/s {row['fdatasync_per_s']}   {row['proof']}")


if __name__ == "__main__":
    sys.exit(main())
