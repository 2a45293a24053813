"""kill -9 of the real daemons at every failpoint and at random moments, under load at every door.

A round arms one failpoint as kill in one daemon, runs the load until the daemon has died there and is back, and compares what every
door shows with what was acknowledged (crash_model.py). The daemon is killed once before at a random moment, so that it starts armed.

By default a few rounds of each kind, chosen by a seed that is printed. The whole matrix, a repetition, one failpoint:
    PERIGEE_KILL_ROUNDS=all    or a number of rounds of each kind
    PERIGEE_KILL_SEED=7
    PERIGEE_KILL_POINTS=objectd:meta_after_put@2,bufferd:burst_seal_before_end@1

Last run of all: 2026-11-23, seed 201, 38 minutes: 169 deaths at 151 of 186 (daemon, failpoint) pairs and 60 rounds of random moments
without a deviation; then the mirrors, 3 minutes, which reached 8 pairs more. The rest need storage nodes, files of over 512 blobs, a
mirror that cannot catch up, or a conflict.
"""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import botocore.exceptions
import pytest

import failpoints
from conftest import BINARIES, EXAMPLE_FREE_PORTS, Made, needs_fuse, needs_root
from crash_model import Beginning, Model, words
from stack import Failed, Stack

SEED = int(os.environ.get("PERIGEE_KILL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
ROUNDS = os.environ.get("PERIGEE_KILL_ROUNDS", "")
LANES = 4
DAEMONS = ("objectd", "bufferd", "fuse")
OPTIONS = ["--burst-budget", "24M", "--daemon-option", "bufferd:--flush-linger=200ms", "--daemon-option", "objectd:--reader-grace=1"]
THE_END = "the end"
BOOT_ID = "/proc/sys/kernel/random/boot_id"

# Failpoints that need their own circumstances, by the test that makes them.
ON_FIRST_START = re.compile(r"superblock_|segment_|cluster_file_|mirror_epoch_|drive_|atomic_file_|kv_|burst_store_|node_")
WITH_LOST_DRIVES = re.compile(r"repair_|drive_|mirror_epoch_|superblock_|cluster_file_|segment_|kv_(eject|admit|copy|clear|recover)_")
NOT_UNDER_LOAD = re.compile(r"repair_|drive_|mirror_epoch_|superblock_|cluster_file_|kv_(eject|admit|copy|clear|recover)_|atomic_file_|"
                            r"burst_store_|burst_recover_")
OF_MIRRORS = re.compile(r"kv_(eject|admit|copy|clear|recover)_|mirror_epoch_")
AFTER_REBOOT = re.compile(r"burst_recover_")
# Never reached by a daemon: the command makes the secret, and tests their own failpoint.
UNREACHED = re.compile(r"secret_|test_only")


def points_of(daemon):
    folders = {"objectd": ("objectd", "client/blob", "rdma/local", "base"), "bufferd": ("bufferd", "client/blob", "rdma/local", "base"),
               "fuse": ("fuse", "rdma/local")}[daemon]
    return sorted(name for name, uses in failpoints.used().items()
                  if any(u.path.startswith(f + "/") for u in uses for f in folders) and not UNREACHED.match(name))


def targets(wanted, unwanted=None, hits=(1, 2, 3, 6, 12)):
    """(daemon, failpoint, n-th hit) of a kind, in a random order."""
    rng = random.Random(SEED)
    given = os.environ.get("PERIGEE_KILL_POINTS")
    if given:
        out = [re.fullmatch(r"(\w+):(\w+)@(\d+)", item).groups() for item in given.split(",")]
        return [(d, p, int(n)) for d, p, n in out if wanted.match(p) and not (unwanted and unwanted.match(p))]
    out = [(d, p, 1) for d in DAEMONS for p in points_of(d) if wanted.match(p) and not (unwanted and unwanted.match(p))]
    # The first hits are of the daemon's start, where it has any: the load gets to the later ones.
    out = [(d, p, rng.choice(hits)) for d, p, _ in out]
    rng.shuffle(out)
    return out


def few(items, default):
    return items if ROUNDS == "all" else items[:int(ROUNDS or default)]


class KillStack(Stack):
    """A stack whose daemons start through scripts that arm a failpoint when told to, for one run of the daemon."""

    def __init__(self, data):
        self.bin = os.path.join(data, "bin")
        os.makedirs(self.bin)
        for name in ("perigee",) + tuple(f"perigee-{d}" for d in DAEMONS):
            place = os.path.join(self.bin, name + ("" if name == "perigee" else ".real"))
            try:
                os.link(os.path.join(BINARIES, name), place)
            except OSError:
                shutil.copy(os.path.join(BINARIES, name), place)
        for daemon in DAEMONS:
            arm, boot = os.path.join(self.bin, f"{daemon}.arm"), os.path.join(self.bin, "boot")
            script = os.path.join(self.bin, f"perigee-{daemon}")
            with open(script, "w") as f:
                f.write(f"#!/bin/sh\n"
                        f"if mv {arm} {arm}ed 2>/dev/null; then PERIGEE_FAILPOINTS=$(cat {arm}ed); export PERIGEE_FAILPOINTS; fi\n"
                        f"if [ -e {boot} ] && [ {daemon} != fuse ]; then\n"
                        f"  exec nsenter -m -t $(cat {boot}) {script}.real \"$@\"\n"
                        f"fi\n"
                        f"exec {script}.real \"$@\"\n")
            os.chmod(script, 0o755)
        self.boot = None
        super().__init__(os.path.join(data, "stack"), self.bin)

    def arm(self, daemon, spec):
        place = os.path.join(self.bin, f"{daemon}.arm")
        with open(place + ".tmp", "w") as f:
            f.write(spec)
        os.rename(place + ".tmp", place)

    def disarm(self):
        """True when the failpoint was still to be given to a daemon."""
        waiting = [d for d in DAEMONS if os.path.exists(os.path.join(self.bin, f"{d}.arm"))]
        for d in waiting:
            os.remove(os.path.join(self.bin, f"{d}.arm"))
        return waiting

    def new_boot(self):
        """The daemons that start from now on (not the mount's) share a mount namespace of their own, with another boot id."""
        self.end_boot()
        boot_id = os.path.join(self.bin, "boot_id")
        with open(boot_id, "w") as f:
            f.write(f"{random.SystemRandom().randrange(1 << 32):08x}-0000-4000-8000-000000000000\n")
        # It is there while `cat` runs, or a daemon.
        self.boot = subprocess.Popen(["unshare", "-m", "sh", "-c", f"mount --bind {boot_id} {BOOT_ID} && echo && exec cat"],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.boot.stdout.read(1), "no mount namespace"
        with open(os.path.join(self.bin, "boot"), "w") as f:
            f.write(str(self.boot.pid))

    def end_boot(self):
        if self.boot:
            self.boot.communicate()
            self.boot = None

    def recorded(self):
        """What the supervisor wrote last: cheaper than a `perigee status`."""
        with open(os.path.join(self.data, "stack.json")) as f:
            return json.load(f)

    def pids(self):
        """Without a child process: one that is started closes what a load has open, and a close publishes."""
        recorded = self.recorded()
        return [recorded["pid"]] + [d["pid"] for d in recorded["daemons"] if d["pid"]]

    def pid_of(self, daemon):
        return next((d["pid"] for d in self.recorded()["daemons"] if d["name"] == daemon), 0)

    def all_up(self):
        return all(d["state"] == "up" and d["pid"] for d in self.recorded()["daemons"])

    def deaths(self):
        """How daemons died so far, as the supervisor logged it."""
        with open(os.path.join(self.data, "log", "perigee.log"), errors="replace") as f:
            return re.findall(r'daemon_died.*?daemon=(\w+).*?how="(.*?)"', f.read())


def wait_until(what, condition, timeout):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {timeout} s")
        time.sleep(0.02)


# The load.

def quick_s3(stack, attempts=1, read_timeout=60):
    import boto3
    from botocore.config import Config
    key, secret = stack.credentials()
    return boto3.client("s3", endpoint_url=stack.endpoint, region_name="us-east-1", aws_access_key_id=key,
                        aws_secret_access_key=secret,
                        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": attempts},
                                      connect_timeout=30, read_timeout=read_timeout, max_pool_connections=32))


def answer(error):
    """The S3 error code of a refusal; None when the outcome is unknown."""
    if isinstance(error, botocore.exceptions.ClientError):
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return error.response["Error"]["Code"] if status < 500 else None
    return None


S3_ERRORS = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, botocore.exceptions.HTTPClientError)


class Lane:
    """One client: calls on keys of its own, one after the other, through every door."""

    def __init__(self, number, stack, model, s3, mount, rng, stop, contests, objectd_may_go, children):
        self.objectd_may_go, self.children = objectd_may_go, children
        self.number, self.stack, self.model, self.s3, self.mount = number, stack, model, s3, mount
        self.rng, self.stop, self.contests = rng, stop, contests
        self.prefix = f"lane{number}"
        self.calls = self.unanswered = 0
        self.slowest = (0, "")
        self.busy_with = None
        self.contested = set()

    def path(self, key):
        return os.path.join(self.mount, "data", key.name)

    def body(self):
        size = self.rng.choice((0, 10, 5_000, 16_384, 16_385, 70_000, 300_000, 1_200_000))
        return self.rng.randbytes(size)

    def run(self):
        calls = [(6, self.s3_put), (2, self.s3_put_if_absent), (2, self.s3_copy), (3, self.s3_delete), (3, self.s3_multipart),
                 (3, self.s3_read), (2, self.s3_contest), (1, self.s3_bucket), (1, self.s3_delete_many)]
        if self.mount:
            calls += [(5, self.file_write), (4, self.file_fsync), (3, self.file_append), (3, self.file_replace), (3, self.file_rename),
                      (3, self.file_unlink), (4, self.file_read), (2, self.tree_move), (2, self.file_unpack)]
            calls += [(1, self.tier)] if self.children else []
        weights, functions = [w for w, _ in calls], [f for _, f in calls]
        while not self.stop.is_set():
            call = self.rng.choices(functions, weights)[0]
            self.busy_with, began = call.__name__, time.monotonic()
            self.calls += 1
            try:
                call()
            except (OSError,) + S3_ERRORS as e:
                self.unanswered += 1
                self.stop.wait(0.05)
            self.slowest = max(self.slowest, (round(time.monotonic() - began, 1), call.__name__))
        self.busy_with = None

    def certain(self, present=None, registered=False, mount=False):
        """A key of this lane without doubt, or a new one. `registered`: what S3 shows is what was acknowledged last.
        `mount`: to be changed through the mount. A node without objectd works on names as it saw them last, so where objectd
        may go away, none that S3 has changed."""
        mine = [k for n, k in sorted(list(self.model.keys.items())) if n.startswith(self.prefix + "/k") and not k.doubtful]
        if registered:
            mine = [k for k in mine if not k.recent]
        if mount and self.objectd_may_go:
            mine = [k for k in mine if not k.by_s3]
        if present is not None:
            mine = [k for k in mine if (k.content is not None) == present]
        if present is not True and (not mine or (len(mine) < 10 and self.rng.random() < 0.5)):
            return self.model.key(f"{self.prefix}/k{len(self.model.keys)}-{self.rng.randrange(1000)}")
        return self.rng.choice(mine) if mine else None

    def target(self):
        """To be put through S3. Not a name whose change on the mount objectd may not have heard of: which of the two stays is then
        a matter of who comes first (docs/operations.md, "Objectd away")."""
        return self.certain(registered=self.objectd_may_go)

    # S3. A put is durable when it is acknowledged.

    def s3_put(self):
        key, body = self.target(), self.body()
        key.begin(f"PUT {words(body)}", body)
        self.s3.put_object(Bucket="data", Key=key.name, Body=body)
        key.put(body)

    def s3_put_if_absent(self):
        key, body = self.certain(registered=True), self.body()
        before = key.content
        key.begin(f"PUT if none {words(body)}", body)
        try:
            self.s3.put_object(Bucket="data", Key=key.name, Body=body, IfNoneMatch="*")
        except S3_ERRORS as e:
            if answer(e) == "PreconditionFailed":
                if before is None:
                    self.model.deviation(f"If-None-Match refused though {key.name} is absent; {key.expected()}")
                key.refused(before)
                return
            if before is not None:
                key.refused(before)  # it must never replace, whatever happened
            raise
        if before is not None:
            self.model.deviation(f"If-None-Match replaced {key.name}; {key.expected()}")
        key.put(body)

    def s3_contest(self):
        """Every lane puts the same name if it is absent: at most one may win."""
        name = next((n for n in self.contests if n not in self.contested), None)
        if name is None:
            return
        self.contested.add(name)
        body = self.rng.randbytes(100)
        entry = [body, "unknown"]
        self.contests[name].append(entry)
        try:
            self.s3.put_object(Bucket="data", Key=name, Body=body, IfNoneMatch="*")
            entry[1] = "won"
        except S3_ERRORS as e:
            if answer(e) in ("PreconditionFailed", "ConditionalRequestConflict"):
                entry[1] = "lost"
            raise

    def s3_copy(self):
        source, key = self.certain(present=True, registered=True), self.target()
        if source is None or source is key:
            return
        body = source.content
        key.begin(f"COPY of {source.name} {words(body)}", body)
        self.s3.copy_object(Bucket="data", Key=key.name, CopySource={"Bucket": "data", "Key": source.name})
        key.put(body)
        key.fallbacks = list(source.fallbacks)

    def s3_delete(self):
        key = self.certain(present=True, registered=True)
        if key is None:
            return
        key.begin("DELETE", None)
        self.s3.delete_object(Bucket="data", Key=key.name)
        key.put(None)

    def s3_delete_many(self):
        keys = {k.name: k for k in (self.certain(True, True), self.certain(True, True)) if k}
        if not keys:
            return
        for key in keys.values():
            key.begin("DELETE many", None)
        done = self.s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": n} for n in keys]})
        for item in done.get("Deleted", []):
            keys[item["Key"]].put(None)

    def s3_multipart(self):
        key = self.target()
        parts = [self.rng.randbytes(5 << 20), self.body()] if self.rng.random() < 0.1 else [self.body()]
        if self.rng.random() < 0.2:
            upload = self.s3.create_multipart_upload(Bucket="data", Key=key.name)["UploadId"]
            self.s3.upload_part(Bucket="data", Key=key.name, UploadId=upload, PartNumber=1, Body=parts[0])
            self.s3.abort_multipart_upload(Bucket="data", Key=key.name, UploadId=upload)
            return
        source = self.certain(present=True, registered=True)
        upload = self.s3.create_multipart_upload(Bucket="data", Key=key.name)["UploadId"]
        listed = []
        for n, part in enumerate(parts, 1):
            if n == len(parts) and source and source is not key and source.content and self.rng.random() < 0.3:
                parts[n - 1] = source.content
                done = self.s3.upload_part_copy(Bucket="data", Key=key.name, UploadId=upload, PartNumber=n,
                                                CopySource={"Bucket": "data", "Key": source.name})["CopyPartResult"]
            else:
                done = self.s3.upload_part(Bucket="data", Key=key.name, UploadId=upload, PartNumber=n, Body=part)
            listed.append({"PartNumber": n, "ETag": done["ETag"]})
        body = b"".join(parts)
        key.begin(f"COMPLETE {words(body)}", body)
        complete = dict(Bucket="data", Key=key.name, UploadId=upload, MultipartUpload={"Parts": listed})
        try:
            self.s3.complete_multipart_upload(**complete)
        except S3_ERRORS as e:
            if answer(e) is not None:
                self.model.deviation(f"Complete of {key.name} refused: {answer(e)}")
            # Clients try again, and are answered the same, done before or not.
            while not self.stop.wait(0.1):
                try:
                    self.s3.complete_multipart_upload(**complete)
                    break
                except S3_ERRORS as again:
                    if answer(again) is not None:
                        self.model.deviation(f"Complete of {key.name} tried again is refused: {answer(again)}; {key.expected()}")
                        raise
            else:
                raise
        key.put(body)

    def s3_bucket(self):
        name = f"{self.prefix}-{self.rng.randrange(1 << 30):x}"
        self.s3.create_bucket(Bucket=name)
        try:
            self.s3.head_bucket(Bucket=name)
            self.s3.delete_bucket(Bucket=name)
            self.s3.head_bucket(Bucket=name)
        except S3_ERRORS as e:
            if answer(e) not in (None, "404"):
                raise
        else:
            self.model.deviation(f"bucket {name} is there after its deletion")

    def s3_read(self):
        key = self.certain(present=True)
        if key is None:
            return
        try:
            seen = self.s3.get_object(Bucket="data", Key=key.name)["Body"].read()
        except S3_ERRORS as e:
            if answer(e) == "NoSuchKey":
                if None not in key.recent:
                    self.model.deviation(f"GET {key.name} under load: NoSuchKey; expected {key.expected()}")
                return
            raise
        if seen != key.content and seen not in key.recent and not any(seen in (*k.states, *k.recent) for k in key.went_to):
            self.model.deviation(f"GET {key.name} under load: {words(seen)}; expected {key.expected()}")

    def remember(self, key):
        # A change while objectd is away succeeds, and is told to the namespace later: until then S3 shows what was before.
        if self.objectd_may_go:
            key.recent.append(key.content)

    # The mount. A close is visible at every door and survives the death of every process.

    def write(self, key, what, body, mode="wb", before=b"", fsync=False):
        old = key.content
        self.remember(key)
        key.begin(what, Beginning(before + body, len(before)))
        key.mount_only = old is None
        key.fallbacks = (key.fallbacks + [old])[-8:]
        with open(self.path(key), mode, buffering=0) as f:
            for at in range(0, max(len(body), 1), 256 << 10):
                piece = body[at:at + (256 << 10)]
                if piece and f.write(piece) != len(piece):
                    raise OSError(errno.EIO, "short write")
            if fsync:
                os.fsync(f.fileno())
                key.reached(Beginning(before + body, len(before + body)))
                key.note("fsync acknowledged")
                key.mount_only = False
                key.fallbacks = []
        key.acknowledged(before + body)

    def file_write(self):
        body = self.body()
        self.write(self.certain(mount=True), f"write and close {words(body)}", body)

    def file_fsync(self):
        key, body = self.certain(mount=True), self.body()
        if self.rng.random() < 0.7:
            self.write(key, f"write, fsync and close {words(body)}", body, fsync=True)
            return
        self.write(key, f"write and close {words(body)}, then fsync", body)
        with open(self.path(key), "rb") as f:
            os.fsync(f.fileno())
        key.fallbacks = []

    def file_append(self):
        key = self.certain(present=True, mount=True)
        if key is not None and len(key.content) < 4 << 20:
            body = self.body()
            self.write(key, f"append {words(body)}", body, "ab", key.content, fsync=self.rng.random() < 0.3)

    def file_replace(self):
        """What programs do that care: a new file beside it, fsync, rename over."""
        key, body = self.certain(mount=True), self.body()
        temp = self.model.key(f"{self.prefix}/tmp{len(self.model.keys)}-{self.rng.randrange(1000)}")
        self.write(temp, f"write, fsync and close {words(body)}", body, fsync=True)
        self.rename(temp, key)

    def file_rename(self):
        source, key = self.certain(present=True, mount=True), self.certain(mount=True)
        if source is not None and source is not key:
            self.rename(source, key)

    def rename(self, source, key):
        body = source.content
        fallbacks = source.fallbacks
        self.remember(key)
        self.remember(source)
        if self.objectd_may_go:
            source.went_to.append(key)
        source.begin(f"renamed to {key.name}", None)
        key.begin(f"rename of {source.name} {words(body)}", body)
        key.fallbacks = key.fallbacks + fallbacks
        pending = (source, key, body, key.states[0])
        self.model.renames.append(pending)
        os.rename(self.path(source), self.path(key))
        self.model.renames.remove(pending)
        source.acknowledged(None)
        key.acknowledged(body)
        # With a file that falls back to none, what it replaced is back.
        source.fallbacks, key.fallbacks = [], fallbacks + ([pending[3]] if None in fallbacks else [])

    def file_unlink(self):
        key = self.certain(present=True, mount=True)
        if key is not None:
            self.unlink(key)

    def unlink(self, key):
        self.remember(key)
        key.begin("unlink", None)
        os.unlink(self.path(key))
        key.acknowledged(None)
        key.fallbacks = []

    def file_unpack(self):
        """New files in a row, as an archive has them: the node comes to hold their directory, and tells of them a little later."""
        for name, key in sorted(list(self.model.keys.items())):
            if name.startswith(self.prefix + "/new") and not key.doubtful and key.content is not None:
                self.unlink(key)
        directory = f"{self.prefix}/new{len(self.model.keys)}-{self.rng.randrange(1000)}"
        os.mkdir(os.path.join(self.mount, "data", directory))
        for n in range(24):
            body = self.rng.randbytes(self.rng.choice((10, 5_000, 20_000)))
            self.write(self.model.key(f"{directory}/{n}"), f"unpack {words(body)}", body, fsync=self.rng.random() < 0.1)

    def file_read(self):
        key = self.certain(present=True)
        if key is not None:
            with open(self.path(key), "rb") as f:
                seen = f.read()
            # While objectd is away the mount serves what the burst buffer has.
            if seen != key.content and not (self.objectd_may_go and seen in key.earlier):
                self.model.deviation(f"read of {key.name} under load: {words(seen)}; expected {key.expected()}")

    def tree_move(self):
        """A directory with two files: moved whole or not at all."""
        base = os.path.join(self.mount, "data", self.prefix)
        if not os.path.isdir(os.path.join(base, "tree-a")) and not os.path.isdir(os.path.join(base, "tree-b")):
            if self.prefix in self.model.trees:
                os.stat(base)  # raises where the mount is away
                return
            for made in ("tree-new", "tree-new/deep"):
                if not os.path.isdir(os.path.join(base, made)):
                    os.mkdir(os.path.join(base, made))  # not makedirs: there may be no mount below `base` now
            for name in ("one", "deep/two"):
                with open(os.path.join(base, "tree-new", name), "wb") as f:
                    f.write(name.encode() * 5000)
                    f.flush()
                    os.fsync(f.fileno())
            os.rename(os.path.join(base, "tree-new"), os.path.join(base, "tree-a"))
            self.model.trees.add(self.prefix)
        here = "tree-a" if os.path.isdir(os.path.join(base, "tree-a")) else "tree-b"
        os.rename(os.path.join(base, here), os.path.join(base, "tree-b" if here == "tree-a" else "tree-a"))

    def tier(self):
        key = self.certain(present=True)
        verb = self.rng.choice((["flush", "--wait"], ["evict"], ["warm", "--wait"]))
        if key is not None:
            self.stack.run(*verb, f"data/{key.name}", check=False, timeout=120)


class Load:
    """Lanes that run until they are told to stop."""

    lane = Lane

    def __init__(self, stack, model, rng, mount, objectd_may_go, children):
        self.model, self.mount, self.stop = model, mount, threading.Event()
        s3 = quick_s3(stack)
        contests = {f"contest/{rng.randrange(1 << 40):x}": [] for _ in range(6)}
        model.contests.update(contests)
        self.lanes = [self.lane(n, stack, model, s3, mount, random.Random(rng.random()), self.stop, contests,
                           objectd_may_go, children) for n in range(LANES)]
        self.threads = [threading.Thread(target=lane.run, daemon=True) for lane in self.lanes]
        for t in self.threads:
            t.start()

    def calls(self):
        return sum(lane.calls for lane in self.lanes)

    def go_on(self, calls, seconds):
        """Until so many more calls were made, or the time is over."""
        until, deadline = self.calls() + calls, time.monotonic() + seconds
        while self.calls() < until and time.monotonic() < deadline:
            time.sleep(0.01)

    def finish(self):
        self.stop.set()
        deadline = time.monotonic() + 90
        for lane, t in zip(self.lanes, self.threads):
            t.join(max(0, deadline - time.monotonic()))
            if t.is_alive():
                self.model.deviation(f"a client hangs in {lane.busy_with}")
                # Nothing else ends a call on a mount whose daemon neither answers nor dies.
                if self.mount:
                    subprocess.run(["umount", "-f", self.mount], check=False)
        seconds, name = max(lane.slowest for lane in self.lanes)
        return f"{self.calls()} calls, {sum(lane.unanswered for lane in self.lanes)} unanswered, slowest {name} {seconds} s"


# The look afterwards.

def s3_content(s3, name):
    try:
        return s3.get_object(Bucket="data", Key=name)["Body"].read()
    except botocore.exceptions.ClientError as e:
        if answer(e) == "NoSuchKey":
            return None
        raise


def file_content(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def patiently(what, model, read, good):
    """What `read` gives, once it is good, or after a while: errors and old content pass when a daemon has just come back."""
    deadline = time.monotonic() + 15
    first = None
    while True:
        try:
            seen, problem = read(), None
        except (OSError,) + S3_ERRORS as e:
            seen, problem = None, str(e)
        if problem is None and good(seen):
            if first:
                model.late.append(f"{what}: at first {first}")
            return seen
        first = first or problem or words(seen)
        if time.monotonic() > deadline:
            if problem:
                model.deviation(f"{what}: cannot be read: {problem}")
            return seen
        time.sleep(0.1)


def look(stack, model, when):
    s3, mount = quick_s3(stack), stack.info.get("mount")
    stack.wait("all doors after the restart", lambda s: s.get("well") and s["bufferd"].get("registered_later") == 0, timeout=60)
    for key in model.keys.values():
        key.looked_at()
    for name, entries in list(model.contests.items()):
        seen = patiently(name, model, lambda: s3_content(s3, name), lambda seen: True)
        winners = [b for b, outcome in entries if outcome == "won"]
        possible = winners if winners else [None] + [b for b, outcome in entries if outcome == "unknown"]
        if len(winners) > 1 or seen not in possible:
            model.deviation(f"{when}: contest {name}: {words(seen)} after {[(words(b), o) for b, o in entries]}")
        # Looked at once more in the next round.
        if entries[:1] == [["looked at", ""]]:
            del model.contests[name]
        else:
            model.contests[name] = [["looked at", ""], [seen, "won"]]
    listed = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="data"):
        listed.update({o["Key"]: o["Size"] for o in page.get("Contents", [])})
    for name, key in sorted(model.keys.items()):
        look_at(stack, model, s3, mount, key, listed, when)
    settle(model, when)
    for name in [n for n in listed if ".conflict-" in n]:
        # Made on the mount while objectd was away, and put through S3 before the node could tell: both are kept.
        s3_content(s3, name)
        s3.delete_object(Bucket="data", Key=name)
        model.conflicts += 1
        del listed[name]
    for name in listed:
        if name not in model.keys and "/tree-" not in name and not name.startswith("contest/") and not name.endswith("/"):
            model.deviation(f"{when}: listed though nobody made it: {name}")
    for name, key in list(model.keys.items()):
        if not key.doubtful and key.content is None:
            del model.keys[name]  # seen to be absent; keeps the looks short
    for prefix in model.trees if mount else ():
        look_at_tree(model, os.path.join(mount, "data", prefix), listed, prefix, when)


def settle(model, when):
    """Doubts end where both doors showed the same twice; those of a rename that was cut end together."""
    waiting = set()
    for pending in list(model.renames):
        source, key, body, before = pending
        if not (source.steady() and key.steady()):
            waiting |= {id(source), id(key)}
            continue
        model.renames.remove(pending)
        if body != before and (source.view == (body,)) == (key.view == (body,)):
            model.deviation(f"{when}: rename of {source.name} to {key.name} was cut: "
                            f"{words(source.view[0])} and {words(key.view[0])}; {key.expected()}")
    for key in model.keys.values():
        if key.doubtful:
            key.settle(id(key) not in waiting)


def look_at(stack, model, s3, mount, key, listed, when):
    at = f"{when}: {key.name}"
    views = {}
    views["S3"] = patiently(f"{at} by S3", model, lambda: s3_content(s3, key.name), key.allows)
    if mount:
        path = os.path.join(mount, "data", key.name)
        views["mount"] = patiently(f"{at} by the mount", model, lambda: file_content(path), lambda seen: key.allows(seen, True))
    for door, seen in views.items():
        if not key.allows(seen, door == "mount"):
            model.deviation(f"{at} by {door}: {words(seen)}; expected {key.expected()}")
    key.view = (views["S3"],) if len(set(views.values())) == 1 else None
    key.doors = {door: words(seen) for door, seen in views.items()}
    if key.doubtful:
        if key.mount_only and views["S3"] is None and views.get("mount") == b"":
            os.unlink(path)  # made and never closed: its user gives it up
        return
    again = {"S3": patiently(f"{at} by S3, again", model, lambda: s3_content(s3, key.name), lambda seen: True)}
    if mount:
        again["mount"] = patiently(f"{at} by the mount, again", model, lambda: file_content(path), lambda seen: True)
    for door, seen in again.items():
        if seen != views[door]:
            model.deviation(f"{at} by {door}: {words(views[door])}, then {words(seen)}; expected {key.expected()}")
    size = None if views["S3"] is None else len(views["S3"])
    if listed.get(key.name) != size:
        model.deviation(f"{at}: listed with size {listed.get(key.name)}, holds {size}; expected {key.expected()}")
    if size is not None and s3.head_object(Bucket="data", Key=key.name)["ContentLength"] != size:
        model.deviation(f"{at}: HEAD gives another size")
    if mount:
        if (os.path.basename(path) in os.listdir(os.path.dirname(path)) if os.path.isdir(os.path.dirname(path)) else False) != (
                size is not None):
            model.deviation(f"{at}: readdir and read disagree; expected {key.expected()}")
        if size is not None and os.stat(path).st_size != size:
            model.deviation(f"{at}: stat gives size {os.stat(path).st_size}, holds {size}")


def look_at_tree(model, base, listed, prefix, when):
    whole = {"one": b"one" * 5000, "deep/two": b"deep/two" * 5000}
    places = [t for t in ("tree-a", "tree-b") if os.path.isdir(os.path.join(base, t))]
    if len(places) != 1:
        model.deviation(f"{when}: {prefix}: the moved directory is at {places}")
        return
    for name, content in whole.items():
        if file_content(os.path.join(base, places[0], name)) != content:
            model.deviation(f"{when}: {prefix}/{places[0]}/{name}: not what it held")
        if f"{prefix}/{places[0]}/{name}" not in listed:
            model.deviation(f"{when}: {prefix}/{places[0]}/{name}: not listed")


def settle_doubts(stack, model, when):
    """Looks until nothing is in doubt, then at all of it from the object tier."""
    for _ in range(20):
        look(stack, model, when)
        if not any(k.doubtful for k in model.keys.values()):
            return
        time.sleep(0.5)
    for key in model.keys.values():
        if key.doubtful:
            told = stack.run("stat", f"data/{key.name}", "--json", check=False).stdout.strip()
            model.deviation(f"{when}: {key.name} shows different content at the doors for long: {key.doors}; {told}; {key.expected()}")


def from_the_object_tier(stack, model, when):
    """After `flush --wait` said that all is in the object tier, the burst buffer may go: by losing it."""
    done = stack.run("flush", "--wait", check=False, timeout=120)
    if done.returncode != 0:
        model.deviation(f"{when}: flush --wait: {done.stdout.strip()} {done.stderr.strip()}")
    stack.kill_all()
    shutil.rmtree(stack.recorded()["burst"])
    stack.up()
    look(stack, model, when)


class Matrix:
    """A stack, its model, and rounds against it."""

    def __init__(self, name, *args, drives=6, mount=True):
        self.rng = random.Random(f"{SEED}-{name}")
        self.place = tempfile.mkdtemp(prefix="perigee-kill-")
        self.stack = KillStack(self.place)
        self.stack.up("--drives", str(drives), *EXAMPLE_FREE_PORTS, *OPTIONS, *([] if mount else ["--no-mount"]), *args)
        self.mount = self.stack.info["mount"] if mount else None
        self.model = Model()
        self.tally = {}
        self.ended = False
        for n in range(LANES if mount else 0):
            os.makedirs(os.path.join(self.mount, "data", f"lane{n}"))
        print(f"\nseed {SEED}: {name}")

    def load(self, objectd_may_go, children=True):
        return Load(self.stack, self.model, self.rng, self.mount, objectd_may_go, children)

    def report(self, what, outcome, calls):
        self.tally[what] = outcome
        print(f"  {what}: {outcome}; {calls}; {len(self.model.keys)} keys, "
              f"{sum(k.doubtful for k in self.model.keys.values())} in doubt, {self.model.conflicts} conflicts", flush=True)
        if self.model.deviations:
            told = "\n".join(self.model.deviations)
            raise AssertionError(f"seed {SEED}, {what}:\n{told}\nThe calls behind it:\n" + "\n".join(self.model.behind(told)[-200:]))
        self.ended = what == THE_END

    def kill(self, daemon):
        pid = self.stack.pid_of(daemon)
        if pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def deaths_of(self, daemon):
        return sum(d == daemon for d, _ in self.stack.deaths())

    def kill_at(self, daemon, point, n, circumstance=""):
        what = f"{daemon}:{circumstance}{point}@{n}"
        # These are passed while objectd is away, or just back.
        without_objectd = point.startswith("names_")
        load = self.load(daemon == "objectd" or without_objectd)
        try:
            load.go_on(40, 2)
            deaths, pid = self.deaths_of(daemon), self.stack.pid_of(daemon)
            self.stack.arm(daemon, f"{circumstance}{point}=kill@{n}")
            self.kill(daemon)
            # The supervisor waits up to 5 s before it starts what dies often, and a start takes a while itself.
            wait_until(f"{daemon} started armed", lambda: self.deaths_of(daemon) > deaths + 1 or (
                self.stack.all_up() and self.stack.pid_of(daemon) != pid), 60)
            # So many calls pass every point that this load ever passes; the collector's round comes every 5 s.
            began, enough = time.monotonic(), load.calls() + 300
            next_absence = began + 3  # a bufferd that was just started knows no names yet
            while self.deaths_of(daemon) == deaths + 1 and time.monotonic() < began + (20 if load.calls() < enough else 8):
                time.sleep(0.02)
                if without_objectd and time.monotonic() > next_absence and self.stack.all_up():
                    self.kill("objectd")
                    next_absence = time.monotonic() + 2
            hit = self.deaths_of(daemon) > deaths + 1
            if not hit:
                self.kill(daemon)  # disarms it
            wait_until(f"{daemon} back", lambda: self.deaths_of(daemon) > deaths + 1 and self.stack.all_up(), 60)
            load.go_on(20, 1)
        finally:
            calls = load.finish()
        look(self.stack, self.model, what)
        self.check_deaths(what)
        self.report(what, "died there" if hit else "not reached", calls)
        return hit

    def check_deaths(self, when):
        for daemon, how in self.stack.deaths():
            if how != "signal 9":
                self.model.deviation(f"{when}: {daemon} died by {how}")

    def close(self):
        if not self.ended:
            kept = tempfile.mkdtemp(prefix="perigee-kill-logs-")
            shutil.copytree(os.path.join(self.stack.data, "log"), kept, dirs_exist_ok=True)
            print(f"seed {SEED}: logs in {kept}")
        try:
            made = Made()
            made.stacks.append(self.stack)
            made.close()
        finally:
            self.stack.end_boot()
            shutil.rmtree(self.place, ignore_errors=True)


@pytest.fixture
def matrix():
    made = []

    def make(*args, **kwargs):
        made.append(Matrix(*args, **kwargs))
        return made[-1]

    yield make
    for m in made:
        m.close()


@needs_fuse
def test_killed_at_failpoints_under_load(matrix):
    m = matrix("failpoints under load")
    for daemon, point, n in few(targets(re.compile(""), NOT_UNDER_LOAD), 4):
        if not m.kill_at(daemon, point, n) and n > 1 and ROUNDS:
            m.kill_at(daemon, point, 1)
    settle_doubts(m.stack, m.model, "at the end")
    from_the_object_tier(m.stack, m.model, "from the object tier")
    m.report(THE_END, "compared", "")
    print("not reached:", " ".join(sorted(w for w, o in m.tally.items() if o == "not reached")))


@needs_fuse
def test_killed_at_random_moments(matrix):
    m = matrix("random moments")
    for n in range(int(ROUNDS) if ROUNDS.isdigit() else 60 if ROUNDS else 2):
        daemons = m.rng.choice([("objectd",), ("bufferd",), ("fuse",), ("objectd", "bufferd"), DAEMONS])
        moment = m.rng.uniform(0.05, 1.5)
        load = m.load("objectd" in daemons)
        try:
            load.stop.wait(moment)
            deaths = {d: m.deaths_of(d) for d in daemons}
            for d in daemons:
                m.kill(d)
            wait_until("all back", lambda: all(m.deaths_of(d) > deaths[d] for d in daemons) and m.stack.all_up(), 60)
            load.go_on(20, 1)
        finally:
            calls = load.finish()
        what = f"round {n}: {'+'.join(daemons)} after {moment:.3f} s"
        look(m.stack, m.model, what)
        m.check_deaths(what)
        m.report(what, "killed", calls)
    settle_doubts(m.stack, m.model, "at the end")
    from_the_object_tier(m.stack, m.model, "from the object tier")
    m.report(THE_END, "compared", "")


def answered(call):
    """False where the armed daemon dies of it, or is not back yet."""
    try:
        call()
    except S3_ERRORS as e:
        if answer(e) is not None:
            raise
        return False
    return True


def start_despite_kills(stack, *args):
    """`up`, once more where the armed daemon died while it started."""
    try:
        stack.up(*args)
        return "not reached at the start"
    except Failed:
        stack.disarm()
        stack.up(*args)
        return "died there"


def test_killed_at_failpoints_of_the_first_start(matrix):
    """A new stack whose first start was cut at any point starts at the second attempt, empty and whole."""
    print(f"\nseed {SEED}: first start")
    for daemon, point, n in few(targets(ON_FIRST_START, hits=(1, 1, 2, 3)), 3):
        if daemon == "fuse":
            continue
        place = tempfile.mkdtemp(prefix="perigee-kill-")
        stack = KillStack(place)
        made = Made()
        made.stacks.append(stack)
        try:
            stack.arm(daemon, f"{point}=kill@{n}")
            outcome = start_despite_kills(stack, "--drives", "3", "--no-mount", *EXAMPLE_FREE_PORTS)
            stack.wait("well", lambda s: s.get("well"), timeout=60)
            assert all(d["state"] == "online" for d in stack.status()["objectd"]["drives"])
            wait_until("a first put", lambda: answered(lambda: quick_s3(stack).put_object(Bucket="data", Key="k", Body=b"x" * 100_000)), 60)
            stack.kill_all()
            stack.up()
            assert s3_content(quick_s3(stack), "k") == b"x" * 100_000
            print(f"  {daemon}:{point}@{n}: {outcome}", flush=True)
        except (Failed, AssertionError) + S3_ERRORS as e:
            raise AssertionError(f"seed {SEED}, first start, {daemon}:{point}@{n}: {e}") from e
        finally:
            made.close()
            shutil.rmtree(place, ignore_errors=True)


def test_killed_while_a_drive_is_lost_and_replaced(matrix):
    m = matrix("lost drives", mount=False)
    drives = [d["dir"] for d in m.stack.status()["objectd"]["drives"]]
    for daemon, point, n in few([t for t in targets(WITH_LOST_DRIVES, hits=(1,) if ROUNDS == "all" else (1, 1, 2)) if t[0] == "objectd"], 2):
        what = f"lost drive, {daemon}:{point}@{n}"
        m.stack.kill_all()
        lost = m.rng.choice(drives)
        shutil.rmtree(lost)
        os.mkdir(lost)
        m.stack.arm(daemon, f"{point}=kill@{n}")
        outcome = start_despite_kills(m.stack)
        deaths = m.deaths_of(daemon)
        load = m.load(True)
        try:
            seen = {}

            def replaced():
                answer = m.stack.run("drive", "replace", lost, check=False)
                status = m.stack.status()
                objectd = status.get("objectd", {})
                seen.update({k: objectd.get(k) for k in ("volumes_to_repair", "repairing", "drives", "mirrors")},
                            replace=(answer.stdout + answer.stderr).strip())
                return status.get("well") and objectd["volumes_to_repair"] == 0 and not objectd["repairing"] and all(
                    d["state"] == "online" for d in objectd["drives"])
            try:
                wait_until(f"{what}: repair after the replacement", replaced, 90)
            except Failed as e:
                raise Failed(f"{e}: {seen}") from e
            if m.deaths_of(daemon) > deaths:
                outcome = "died there"
        finally:
            calls = load.finish()
        look(m.stack, m.model, what)
        m.check_deaths(what)
        m.report(what, outcome, calls)
    settle_doubts(m.stack, m.model, "at the end")
    m.report(THE_END, "compared", "")


@needs_fuse
def test_killed_while_a_mirror_of_the_namespace_is_ejected_and_admitted(matrix):
    m = matrix("mirrors")
    for daemon, point, n in few([t for t in targets(OF_MIRRORS, hits=(1,)) if t[0] == "objectd"], 1):
        m.kill_at(daemon, point, n, f"kv_mirror_after_write=error@{m.rng.randrange(20, 200)},")
        m.stack.wait("all mirrors", lambda s: s.get("well"), timeout=60)
    settle_doubts(m.stack, m.model, "at the end")
    from_the_object_tier(m.stack, m.model, "from the object tier")
    m.report(THE_END, "compared", "")


@needs_root
@needs_fuse
def test_killed_while_recovering_from_a_reboot(matrix):
    """The boot id changes, as after a reboot: versions that nobody synced may fall back to those before, whole."""
    m = matrix("reboot")
    for n, (daemon, point, at) in enumerate(few(targets(AFTER_REBOOT), 1)):
        what = f"reboot {n}, {daemon}:{point}@1"
        # The background sync comes late, so that files are unsynced for a while after their close.
        deaths = m.deaths_of("bufferd")
        m.stack.arm("bufferd", "burst_sync_before_data=delay:1500@*")
        m.kill("bufferd")
        wait_until("bufferd back", lambda: m.deaths_of("bufferd") > deaths and m.stack.all_up(), 60)
        m.stack.run("flush", "--hold")
        # A child process that is started closes what its parent has open, and a close publishes: what an overwrite has written
        # so far would be the version before. So no child while files are written, and what comes back is a whole version.
        load = m.load(True, children=False)
        try:
            load.go_on(120, 10)
        finally:
            m.stack.kill_all()
            calls = load.finish()
        unsynced = sum(bool(k.fallbacks) for k in m.model.keys.values())
        deaths = m.deaths_of("bufferd")
        m.stack.new_boot()
        m.stack.arm(daemon, f"{point}=kill@1")
        outcome = start_despite_kills(m.stack)
        for key in m.model.keys.values():
            key.states = key.states + key.fallbacks
            key.fallbacks = []
        settle_doubts(m.stack, m.model, what)
        m.check_deaths(what)
        if m.deaths_of("bufferd") > deaths:
            outcome = "died there"
        m.report(what, f"{outcome}; {unsynced} keys were unsynced", calls)
    from_the_object_tier(m.stack, m.model, "from the object tier")
    m.report(THE_END, "compared", "")
