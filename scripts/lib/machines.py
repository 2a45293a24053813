"""Machines of a cluster, on this one: namespaces of network and IPC, joined by a bridge. Needs root, iproute2 and util-linux."""

import os
import shutil
import subprocess


def why_not():
    """Why there can be no such machines here; None where there can."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("ip", "tc", "nsenter", "unshare"):
        if not shutil.which(tool):
            return f"needs {tool}"
    probe = f"pg{os.getpid()}"
    for words in (["unshare", "--net", "--ipc", "true"], ["ip", "link", "add", probe, "type", "bridge"],
                  ["ip", "link", "delete", probe]):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            return f"{' '.join(words)}: {done.stderr.strip()}"
    return None


def call(*words):
    subprocess.run(list(map(str, words)), check=True)


class Machine:
    """Lives as long as a shell that waits for this process: whatever becomes of it, the namespaces go with it."""

    def __init__(self, lan, number):
        self.address = f"{lan.subnet}.{number}"
        self.port = f"{lan.bridge}-{number}"  # the bridge's end of its cable
        self.shell = subprocess.Popen(["unshare", "--net", "--ipc", "sh", "-c", "echo; read end"], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE)
        self.shell.stdout.readline()
        self.prefix = ["nsenter", "-t", str(self.shell.pid), "-n", "-i"]
        call("ip", "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.shell.pid)
        call("ip", "link", "set", self.port, "master", lan.bridge, "up")
        call(*self.prefix, "ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            call(*self.prefix, "ip", "link", "set", device, "up")

    def unplug(self):
        call("ip", "link", "set", self.port, "down")

    def plug(self):
        call("ip", "link", "set", self.port, "up")

    def limit(self, rate):
        """What it sends, as "200mbit"; None: no limit."""
        if rate:
            call(*self.prefix, "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "256k", "latency",
                 "100ms")
        else:
            call(*self.prefix, "tc", "qdisc", "delete", "dev", "eth0", "root")

    def sent(self):
        """Bytes that have left it so far."""
        with open(f"/sys/class/net/{self.port}/statistics/rx_bytes") as f:
            return int(f.read())

    def close(self):
        subprocess.run(["ip", "link", "delete", self.port])
        self.shell.communicate(b"\n")


class Lan:
    """A bridge that this process is on as well, so that it reaches every machine's ports."""

    def __init__(self):
        pid = os.getpid()
        self.bridge = f"pg{pid}"
        self.subnet = f"10.{64 + (pid >> 8) % 128}.{pid % 256}"
        self.machines = []
        call("ip", "link", "add", self.bridge, "type", "bridge")
        call("ip", "address", "add", f"{self.subnet}.254/24", "dev", self.bridge)
        call("ip", "link", "set", self.bridge, "up")

    def add(self):
        self.machines.append(Machine(self, len(self.machines) + 1))
        return self.machines[-1]

    def close(self):
        for machine in self.machines:
            machine.close()
        call("ip", "link", "delete", self.bridge)
