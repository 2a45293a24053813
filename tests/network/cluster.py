"""A cluster of machines, which are namespaces of this one (scripts/lib/machines.py), with cables that can be pulled: objectd on the
first, GPU nodes with a burst buffer and a mount each, storage nodes with drives only."""

import contextlib
import hashlib
import os
import subprocess
import threading

import machines
import pytest

from conftest import BINARIES, WITHIN, Made, until

MiB = 1 << 20
WHY_NOT = machines.why_not()
needs_machines = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
ALL = os.environ.get("PERIGEE_NODES") == "all"
slow = pytest.mark.skipif(not ALL, reason="takes minutes; PERIGEE_NODES=all")


def md5(data):
    return hashlib.md5(data).hexdigest()


class Cluster:
    def __init__(self, provider, directory, networks=1, shm=None):
        """With several networks each machine has an interface on each."""
        self.provider, self.directory = provider, directory
        self.lan, self.made = machines.Lan(shm=shm), Made()
        self.more = [machines.Lan(chr(ord("b") + i)) for i in range(networks - 1)]

    def host(self):
        host = self.lan.add()
        for lan in self.more:
            host.connect(lan)
        return host

    def start(self, *options):
        """The first machine."""
        if self.provider == "tls":
            self.ca("init")
        host = self.host()
        self.first = self.made(up=False, prefix=host.prefix)
        self.first.host = host
        self.first.up("--drives", "3", "--s3-listen", f"{host.address}:9000", *self.network(host), *options)
        self.secret = os.path.join(self.first.data, "secret")
        self.objectd = ",".join(f"{self.provider}:{cable.address}:9002" for cable in host.cables)

    def start_nodes(self, gpu_nodes, data={}):
        """A namespace node with three drives, storage nodes n1 (two drives), n2 and n3, GPU nodes: at 2+1, any one with drives may be
        lost. `data`: directories of storage nodes, by name."""
        # A drain ends when the leases from before it are over.
        self.start("--node-name", "first", "--profile", "2+1", "--no-mount", "--admin-listen", "0.0.0.0:9001", "--daemon-option",
                   "objectd:--lease=90s")
        self.storage = [self.storage_node(name, drives, data.get(name)) for name, drives in (("n1", 2), ("n2", 1), ("n3", 1))]
        self.gpus = [self.gpu_node() for _ in range(gpu_nodes)]

    def ca(self, action, *words, to=""):
        directory = os.path.join(self.directory, to)
        os.makedirs(directory, exist_ok=True)
        subprocess.run([os.path.join(BINARIES, "perigee"), "ca", action, "--dir", directory, *words], check=True, timeout=60,
                       capture_output=True)
        return directory

    def network(self, host, authority="", port=""):
        """Options of a daemon, or of a whole machine."""
        addresses = [cable.address for cable in host.cables]
        listen = ",".join(address + port for address in addresses)
        if self.provider != "tls":
            return ["--listen", listen, "--transport", self.provider, "--fabric-trusted"]
        at = os.path.join(self.directory, authority)
        if not os.path.exists(os.path.join(at, f"{host.address}.crt")):
            self.ca("issue", *addresses, to=authority)
        return ["--listen", listen, "--ca-file", f"{at}/ca.crt", "--cert-file", f"{at}/{host.address}.crt",
                "--key-file", f"{at}/{host.address}.key"]

    def machine(self, data=None):
        """A stack that is not up yet, on a machine of its own."""
        host = self.host()
        stack = self.made(data=data, up=False, prefix=host.prefix)
        stack.host = host
        return stack

    def gpu_node(self):
        stack = self.machine()
        stack.up("--objectd", self.objectd, "--secret-file", self.secret, *self.network(stack.host))
        return stack

    def storage_node(self, name, drives, data=None):
        stack = self.machine(data)
        stack.name = name
        stack.up(*self.joining(stack, name), "--drives", str(drives), "--admin-listen", f"{stack.host.address}:9001")
        return stack

    def joining(self, stack, name, secret=None):
        """Options of a storage node, but for its drives."""
        return ["--join", self.objectd, "--node-name", name, "--secret-file", secret or self.secret, *self.network(stack.host)]

    def close(self):
        try:
            self.made.close()
        finally:
            for lan in [self.lan, *self.more]:
                lan.close()


class Files:
    """Saved on one node, and what they are."""

    def __init__(self, node, sizes, prefix):
        self.sums = {}
        for i, size in enumerate(sizes):
            data = os.urandom(size)
            self.sums[f"{prefix}{i}"] = md5(data)
            with open(os.path.join(node.mount, "data", f"{prefix}{i}"), "wb") as f:
                f.write(data)
                os.fsync(f.fileno())

    def check(self, node):
        for name, want in self.sums.items():
            with open(os.path.join(node.mount, "data", name), "rb") as f:
                assert md5(f.read()) == want, name

    def check_s3(self, stack):
        s3 = stack.s3()
        for name, want in self.sums.items():
            assert md5(s3.get_object(Bucket="data", Key=name)["Body"].read()) == want, name

    def readable(self, node):
        """Whether they can be read there; what is read must be right."""
        try:
            self.check(node)
        except OSError:
            return False
        return True

    def paths(self):
        return [f"data/{name}" for name in self.sums]


def storage(stack):
    """What `perigee node ls` says: the nodes by name, what may be lost, and how many volumes move."""
    listed = stack.json("node", "ls")
    return {node["name"]: node for node in listed["nodes"]}, listed["survives"], listed["moves"]


def node_of(cluster, name):
    return storage(cluster.first)[0][name]


def counters(stack):
    return stack.status()["objectd"]["counters"]


def wait_whole(cluster, *names):
    """Until these nodes are heard with all their drives, nothing is left to repair or to move, and one node may be lost."""
    def whole():
        nodes, survives, moves = storage(cluster.first)
        objectd = cluster.first.status()["objectd"]
        return (all(nodes[name]["heard"] and nodes[name]["drives_online"] == nodes[name]["drives"] for name in names)
                and objectd["volumes_to_repair"] == objectd["blobs_to_repair"] == moves == 0 and survives.startswith("any 1 node"))
    until("whole again", whole, 2 * WITHIN)


def saved(node, sizes, prefix):
    """Saved on a GPU node, in the object tier, and no longer in its burst buffer."""
    files = Files(node, sizes, prefix)
    node.run("flush", "--wait")
    node.run("evict")
    return files


def check(cluster, *saves):
    """Through S3 and through a GPU node's mount, from the drives."""
    node = cluster.gpus[-1]
    for files in saves:
        files.check_s3(cluster.first)
        node.run("evict")
        files.check(node)


def in_background(action):
    """A function that gives what `action` returned, or raises what it raised, and waits for that. An action that hangs is left
    behind: it ends when the daemons do."""
    ended = []

    def run():
        try:
            ended.append((action(), None))
        except BaseException as e:
            ended.append((None, e))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def outcome(what="in the background", within=2 * WITHIN):
        thread.join(within)
        assert ended, f"{what}: not within {within} s"
        result, error = ended[0]
        if error:
            raise error
        return result
    return outcome


def in_time(what, action, within=2 * WITHIN):
    """What `action` returns, which must not hang."""
    return in_background(action)(what, within)


@contextlib.contextmanager
def load(cluster, prefix):
    """Writes objects and reads them back all the while; all of them are right at the end."""
    stop, faults, sums = threading.Event(), [], {}
    s3 = cluster.first.s3()

    def run():
        while not stop.is_set():
            body, key = os.urandom(MiB + len(sums)), f"{prefix}{len(sums)}"
            try:
                s3.put_object(Bucket="data", Key=key, Body=body)
                sums[key] = md5(body)
                for name in {key, f"{prefix}0"}:
                    assert md5(s3.get_object(Bucket="data", Key=name)["Body"].read()) == sums[name], name
            except Exception as e:
                faults.append(e)
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        until("the load is under way", lambda: len(sums) > 1 or faults)
        yield
    finally:
        stop.set()
        thread.join()
    assert not faults, faults
    for key, want in sums.items():
        assert md5(s3.get_object(Bucket="data", Key=key)["Body"].read()) == want, key
