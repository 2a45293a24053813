"""A Perigee stack, driven through its command as a user would. Used by quickstart, the benchmarks and the e2e tests."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request

ADMIN = {"objectd": "admin_listen", "bufferd": "bufferd_admin_listen", "fuse": "fuse_admin_listen"}


class Failed(Exception):
    """One line that says what went wrong."""


class Stack:
    def __init__(self, data, binaries, prefix=()):
        """`prefix`: the command that runs commands on the stack's machine; see machines.py."""
        self.data = os.path.abspath(data)
        self.perigee = os.path.join(binaries, "perigee")
        self.prefix = prefix
        self.info = {}

    def run(self, *args, check=True, timeout=600, env=None):
        done = subprocess.run([*self.prefix, self.perigee, args[0], "--data", self.data, *args[1:]], capture_output=True, text=True,
                              timeout=timeout, env=env)
        if check and done.returncode != 0:
            raise Failed(f"perigee {' '.join(args)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done

    def json(self, *args, **kwargs):
        done = self.run(*args, "--json", **kwargs)
        return json.loads(done.stdout)

    def up(self, *args, env=None):
        self.info = self.json("up", "--detach", *args, env=env)
        return self.info

    def down(self):
        self.run("down", timeout=120)

    def status(self):
        return self.json("status", check=False)

    def metrics(self, daemon):
        """Every sample of a daemon: [(name, labels, value)]."""
        with urllib.request.urlopen(f"http://{self.status()[ADMIN[daemon]]}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        samples = []
        for line in text.splitlines():
            if found := re.fullmatch(r"([a-z_]\w*)(?:\{(.*)\})? (\S+)", line):
                samples.append((found[1], dict(re.findall(r'(\w+)="([^"]*)"', found[2] or "")), float(found[3])))
        return samples

    def metric(self, daemon, name, **labels):
        found = [v for n, has, v in self.metrics(daemon) if n == name and labels.items() <= has.items()]
        if len(found) != 1:
            raise Failed(f"{daemon}: {name} {labels}: {found}")
        return found[0]

    def pid_of(self, daemon):
        return next(d["pid"] for d in self.status()["daemons"] if d["name"] == daemon)

    def stat(self, path):
        return self.json("stat", path)

    @property
    def mount(self):
        return self.info["mount"]

    @property
    def endpoint(self):
        return self.info["endpoint"]

    def pids(self):
        info = self.status()
        return [info["pid"]] + [d["pid"] for d in info["daemons"] if d["pid"]]

    def kill_all(self):
        """SIGKILL to every daemon and the supervisor; returns when they are gone."""
        pids = self.pids()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + 20
        while any(alive(pid) for pid in pids):
            if time.monotonic() > deadline:
                raise Failed(f"killed daemons are still there: {[p for p in pids if alive(p)]}")
            time.sleep(0.02)
        return pids

    def s3(self):
        import boto3
        from botocore.config import Config
        key, secret = self.credentials()
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id=key,
                            aws_secret_access_key=secret,
                            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 3}))

    def credentials(self):
        values = {}
        with open(self.info["credentials"]) as f:
            for line in f:
                name, _, value = line.partition("=")
                values[name.strip()] = value.strip()
        return values["aws_access_key_id"], values["aws_secret_access_key"]

    def used(self):
        """Bytes in the burst buffer."""
        return self.status()["bufferd"]["used_bytes"]

    def wait_released(self, used):
        """Until the burst buffer holds no more than `used` bytes, or three seconds have passed. A removed file's pages are freed
        a moment after unlink returned, the local file system's before: without this wait the next file would be written to
        other memory."""
        deadline = time.monotonic() + 3
        while self.used() > used and time.monotonic() < deadline:
            time.sleep(0.05)

    def wait(self, what, condition, timeout=300):
        deadline = time.monotonic() + timeout
        while True:
            info = self.status()
            if condition(info):
                return info
            if time.monotonic() > deadline:
                raise Failed(f"{what}: not within {timeout} s")
            time.sleep(0.1)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def drop_caches():
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return True
    except OSError:
        return False
