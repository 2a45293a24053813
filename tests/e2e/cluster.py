"""A cluster of machines, which are namespaces of this one (scripts/lib/machines.py), with cables that can be pulled: objectd on the
first, GPU nodes with a burst buffer and a mount each, storage nodes with drives only."""

import hashlib
import os
import subprocess

import machines
import pytest

from conftest import BINARIES, WITHIN, Made, until

WHY_NOT = machines.why_not()
needs_machines = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


def md5(data):
    return hashlib.md5(data).hexdigest()


class Cluster:
    def __init__(self, provider, directory, networks=1):
        """With several networks each machine has an interface on each."""
        self.provider, self.directory = provider, directory
        self.lan, self.made = machines.Lan(), Made()
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

    def machine(self):
        """A stack that is not up yet, on a machine of its own."""
        host = self.host()
        stack = self.made(up=False, prefix=host.prefix)
        stack.host = host
        return stack

    def gpu_node(self):
        stack = self.machine()
        stack.up("--objectd", self.objectd, "--secret-file", self.secret, *self.network(stack.host))
        return stack

    def storage_node(self, name, drives):
        stack = self.machine()
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

    def paths(self):
        return [f"data/{name}" for name in self.sums]
