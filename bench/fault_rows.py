"""Rows about what follows a fault: how soon all is ready after SIGKILL, how fast a lost drive is repaired."""

import os
import shutil
import statistics
import threading
import time

from measure import REPEATS, Failed, direct_bandwidth
from mount_rows import in_processes
from s3_rows import stack_load

READY_OBJECTS, READY_FILES = 100_000, 10_000
REPAIR_OBJECT, REPAIR_OBJECTS = 64 << 20, 48
DATA_SHARDS = 4  # of the stack's 4+2


def write_burst(directory, begin, end):
    """Files that are too large for the namespace and stay in the burst buffer."""
    content = os.urandom(20 << 10)
    for i in range(begin, end):
        fd = os.open(f"{directory}/b{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.write(fd, content)
        os.close(fd)


def row_ready(bench):
    stack = bench.fresh("ready")
    try:
        stack.run("flush", "--hold")
        stack_load(stack, "--mix", "put", "--size", 4096, "--objects", READY_OBJECTS, "--connections", 128)
        directory = f"{stack.mount}/data/burst"
        os.mkdir(directory)
        in_processes(write_burst, READY_FILES, directory=directory)
        stack.wait("all files synced", lambda s: "unsynced" not in s["bufferd"]["at_risk"])
        seconds = []
        for _ in range(REPEATS):
            stack.kill_all()
            begin = time.perf_counter()
            stack.up()
            with open(f"{directory}/b{READY_FILES - 1}", "rb") as f:
                f.read(1)
            stack_load(stack, "--mix", "get", "--objects", READY_OBJECTS, "--operations", 1)
            seconds.append(time.perf_counter() - begin)
        files = len(os.listdir(directory))
        walk = stack_load(stack, "--mix", "walk", "--operations", 1)
        if files != READY_FILES or walk["keys"] != READY_OBJECTS:
            raise Failed(f"{files} files and {walk['keys']} objects are there")
        ready = statistics.median(seconds)
        return {"ours": ready, "against": 5, "unit": "s to the first read and GET", "ratio": ready / 5, "limit": 1.0, "at_most": True,
                "proof": {"all_s": [round(s, 2) for s in seconds], "objects": walk["keys"], "burst_files": files}}
    finally:
        bench.drop(stack)


def repaired(status):
    objectd = status["objectd"]
    return objectd["volumes_to_repair"] == 0 and not objectd["repairing"] and all(d["state"] == "online" for d in objectd["drives"])


def row_repair(bench):
    """3 GiB of objects, one drive lost: what repair moves while small objects are read and written. All drive directories share one
    disk, which reads K bytes for each that it writes to the new drive."""
    stack = bench.fresh("repair")
    try:
        stack_load(stack, "--mix", "put", "--size", REPAIR_OBJECT, "--objects", REPAIR_OBJECTS, "--connections", 4, "--prefix", "l/")
        small = ["--mix", "get:4,put:1", "--objects", 2000, "--size", 4096, "--connections", 4]
        stack_load(stack, "--mix", "put", *small[2:])
        calm, busy, rates, limits = [], [], [], []
        drives = [d["dir"] for d in stack.status()["objectd"]["drives"]]
        for turn in range(REPEATS):
            lost = drives[turn % len(drives)]
            limits.append(direct_bandwidth(bench.local, "write"))
            calm.append(stack_load(stack, *small, "--duration", "3s"))
            held = tree_bytes(lost)
            stack.down()
            shutil.rmtree(lost)
            os.mkdir(lost)
            stack.up()
            stop = threading.Event()

            def foreground():
                while not stop.is_set():
                    busy.append(stack_load(stack, *small, "--duration", "1s"))
            begin = time.perf_counter()
            stack.run("drive", "replace", lost)
            thread = threading.Thread(target=foreground)
            thread.start()
            try:
                stack.wait("the repair", repaired)
                rates.append(tree_bytes(lost) / (time.perf_counter() - begin) / 1e6)
            finally:
                stop.set()
                thread.join()
            if tree_bytes(lost) < 0.9 * held:
                raise Failed(f"{tree_bytes(lost)} bytes came back of {held}")
        written = statistics.median(rates)
        ours, limit = written * (DATA_SHARDS + 1), statistics.median(limits)

        def p99(runs):
            return statistics.median(max(r["get"]["p99_us"], r["put"]["p99_us"]) for r in runs)
        times = p99(busy) / p99(calm)
        return {"ours": ours, "against": limit, "unit": "MB/s", "ratio": ours / limit, "limit": 0.4,
                "proof": {"written_mb_s": round(written), "p99_calm_us": round(p99(calm)), "p99_during_us": round(p99(busy)),
                          "p99_times": round(times, 2), "p99_times_at_most": 2, "drive_bytes": tree_bytes(drives[0])},
                "also": times <= 2}
    finally:
        bench.drop(stack)


def tree_bytes(directory):
    """Bytes that a drive's segments take."""
    total = 0
    for where, _, names in os.walk(directory):
        total += sum(os.lstat(os.path.join(where, name)).st_blocks * 512 for name in names if name.endswith(".seg"))
    return total


ROWS = {"ready_after_kill": row_ready, "repair": row_repair}
