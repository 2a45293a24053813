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


def why_no_filter():
    """Why such machines cannot lose packets, or be cut off from some others; None where they can."""
    if not shutil.which("nft"):
        return "needs nft (package nftables)"
    probe = "table inet a { chain b { type filter hook input priority 0; numgen random mod 100 < 1 drop; }\n}\n"
    done = subprocess.run(["unshare", "--net", "nft", "-f", "-"], input=probe, capture_output=True, text=True)
    return f"nft: {done.stderr.strip()}" if done.returncode else None


def call(*words):
    subprocess.run(list(map(str, words)), check=True)


class Cable:
    """From a machine's interface to a network's bridge."""

    def __init__(self, machine, lan, device):
        self.machine, self.device = machine, device
        self.address = f"{lan.subnet}.{machine.number}"
        self.port = f"{lan.bridge}-{machine.number}"  # the bridge's end
        call("ip", "link", "add", self.port, "type", "veth", "peer", "name", device, "netns", machine.shell.pid)
        call("ip", "link", "set", self.port, "master", lan.bridge, "up")
        call(*machine.prefix, "ip", "address", "add", f"{self.address}/24", "dev", device)
        self.up()

    def up(self):
        call(*self.machine.prefix, "ip", "link", "set", self.device, "up")

    def down(self):
        """As the machine's own interface goes down, with its routes."""
        call(*self.machine.prefix, "ip", "link", "set", self.device, "down")

    def limit(self, rate):
        """What the machine sends by it, as "200mbit"; None: no limit."""
        if rate:
            call(*self.machine.prefix, "tc", "qdisc", "replace", "dev", self.device, "root", "tbf", "rate", rate, "burst", "256k",
                 "latency", "100ms")
        else:
            call(*self.machine.prefix, "tc", "qdisc", "delete", "dev", self.device, "root")

    def sent(self):
        """Bytes that the machine has sent by it so far."""
        return self.carried("rx")

    def received(self):
        """Bytes that have reached the machine by it so far."""
        return self.carried("tx")

    def carried(self, way):
        with open(f"/sys/class/net/{self.port}/statistics/{way}_bytes") as f:
            return int(f.read())


class Machine:
    """Lives as long as a shell that waits for this process: whatever becomes of it, the namespaces go with it."""

    def __init__(self, lan, number):
        self.number = number
        mounts, small = (["--mount"], f"mount -t tmpfs -o size={lan.shm} tmpfs /dev/shm;") if lan.shm else ([], "")
        self.shell = subprocess.Popen(["unshare", "--net", "--ipc", *mounts, "sh", "-c", f"{small} echo; read end"],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.shell.stdout.readline()
        self.prefix = ["nsenter", "-t", str(self.shell.pid), "-n", "-i", *(["-m"] if lan.shm else [])]
        call(*self.prefix, "ip", "link", "set", "lo", "up")
        self.cables = []
        self.connect(lan)
        self.address, self.port = self.cables[0].address, self.cables[0].port

    def connect(self, lan):
        """One more interface, to that network."""
        self.cables.append(Cable(self, lan, f"eth{len(self.cables)}"))

    def unplug(self):
        """The cable: it has no carrier."""
        call("ip", "link", "set", self.port, "down")

    def plug(self):
        call("ip", "link", "set", self.port, "up")

    def interface(self, state):
        """"down" (it has no route to anywhere) or "up"."""
        (self.cables[0].up if state == "up" else self.cables[0].down)()

    def drop(self, percent=100, others=()):
        """Of every 100 packets that come in or go out so many vanish; with `others`, of those from and to them alone. Again: these
        instead."""
        chance = f"numgen random mod 100 < {percent} " if percent < 100 else ""
        self.filter(incoming=[f"ip saddr {o.address} {chance}drop" for o in others] or [f"iif != lo {chance}drop"],
                    outgoing=[f"ip daddr {o.address} {chance}drop" for o in others] or [f"oif != lo {chance}drop"])

    def close_port(self, port, others):
        """As a firewall would: who of `others` wants to connect to it gets no answer."""
        self.filter(incoming=[f"ip saddr {o.address} tcp dport {port} drop" for o in others])

    def filter(self, incoming=(), outgoing=()):
        """Rules of nftables, instead of those before."""
        chains = "".join(f"chain {hook} {{ type filter hook {hook} priority 0; {'; '.join(rules)}; }}\n"
                         for hook, rules in (("input", incoming), ("output", outgoing)) if rules)
        table = f"table inet perigee\ndelete table inet perigee\ntable inet perigee {{\n{chains}}}\n"
        subprocess.run([*self.prefix, "nft", "-f", "-"], input=table, text=True, check=True)

    def drop_none(self):
        """Everything is let through again."""
        self.filter()

    def limit(self, rate):
        """What it sends by its first cable."""
        self.cables[0].limit(rate)

    def sent(self):
        """Bytes that have left it by its first cable so far."""
        return self.cables[0].sent()

    def received(self):
        """Bytes that have reached it by its first cable so far."""
        return self.cables[0].received()

    def close(self):
        for cable in self.cables:
            subprocess.run(["ip", "link", "delete", cable.port])
        self.shell.communicate(b"\n")


class Lan:
    """A bridge. This process is on the first one as well, so that it reaches every machine's ports; not on others, which have a
    letter. With `shm` ("64m") machines have a /dev/shm of that size, and mounts of their own: this process does not see those."""

    def __init__(self, letter="", shm=None):
        self.shm = shm
        pid = os.getpid()
        self.bridge = f"pg{pid}{letter}"
        self.subnet = f"10.{64 + (pid >> 8) % 128}.{pid % 256}"
        self.machines = []
        call("ip", "link", "add", self.bridge, "type", "bridge")
        if letter:
            self.subnet = f"10.63.{ord(letter)}"
        else:
            call("ip", "address", "add", f"{self.subnet}.254/24", "dev", self.bridge)
        call("ip", "link", "set", self.bridge, "up")

    def add(self):
        self.machines.append(Machine(self, len(self.machines) + 1))
        return self.machines[-1]

    def close(self):
        for machine in self.machines:
            machine.close()
        call("ip", "link", "delete", self.bridge)
