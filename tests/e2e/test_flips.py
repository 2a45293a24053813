"""Seeded flips and truncations over everything that daemons store: each is detected or harmless, and no door gives a wrong byte.

As many drives as parity covers are damaged at a time, so that all content must still be read. PERIGEE_FLIPS is the number of flips
(the suite's own is small), PERIGEE_SEED where they begin.
"""

import hashlib
import os
import random
import shutil

import pytest

from conftest import HAS_FUSE, put_objects
from stack import Failed

FLIPS = int(os.environ.get("PERIGEE_FLIPS", "80"))
SEED = int(os.environ.get("PERIGEE_SEED", "1"))
A_ROUND = 40  # flips between two starts
SIZES = [100, 9_000, 20_000, 60_000, 300_000, 1 << 20, (5 << 20) + 3, (9 << 20) + 17]


def write(stack, sums, prefix):
    for i, size in enumerate((100, 30_000, 3 << 20)):
        body = os.urandom(size)
        os.makedirs(f"{stack.mount}/data/{prefix}", exist_ok=True)
        with open(f"{stack.mount}/data/{prefix}/m{i}", "wb") as f:
            f.write(body)
        sums[f"{prefix}/m{i}"] = hashlib.md5(body).hexdigest()
    stack.run("flush", "--wait")


def files_below(directory):
    found = []
    for base, _, names in os.walk(directory):
        found += [os.path.join(base, name) for name in names if name not in ("LOCK", "LOG") and not name.startswith("LOG.")]
    return sorted(path for path in found if os.path.getsize(path) > 0)


def where_data_is(f, size):
    """Offsets that are not in a hole: segments are mostly preallocated."""
    extents, at = [], 0
    while at < size:
        try:
            begin = os.lseek(f.fileno(), at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(f.fileno(), begin, os.SEEK_HOLE)
        extents.append((begin, at))
    return extents or [(0, size)]


def damage(path, rng):
    """What it did, in words."""
    size = os.path.getsize(path)
    if rng.randrange(10) == 0:
        keep = rng.randrange(size)
        os.truncate(path, keep)
        return f"{path}: cut to {keep} of {size}"
    with open(path, "r+b") as f:
        begin, end = rng.choice(where_data_is(f, size))
        at, bit = rng.randrange(begin, end), rng.randrange(8)
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ (1 << bit)]))
    return f"{path}: bit {bit} of byte {at}"


def damage_drives(drives, count, rng):
    kinds = [[p for d in drives for p in files_below(os.path.join(d, kind))] for kind in ("segments", "index", "meta")]
    kinds = [k for k in kinds if k]
    done = []
    for _ in range(count):
        path = rng.choice(rng.choice(kinds)) if rng.randrange(20) else os.path.join(rng.choice(drives), "superblock")
        if os.path.getsize(path) > 0:
            done.append(damage(path, rng))
    return done


def check(stack, sums, done):
    s3 = stack.s3()
    for key, md5 in sums.items():
        got = hashlib.md5(s3.get_object(Bucket="data", Key=key)["Body"].read()).hexdigest()
        assert got == md5, (key, done)
    listed = {o["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket="data") for o in page.get("Contents", [])}
    assert listed >= set(sums), done


def check_mount(stack, sums, done):
    stack.run("evict", check=False)
    for key, md5 in sums.items():
        with open(f"{stack.mount}/data/{key}", "rb") as f:
            assert hashlib.md5(f.read()).hexdigest() == md5, (key, done)


def heal(stack):
    """Drives that were too damaged to be opened are replaced; the rest is mended by scrub."""
    for d in stack.status()["objectd"]["drives"]:
        if d["state"] in ("lost", "offline"):
            shutil.rmtree(d["dir"])
            os.mkdir(d["dir"])
            stack.run("drive", "replace", d["dir"])
    stack.wait("repair", lambda s: s["objectd"]["volumes_to_repair"] == 0 and not s["objectd"]["repairing"] and
               all(d["state"] == "online" for d in s["objectd"]["drives"]), timeout=90)
    report = stack.json("scrub", "--rate", "1G", check=False)
    assert report["objectd"]["lost"] == 0, report


def test_flips_on_as_many_drives_as_parity_covers(make_stack):
    stack = make_stack(*([] if HAS_FUSE else ["--no-mount"]))
    rng, sums = random.Random(SEED), {}
    print(f"seed {SEED}, {FLIPS} flips")
    sums.update(put_objects(stack, SIZES, "first/"))
    if HAS_FUSE:
        write(stack, sums, "mounted")
    left, n = FLIPS, 0
    while left > 0:
        drives = [d["dir"] for d in stack.status()["objectd"]["drives"]]
        stack.kill_all() if rng.randrange(2) else stack.down()
        done = damage_drives(rng.sample(drives, 2), min(A_ROUND, left), rng)
        left -= A_ROUND
        try:
            stack.up()
        except Failed as e:
            raise AssertionError(f"{e}\n{done}")
        check(stack, sums, done)
        if HAS_FUSE:
            check_mount(stack, sums, done)
        sums.update(put_objects(stack, SIZES[1:4], f"after{n}/"))
        n += 1
        heal(stack)
        found = stack.run("fsck", "--repair", check=False)
        assert found.returncode == 0, (found.stdout, done)
        check(stack, sums, done)
