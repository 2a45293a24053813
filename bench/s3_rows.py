"""Rows of the S3 door: small and large objects, CPU a request, listings. The client is s3_load, which checks every answer."""

import contextlib
import json
import os
import statistics
import subprocess

from measure import REPEATS, ROOT, Failed, alternate, cpu_seconds, daemon_pid, fdatasync_rate, metric

TOOLS = os.path.join(ROOT, "build", "bench", "bin")
SMALL = 4096
LARGE = 64 << 20
SMALL_OBJECTS = 20000
KEYS = 1_000_000
KEYS_DELETED = 900_000


def load(endpoint, *args, credentials=None, timeout=390):
    """One run of s3_load: its line of JSON."""
    signed = ["--credentials", credentials] if credentials else []
    done = subprocess.run([os.path.join(TOOLS, "s3_load"), "--endpoint", endpoint.removeprefix("http://"), "--bucket", "data",
                           *signed, *map(str, args)], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise Failed(f"s3_load: {done.stderr.strip()}")
    return json.loads(done.stdout)


def stack_load(stack, *args, **kwargs):
    return load(stack.endpoint, *args, credentials=stack.info["credentials"], **kwargs)


@contextlib.contextmanager
def beast(size):
    """The bare server: its address and its pid."""
    server = subprocess.Popen([os.path.join(TOOLS, "beast_server"), str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True)
    try:
        yield server.stdout.readline().strip(), server.pid
    finally:
        server.stdin.close()
        server.wait()
        server.stdout.close()


class Side:
    """One server under one kind of load: what each turn gave."""

    def __init__(self, run, pid, operation):
        self.run, self.pid, self.operation = run, pid, operation
        self.micros, self.client_micros, self.p99 = [], [], []

    def __call__(self):
        before = cpu_seconds(self.pid)
        result = self.run()
        mine = result[self.operation]
        self.micros.append((cpu_seconds(self.pid) - before) / mine["count"] * 1e6)
        self.client_micros.append(result["client_cpu_seconds"] / mine["count"] * 1e6)
        self.p99.append(mine["p99_us"])
        return mine["per_second"]

    def proof(self):
        return {"server_cpu_us": round(statistics.median(self.micros)), "client_cpu_us": round(statistics.median(self.client_micros)),
                "p99_us": round(statistics.median(self.p99))}


def commits_per_sync(stack, commits, syncs):
    """A sync is of one mirror's log; a commit is synced by all."""
    in_sync = int(stack.status()["objectd"]["mirrors"].split()[0])  # "3 of 3 in sync: ..."
    return commits * in_sync / syncs


def measure_small(bench, operation):
    """Ours and Beast's, requests a second and CPU a request, 4 KiB, 32 clients. Kept: two rows ask for it."""
    kept = bench.kept.get(("small", operation))
    if kept:
        return kept
    stack = bench.up()
    stack_load(stack, "--mix", "put", "--size", SMALL, "--objects", SMALL_OBJECTS, "--connections", 32)
    args = ["--mix", operation, "--size", SMALL, "--objects", SMALL_OBJECTS, "--connections", 32, "--duration", "3s"]
    requests, commits, syncs = "perigee_s3_requests_total", "perigee_kv_commits_total", "perigee_kv_syncs_total"
    before = {name: metric(stack, name) for name in (requests, commits, syncs)}
    with beast(SMALL) as (address, pid):
        ours = Side(lambda: stack_load(stack, *args), daemon_pid(stack, "objectd"), operation)
        bare = Side(lambda: load(address, *args), pid, operation)
        rates = alternate(ours, bare)
    moved = {name: metric(stack, name) - before[name] for name in before}
    proof = {"server_requests": moved[requests], "ours": ours.proof(), "beast": bare.proof()}
    if operation == "put":
        proof["commits_per_sync"] = round(commits_per_sync(stack, moved[commits], moved[syncs]), 1)
    kept = bench.kept["small", operation] = (ours, bare, rates, proof)
    return kept


def row_get_small(bench):
    _, _, (ours, bare), proof = measure_small(bench, "get")
    return {"ours": ours, "against": bare, "unit": "GET/s", "ratio": ours / bare, "limit": 0.3, "proof": proof}


def row_put_small(bench):
    """Against what one thread gets from the drive that waits for every 4 KiB."""
    stack = bench.up()
    args = ["--mix", "put", "--size", SMALL, "--objects", SMALL_OBJECTS, "--connections", 32, "--duration", "3s", "--prefix", "p/"]
    commits, syncs = "perigee_kv_commits_total", "perigee_kv_syncs_total"
    before = metric(stack, commits), metric(stack, syncs)
    side = Side(lambda: stack_load(stack, *args), daemon_pid(stack, "objectd"), "put")
    ours, limit = alternate(side, lambda: fdatasync_rate(bench.local))
    per_sync = commits_per_sync(stack, metric(stack, commits) - before[0], metric(stack, syncs) - before[1])
    return {"ours": ours, "against": limit, "unit": "PUT/s against fdatasync/s", "ratio": ours / limit, "limit": 3,
            "proof": {"commits_per_sync": round(per_sync, 1), "commits_per_sync_at_least": 8, **side.proof()}, "also": per_sync >= 8}


def row_get_large(bench):
    stack = bench.up()
    objects = ["--size", LARGE, "--objects", 8, "--connections", 4, "--prefix", "l/"]
    stack_load(stack, "--mix", "put", *objects)
    before = bench.counters("objectd")["blob_bytes_read"]
    args = ["--mix", "get", *objects, "--duration", "3s"]
    with beast(LARGE) as (address, pid):
        side = Side(lambda: stack_load(stack, *args), daemon_pid(stack, "objectd"), "get")
        bare = Side(lambda: load(address, *args), pid, "get")
        ours, limit = alternate(side, bare)
    scale = LARGE / 1e6
    return {"ours": ours * scale, "against": limit * scale, "unit": "MB/s", "ratio": ours / limit, "limit": 0.5,
            "proof": {"blob_bytes_read": bench.counters("objectd")["blob_bytes_read"] - before, "ours": side.proof(),
                      "beast": bare.proof()}}


def row_cpu(bench, operation, limit):
    ours, bare, _, proof = measure_small(bench, operation)
    a, b = statistics.median(ours.micros), statistics.median(bare.micros)
    return {"ours": a, "against": b, "unit": f"us of CPU a {operation.upper()}", "ratio": a / b, "limit": limit, "at_most": True,
            "proof": proof}


def fill_listing(stack):
    """A million empty objects; seconds."""
    return stack_load(stack, "--mix", "put", "--size", 0, "--objects", KEYS, "--connections", 256, timeout=3600)["seconds"]


def pages(stack):
    return stack_load(stack, "--mix", "page", "--objects", KEYS, "--operations", 200)["page"]


def walk(stack, keys):
    """Seconds."""
    result = stack_load(stack, "--mix", "walk", "--operations", 1)
    if result["keys"] != keys:
        raise Failed(f"a walk of {result['keys']} keys, not {keys}")
    return result["seconds"]


def list_filled(stack):
    page = pages(stack)
    seconds = statistics.median(walk(stack, KEYS) for _ in range(REPEATS))
    gone = stack_load(stack, "--mix", "delete", "--objects", KEYS_DELETED, "--connections", 32, timeout=3600)["seconds"]
    after = pages(stack)
    return {"page": page, "walk": seconds, "after": after,
            "proof": {"keys": KEYS, "delete_s": round(gone), "walk_after_s": round(walk(stack, KEYS - KEYS_DELETED), 2)}}


def measure_listing(bench):
    """A bucket of a million keys: pages, walks, and pages once nine tenths are gone. Kept: three rows ask for it."""
    if "listing" not in bench.kept:
        stack = bench.fresh("listing")
        try:
            put = fill_listing(stack)
            bench.kept["listing"] = list_filled(stack)
            bench.kept["listing"]["proof"]["put_s"] = round(put)
        finally:
            bench.drop(stack)
    return bench.kept["listing"]


def row_page(bench, which, limit):
    got = measure_listing(bench)
    ms = got[which]["p50_us"] / 1000
    return {"ours": ms, "against": limit, "unit": "ms a page", "ratio": ms / limit, "limit": 1.0, "at_most": True,
            "proof": {"p99_ms": round(got[which]["p99_us"] / 1000, 1), **got["proof"]}}


def row_walk(bench):
    got = measure_listing(bench)
    return {"ours": got["walk"], "against": 5, "unit": "s a walk", "ratio": got["walk"] / 5, "limit": 1.0, "at_most": True,
            "proof": got["proof"]}


ROWS = {
    "s3_put_4k": row_put_small,
    "s3_get_4k": row_get_small,
    "s3_get_64m": row_get_large,
    "s3_get_cpu": lambda b: row_cpu(b, "get", 4),
    "s3_put_cpu": lambda b: row_cpu(b, "put", 10),
    "s3_page": lambda b: row_page(b, "page", 5),
    "s3_walk": row_walk,
    "s3_page_after_delete": lambda b: row_page(b, "after", 10),
}
