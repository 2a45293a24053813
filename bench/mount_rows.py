"""Rows of the mount beside reading and writing: saves while a checkpoint is flushed, and small files, one process and four."""

import multiprocessing
import os
import shutil
import statistics
import threading
import time

from measure import GIB, REPEATS, Failed, alternate, metric, write_file

SAVE = GIB // 2
CREATED, READ = 16 << 10, 64 << 10
TURN_FILES = 1000  # of one process in one turn
MANY_FILES = 100_000
PROCESSES = 4
READ_ROUNDS = 10


def flushed(bench):
    """Bytes of blobs that bufferd has written; its own count of what was flushed moves a file at a time."""
    return metric(bench.stack, "perigee_blob_bytes_written_total", "bufferd")


def start_flush(bench, name, size):
    """A checkpoint of `size` whose flush is under way: bytes of it have arrived."""
    bench.stack.run("flush", "--hold")
    write_file(f"{bench.mounted}/{name}", size)
    time.sleep(2.5)  # its linger
    before = flushed(bench)
    bench.stack.run("flush", "--resume")
    while flushed(bench) == before:
        time.sleep(0.01)


def row_save_during_flush(bench):
    bench.up()
    names = iter(range(1 << 20))
    overlap = []

    def save():
        path = f"{bench.mounted}/save-{next(names)}"
        seconds = write_file(path, SAVE, sync=False)
        os.unlink(path)
        return seconds

    def beside_flush():
        name = f"before-{next(names)}"
        bench.fill_memory()
        start_flush(bench, name, 2 * GIB)
        before = flushed(bench)
        seconds = save()
        overlap.append((flushed(bench) - before, bench.stack.status()["bufferd"]["flushing"]))
        bench.stack.run("flush", "--wait", f"data/{name}")
        os.unlink(f"{bench.mounted}/{name}")
        return seconds

    def alone():
        bench.stack.run("flush", "--resume")
        bench.stack.run("flush", "--wait")
        bench.stack.run("flush", "--hold")
        bench.fill_memory()
        return save()
    ours, limit = alternate(beside_flush, alone)
    if any(moved == 0 for moved, _ in overlap):
        raise Failed("nothing was flushed during a save")
    return {"ours": ours, "against": limit, "unit": "s blocked", "ratio": ours / limit, "limit": 1.3, "at_most": True,
            "proof": {"bytes_flushed_during_saves": [moved for moved, _ in overlap],
                      "flush_outlasted_save": sum(running > 0 for _, running in overlap)}}


def row_flush_under_load(bench):
    """The flush of 1 GiB while one save follows the other, and while nothing else happens."""
    bench.up()
    names = iter(range(1 << 20))
    saved = []

    def flush():
        name = f"load-{next(names)}"
        start_flush(bench, name, GIB)
        begin, before = time.perf_counter(), flushed(bench)
        bench.stack.run("flush", "--wait", f"data/{name}")
        rate = (flushed(bench) - before) / (time.perf_counter() - begin) / 1e6
        os.unlink(f"{bench.mounted}/{name}")
        return rate

    def loaded():
        bench.fill_memory()
        stop = threading.Event()

        def saves():
            count = 0
            while not stop.is_set():
                path = f"{bench.mounted}/again-{next(names)}"
                write_file(path, SAVE, sync=False)
                os.unlink(path)
                count += 1
            saved.append(count)
        thread = threading.Thread(target=saves)
        thread.start()
        try:
            return flush()
        finally:
            stop.set()
            thread.join()

    def free():
        bench.fill_memory()
        return flush()
    ours, limit = alternate(loaded, free)
    return {"ours": ours, "against": limit, "unit": "MB/s", "ratio": ours / limit, "limit": 0.3, "proof": {"saves": saved}}


def create_files(directory, begin, end):
    """Microseconds of each create + write + close."""
    content, micros = os.urandom(CREATED), []
    for i in range(begin, end):
        start = time.perf_counter_ns()
        fd = os.open(f"{directory}/f{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.write(fd, content)
        os.close(fd)
        micros.append((time.perf_counter_ns() - start) / 1000)
    return micros


def read_files(directory, begin, end):
    """Microseconds of each open + read + close."""
    micros = []
    for i in range(begin, end):
        start = time.perf_counter_ns()
        fd = os.open(f"{directory}/f{i}", os.O_RDONLY)
        size = len(os.read(fd, READ))
        os.close(fd)
        micros.append((time.perf_counter_ns() - start) / 1000)
        if size != READ:
            raise Failed(f"read {size} bytes of {READ}")
    return micros


def read_again(directory, begin, end):
    for _ in range(READ_ROUNDS):
        read_files(directory, begin, end)


def in_processes(work, count, **kwargs):
    """`work(directory..., begin, end)` by PROCESSES processes; seconds. `kwargs`: its first argument."""
    share = count // PROCESSES
    start = multiprocessing.Barrier(PROCESSES + 1)

    def one(index):
        start.wait()
        work(kwargs["directory"], index * share, (index + 1) * share)
    workers = [multiprocessing.Process(target=one, args=(i,)) for i in range(PROCESSES)]
    for w in workers:
        w.start()
    start.wait()
    begin = time.perf_counter()
    for w in workers:
        w.join()
    seconds = time.perf_counter() - begin
    if any(w.exitcode for w in workers):
        raise Failed(f"a process ended with {[w.exitcode for w in workers]}")
    return seconds


def row_small_one(bench, work, prepare, allowed_us):
    """Our microseconds over the local file system's, against what is allowed."""
    bench.up()
    bench.stack.run("flush", "--hold")
    roots = [f"{root}/{work.__name__}" for root in (bench.mounted, bench.local)]
    turns = iter(range(1 << 20))
    before = bench.counters("fuse")

    def side(root):
        os.mkdir(root)
        if prepare:
            prepare(root, TURN_FILES)
            settle(bench)

        def once():
            directory = root if prepare else f"{root}/{next(turns)}"
            os.makedirs(directory, exist_ok=True)
            return statistics.median(work(directory, 0, TURN_FILES))
        return once
    try:
        ours, native = alternate(*map(side, roots))
    finally:
        for root in roots:
            shutil.rmtree(root, ignore_errors=True)
    after = bench.counters("fuse")
    return {"ours": ours - native, "against": allowed_us, "unit": "us above native", "ratio": (ours - native) / allowed_us, "limit": 1.0,
            "at_most": True, "proof": {"ours_us": round(ours), "native_us": round(native),
                                       "passthrough_opens": after["opens_passthrough"] - before["opens_passthrough"]}}


def make_readable(root, count):
    for i in range(count):
        write_small(f"{root}/f{i}")


def write_small(path):
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(fd, os.urandom(READ))
    os.close(fd)


def at_risk(bench):
    """Files that no sync has reached yet."""
    return bench.stack.status()["bufferd"]["at_risk"].get("unsynced", {}).get("files", 0)


def settle(bench):
    """Until nothing is unsynced, so that no sync of what was written runs beside what is measured next; seconds."""
    begin = time.perf_counter()
    while at_risk(bench) > 0 and time.perf_counter() - begin < 60:
        time.sleep(0.1)
    return time.perf_counter() - begin


def row_create_many(bench):
    bench.up()
    bench.stack.run("flush", "--resume")
    directory = f"{bench.mounted}/many"
    os.mkdir(directory)
    backlog, stop = [], threading.Event()

    def sample():
        while not stop.wait(0.5):
            backlog.append(at_risk(bench))
    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        seconds = in_processes(create_files, MANY_FILES, directory=directory)
    finally:
        stop.set()
        sampler.join()
        settled = settle(bench)
        count = len(os.listdir(directory))
        shutil.rmtree(directory, ignore_errors=True)
    if count != MANY_FILES:
        raise Failed(f"{count} files are there, not {MANY_FILES}")
    # Growing: the last third holds more than the middle one did.
    third = max(1, len(backlog) // 3)
    middle, last = max(backlog[third:2 * third], default=0), max(backlog[-third:], default=0)
    rate = MANY_FILES / seconds
    return {"ours": rate, "against": 3000, "unit": "files/s", "ratio": rate / 3000, "limit": 1.0,
            "proof": {"unsynced_middle": middle, "unsynced_last": last, "unsynced_gone_after_s": round(settled, 1)},
            "also": last <= max(1.25 * middle, rate)}


def row_read_many(bench):
    bench.up()
    bench.stack.run("flush", "--hold")
    directory = f"{bench.mounted}/reads"
    os.mkdir(directory)
    files = 2000
    make_readable(directory, files)
    settle(bench)
    before = bench.counters("fuse")
    try:
        rates = []
        for _ in range(REPEATS):
            rates.append(READ_ROUNDS * files / in_processes(read_again, files, directory=directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    rate = statistics.median(rates)
    after = bench.counters("fuse")
    return {"ours": rate, "against": 20000, "unit": "files/s", "ratio": rate / 20000, "limit": 1.0,
            "proof": {"passthrough_opens": after["opens_passthrough"] - before["opens_passthrough"]}}


ROWS = {
    "save_during_flush": row_save_during_flush,
    "flush_under_load": row_flush_under_load,
    "create_16k": lambda b: row_small_one(b, create_files, None, 350),
    "create_16k_four": row_create_many,
    "open_64k": lambda b: row_small_one(b, read_files, make_readable, 90),
    "open_64k_four": row_read_many,
}
