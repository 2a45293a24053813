"""The row of storage nodes: shards of a flush to three of them, each on a machine of its own (scripts/lib/machines.py)."""

import os
import shutil
import statistics
import subprocess
import sys
import time

from measure import GIB, PORTS, REPEATS, ROOT, Failed, Stack, alternate, cpu_seconds, daemon_pid, direct_bandwidth, write_file

sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))
import machines  # noqa: E402

BINARIES = os.path.join(ROOT, "build", "bin")
K, M = 2, 1


class Machines:
    """Three nodes with drives, of which one has the namespace, and a GPU node."""

    def __init__(self, directory, provider):
        self.dir, self.provider = directory, provider
        self.lan, self.stacks = machines.Lan(), []
        os.makedirs(directory)
        if provider == "tls":
            self.ca("init")

    def ca(self, action, *words):
        subprocess.run([os.path.join(BINARIES, "perigee"), "ca", action, "--dir", self.dir, *words], check=True, capture_output=True)

    def add(self, name, *options):
        host = self.lan.add()
        network = ["--listen", host.address, "--transport", self.provider]
        if self.provider == "tls":
            self.ca("issue", host.address)
            network += ["--ca-file", f"{self.dir}/ca.crt", "--cert-file", f"{self.dir}/{host.address}.crt",
                        "--key-file", f"{self.dir}/{host.address}.key"]
        else:
            network.append("--fabric-trusted")
        stack = Stack(os.path.join(self.dir, name), BINARIES, host.prefix)
        stack.address = f"{self.provider}:{host.address}:9002"
        self.stacks.append(stack)
        stack.up(*network, *options)
        return stack

    def close(self):
        for stack in reversed(self.stacks):
            stack.run("down", check=False)
        self.lan.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def row_flush_nodes(bench, provider):
    """Ours: bufferd seals, codes and sends 1 GiB to the drives of three nodes. Against: the slower of the way to one of them, alone,
    and the disk, which all of them share, for what of it is not parity."""
    why = machines.why_not()
    if why:
        raise Failed(why)
    cluster = Machines(os.path.join(bench.dir, f"nodes-{provider}"), provider)
    try:
        first = cluster.add("first", "--node-name", "first", "--profile", f"{K}+{M}", "--no-mount", "--drives", "3", *PORTS[:4])
        secret = ["--secret-file", os.path.join(first.data, "secret")]
        joining = ["--join", first.address, *secret, "--drives", "1", *PORTS[2:4]]
        nodes = [cluster.add(name, *joining, "--node-name", name) for name in ("n1", "n2")]
        gpu = cluster.add("gpu", "--objectd", first.address, *secret)
        first.wait("three nodes", lambda s: len([n for n in first.json("node", "ls")["nodes"] if n["drives"]]) == 3 and
                   not first.json("node", "ls")["moves"])
        names = [f"flush-{i}" for i in range(REPEATS + 1)]
        pids = [daemon_pid(gpu, "bufferd")] + [daemon_pid(stack, "objectd") for stack in (first, *nodes)]
        way, spent = [], []

        def ours():
            gpu.run("flush", "--hold")
            name = names.pop()
            write_file(f"{gpu.mount}/data/{name}", GIB)
            bench.fill_memory()
            time.sleep(0.2)  # the seal comes after close
            begin = time.perf_counter()
            gpu.run("flush", "--resume")
            gpu.run("flush", "--wait", f"data/{name}")
            return GIB / (time.perf_counter() - begin) / 1e6

        def counted():
            start = sum(map(cpu_seconds, pids))
            rate = ours()
            spent.append(sum(map(cpu_seconds, pids)) - start)
            return rate

        def limit():
            rows = gpu.json("bench", "net", "--to", nodes[0].address, "--size", "64M")["rows"]
            way.append(max(row["sent_bytes_per_s"] for row in rows) / 1e6)
            return min(way[-1], direct_bandwidth(bench.local, "write")) * K / (K + M)
        rate, against = alternate(counted, limit)
        flushed = gpu.status()["bufferd"]["counters"]["bytes_flushed"]
        return {"ours": rate, "against": against, "unit": "MB/s", "ratio": rate / against, "limit": 0.7,
                "proof": {"way_MBps": round(statistics.median(way)), "bytes_flushed": flushed, "tier": gpu.stat("data/flush-1")["tier"],
                          "cpu_s_per_GB": round(statistics.median(spent) / (GIB / 1e9), 2)}}
    finally:
        cluster.close()


ROWS = {f"flush_nodes_{provider}": lambda bench, provider=provider: row_flush_nodes(bench, provider) for provider in ("tls", "ucx", "ofi")}
