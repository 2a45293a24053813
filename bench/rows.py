"""The rows of bench/run. Each gives ours, the limit taken in the same run, their ratio, and the counters that prove its path."""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from measure import (GIB, PORTS, REPEATS, ROOT, Bench, Failed, Stack, alternate, direct_bandwidth, drop_caches, drop_file,
                     drop_tree, fdatasync_rate, fio_read, read_whole, side_by_side, write_file)
import fault_rows
import mount_rows
import node_rows
import s3_rows


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


def google_benchmark(bench, program, pattern):
    """Medians by name; the repetitions of all are interleaved at random by Google Benchmark."""
    out = os.path.join(bench.dir, f"{program}.json")
    subprocess.run([os.path.join(ROOT, "build", "bench", "bin", program), f"--benchmark_filter={pattern}",
                    "--benchmark_repetitions=9", "--benchmark_enable_random_interleaving=true",
                    f"--benchmark_out={out}", "--benchmark_out_format=json"], capture_output=True, text=True, check=True,
                   env={**os.environ, "TMPDIR": bench.dir})
    with open(out) as f:
        return {b["run_name"]: b for b in json.load(f)["benchmarks"] if b.get("aggregate_name") == "median"}


def row_encode(bench):
    medians = google_benchmark(bench, "ec_bench", "BareIsal|ThroughErasureCode")
    ours, bare = (medians[name]["bytes_per_second"] / 1e6 for name in ("ThroughErasureCode", "BareIsal"))
    return {"ours": ours, "against": bare, "unit": "MB/s", "ratio": ours / bare, "limit": 0.9, "proof": {}}


def row_small_shards(bench):
    """4,000 shards of 16 KiB to another node's drives over TLS, in batches and one by one."""
    medians = google_benchmark(bench, "shard_bench", "WriteSmallShards")
    singly, batched = (medians[f"WriteSmallShards/batches:{on}/process_time/real_time"] for on in (0, 1))
    ours, against = batched["items_per_second"], singly["items_per_second"]
    return {"ours": ours, "against": against, "unit": "files/s", "ratio": ours / against, "limit": 1.0,
            "proof": {"calls_per_file": round(batched["calls_per_file"], 3), "calls_per_file_at_most": 0.5,
                      "calls_per_file_singly": round(singly["calls_per_file"], 3)}, "also": batched["calls_per_file"] <= 0.5}


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
    "small_shards": row_small_shards,
    "idle": row_idle,
    **mount_rows.ROWS,
    **s3_rows.ROWS,
    **fault_rows.ROWS,
    **node_rows.ROWS,
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is up is taken down
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
