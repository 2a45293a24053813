"""What is promised when things die: drives, daemons, all at once."""

import hashlib
import itertools
import os
import shutil
import signal

import pytest

from conftest import HAS_FUSE, check_objects, needs_fuse, put_objects
from stack import Failed


def wipe(dirs):
    for d in dirs:
        shutil.rmtree(d)
        os.mkdir(d)


def wait_for_repair(stack):
    stack.wait("repair", lambda s: s["objectd"]["volumes_to_repair"] == 0 and not s["objectd"]["repairing"] and
               all(d["state"] == "online" for d in s["objectd"]["drives"]), timeout=60)


def test_every_pair_of_six_drives(make_stack):
    """Each of the 15 pairs lost once, under SIGKILL: everything is read, writing goes on, and repair makes it whole again."""
    stack = make_stack("--no-mount")
    sums = put_objects(stack, [10, 16_000, 60_000, 1 << 20, (18 << 20) + 5])
    drives = [d["dir"] for d in stack.status()["objectd"]["drives"]]
    for n, pair in enumerate(itertools.combinations(drives, 2)):
        stack.kill_all()
        wipe(pair)
        stack.up()
        lost = {d["dir"] for d in stack.status()["objectd"]["drives"] if d["state"] != "online"}
        assert lost == set(pair)
        check_objects(stack, sums)
        body = os.urandom(300_000)
        stack.s3().put_object(Bucket="data", Key=f"degraded-{n}", Body=body)
        sums[f"degraded-{n}"] = hashlib.md5(body).hexdigest()
        for d in pair:
            stack.run("drive", "replace", d)
        wait_for_repair(stack)
    check_objects(stack, sums)


def test_replace_repairs_and_two_others_may_go(make_stack):
    stack = make_stack("--no-mount")
    sums = put_objects(stack, [100, 50_000, 3 << 20, 20 << 20])
    drives = [d["dir"] for d in stack.status()["objectd"]["drives"]]
    stack.down()
    wipe(drives[:2])
    stack.up()
    sums |= {"late": hashlib.md5(b"late" * 500_000).hexdigest()}
    stack.s3().put_object(Bucket="data", Key="late", Body=b"late" * 500_000)
    with pytest.raises(Failed):
        stack.run("drive", "replace", drives[2])  # a healthy drive is not replaced
    for d in drives[:2]:
        stack.run("drive", "replace", d)
    wait_for_repair(stack)
    stack.kill_all()
    wipe(drives[2:4])
    stack.up()
    check_objects(stack, sums)


def test_three_lost_drives_are_refused_by_name(make_stack):
    stack = make_stack("--no-mount")
    put_objects(stack, [100])
    drives = [d["dir"] for d in stack.status()["objectd"]["drives"]]
    stack.down()
    wipe(drives[:3])
    with pytest.raises(Failed) as e:
        stack.up()
    assert all(d in str(e.value) for d in drives[:3])
    assert all(os.listdir(d) == [] for d in drives[:3])  # nothing was formatted


def test_a_foreign_drive_is_refused_by_name(make_stack):
    one, two = make_stack("--no-mount"), make_stack("--no-mount")
    drives = [s.status()["objectd"]["drives"][0]["dir"] for s in (one, two)]
    one.down()
    two.down()
    shutil.rmtree(drives[0])
    shutil.copytree(drives[1], drives[0])
    with pytest.raises(Failed) as e:
        one.up()
    assert drives[0] in str(e.value)


@needs_fuse
def test_sigkill_of_everything_keeps_what_was_acknowledged(make_stack):
    stack = make_stack()
    sums = put_objects(stack, [10, 40_000, 5 << 20])
    for i, size in enumerate((100, 30_000, 6 << 20)):
        body = os.urandom(size)
        with open(f"{stack.mount}/data/m{i}", "wb") as f:
            f.write(body)
            f.flush()
            os.fsync(f.fileno())
        sums[f"m{i}"] = hashlib.md5(body).hexdigest()
    stack.kill_all()
    stack.up()
    check_objects(stack, sums)
    for key, md5 in sums.items():
        with open(f"{stack.mount}/data/{key}", "rb") as f:
            assert hashlib.md5(f.read()).hexdigest() == md5, key


@needs_fuse
@pytest.mark.parametrize("name", ["objectd", "bufferd", "fuse"])
def test_a_daemon_that_dies_comes_back_and_the_doors_with_it(make_stack, name):
    stack = make_stack()
    body = os.urandom(1 << 20)
    with open(f"{stack.mount}/data/before", "wb") as f:
        f.write(body)
    pid = next(d["pid"] for d in stack.status()["daemons"] if d["name"] == name)
    os.kill(pid, signal.SIGKILL)
    stack.wait(f"{name} back", lambda s: s.get("well") and next(d["pid"] for d in s["daemons"] if d["name"] == name) not in (0, pid))
    assert stack.s3().get_object(Bucket="data", Key="before")["Body"].read() == body
    with open(f"{stack.mount}/data/before", "rb") as f:
        assert f.read() == body
    with open(f"{stack.mount}/data/after", "wb") as f:
        f.write(body)
    assert stack.s3().get_object(Bucket="data", Key="after")["Body"].read() == body


def test_a_second_up_names_the_first(make_stack):
    stack = make_stack("--no-mount")
    done = stack.run("up", "--detach", check=False)
    assert done.returncode == 1 and str(stack.info["pid"]) in done.stderr


def test_wrong_options_exit_2_with_one_line(make_stack):
    stack = make_stack(up=False)
    for args in (["up", "--profile", "9"], ["up", "--drives", "x"], ["up", "--nonsense"], ["flush"], ["stat"], ["ls", "a", "b"],
                 ["up", "--s3-listen", "nowhere", "--drives", "6"]):
        done = stack.run(*args, check=False)
        assert done.returncode in (1, 2) and len(done.stderr.strip().splitlines()) == 1, (args, done)
        if args[0] == "up" and args[1] != "--profile":
            assert done.returncode == 2, (args, done)
    assert not os.path.exists(f"{stack.data}/objectd/cluster")


@pytest.mark.skipif(not HAS_FUSE, reason="no /dev/fuse here")
def test_down_unmounts_and_up_finds_everything(make_stack):
    stack = make_stack()
    with open(f"{stack.mount}/data/f", "w") as f:
        f.write("kept")
    stack.down()
    assert not os.path.ismount(stack.mount) and os.listdir(stack.mount) == []
    stack.up()
    assert open(f"{stack.mount}/data/f").read() == "kept"


def test_stacks_live_side_by_side(make_stack):
    one, two = make_stack("--no-mount"), make_stack("--no-mount", drives=1)
    one.s3().put_object(Bucket="data", Key="k", Body=b"1")
    two.s3().put_object(Bucket="data", Key="k", Body=b"2")
    assert one.s3().get_object(Bucket="data", Key="k")["Body"].read() == b"1"
    assert two.s3().get_object(Bucket="data", Key="k")["Body"].read() == b"2"
    assert two.status()["objectd"]["profile"] == "1+0"
