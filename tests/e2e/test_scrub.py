"""perigee scrub and perigee fsck: they find what was damaged, mend it where it can be, and raise no false alarm under load."""

import glob
import json
import os
import random
import threading

import pytest

from conftest import check_objects, needs_fuse, put_objects

PAGE = 4096
FAST = ("--rate", "1G")


def records(drive):
    """(segment file, offset, payload bytes) of every shard record of a drive; docs/formats/segment.md."""
    found = []
    for path in sorted(glob.glob(f"{drive}/segments/*.seg")):
        with open(path, "rb") as f:
            data = f.read()
        for at in range(PAGE, len(data) - PAGE, PAGE):
            if data[at:at + 4] == b"PSHD" and int.from_bytes(data[at + 32:at + 40], "little") == at:
                found.append((path, at, int.from_bytes(data[at + 28:at + 32], "little")))
    return found


def flip(path, at, bit=0x20):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ bit]))


def drives_of(stack):
    return [d["dir"] for d in stack.status()["objectd"]["drives"]]


def code_and_json(stack, *args):
    done = stack.run(*args, "--json", check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def burst_files(stack):
    return glob.glob(f"{stack.status()['bufferd']['store']}/files/*/*")


def test_scrub_finds_every_seeded_damage_on_drives_and_all_is_rebuilt(make_stack):
    stack = make_stack("--no-mount")
    sums = put_objects(stack, [20_000, 60_000, 300_000, 1 << 20, 3 << 20, (9 << 20) + 17] * 2)
    one, two = drives_of(stack)[:2]
    stack.down()
    rng = random.Random(4)
    chosen = rng.sample(records(one), 5)
    for n, (path, at, size) in enumerate(chosen):
        flip(path, at + (rng.randrange(24, 100) if n == 0 else PAGE + rng.randrange(size)), 1 << rng.randrange(8))
    lost = records(two)  # the whole segment is cut off behind its first record
    assert len({path for path, *_ in lost}) == 1
    os.truncate(lost[0][0], lost[0][1] + PAGE + -(-lost[0][2] // PAGE) * PAGE)
    stack.up()
    code, report = code_and_json(stack, "scrub", *FAST)
    found = report["objectd"]
    assert code == 0, report
    # A rebuild that meets another bad shard of its blob has that one rebuilt too, before the scrub comes to it.
    seeded = len(chosen) + len(lost) - 1
    assert seeded <= stack.status()["objectd"]["counters"]["shards_rebuilt"]
    assert 0 < found["damaged"] <= seeded
    assert found["mended"] == found["damaged"] == len(found["findings"]) and found["lost"] == 0 and found["completed"] > 0
    check_objects(stack, sums)
    code, report = code_and_json(stack, "scrub", *FAST)
    assert code == 0 and report["objectd"]["damaged"] == 0 and report["objectd"]["bytes"] > sum([20_000, 60_000, 300_000])
    code, report = code_and_json(stack, "fsck")
    assert code == 0 and report["clean"], report


def test_scrub_says_what_is_lost_and_reads_of_it_fail(make_stack):
    stack = make_stack("--no-mount", drives=1)
    sums = put_objects(stack, [300_000, 400_000])
    drive, = drives_of(stack)
    stack.down()
    path, at, _ = next(r for r in records(drive) if r[2] == 300_032 or r[2] == 300_000)
    flip(path, at + PAGE + 1234)
    stack.up()
    done = stack.run("scrub", *FAST, check=False)
    assert done.returncode == 1 and "1 LOST" in done.stdout, done.stdout
    code, report = code_and_json(stack, "scrub", "status")
    assert code == 1 and report["objectd"]["lost"] == 1 and not report["objectd"]["running"]
    check_objects(stack, {"o1": sums["o1"]})
    with pytest.raises(Exception):
        stack.s3().get_object(Bucket="data", Key="o0")["Body"].read()


@needs_fuse
def test_a_bad_copy_in_the_burst_buffer_is_dropped_and_fetched_again(make_stack):
    stack = make_stack()
    body = os.urandom((5 << 20) + 3)
    with open(f"{stack.mount}/data/f", "wb") as f:
        f.write(body)
    stack.run("flush", "--wait")
    copy, = burst_files(stack)
    flip(copy, 3 << 20)
    code, report = code_and_json(stack, "scrub", *FAST)
    assert code == 0 and report["bufferd"]["damaged"] == report["bufferd"]["mended"] == 1
    assert "the copy was dropped" in report["bufferd"]["findings"][0]
    with open(f"{stack.mount}/data/f", "rb") as f:
        assert f.read() == body
    code, report = code_and_json(stack, "scrub", *FAST)
    assert report["bufferd"]["checked"] == 1 and report["bufferd"]["damaged"] == 0


def test_scrub_starts_stops_goes_on_after_a_kill_and_refuses_nonsense(make_stack):
    stack = make_stack("--no-mount")
    put_objects(stack, [4 << 20] * 4)
    code, report = code_and_json(stack, "scrub", "start", "--rate", "1K")
    assert code == 0 and report["objectd"]["running"] and report["objectd"]["bytes_total"] >= 24 << 20
    started = report["objectd"]["started"]
    stack.kill_all()
    stack.up()
    code, report = code_and_json(stack, "scrub", "status")
    assert report["objectd"]["running"] and report["objectd"]["started"] == started, report
    code, report = code_and_json(stack, "scrub", "stop")
    assert code == 0 and not report["objectd"]["running"] and report["objectd"]["completed"] == 0
    done = stack.run("scrub", *FAST)
    assert "nothing wrong" in done.stdout
    assert stack.run("scrub", "sideways", check=False).returncode == 2
    assert stack.run("fsck", "--nonsense", check=False).returncode == 2


def test_fsck_finds_a_missing_segment_and_a_leaked_burst_file_and_mends_both(make_stack):
    stack = make_stack("--no-mount")
    sums = put_objects(stack, [100, 20_000, 2 << 20, 10 << 20])
    drive = drives_of(stack)[3]
    stack.down()
    missing = len(records(drive))
    for path in glob.glob(f"{drive}/segments/*.seg"):
        os.unlink(path)
    stack.up()
    leaked = f"{stack.status()['bufferd']['store']}/files/07/00000000deadbeef"
    with open(leaked, "wb") as f:
        f.write(b"x" * 5000)
    done = stack.run("fsck", check=False)
    assert done.returncode == 1
    assert f"{missing + 1} found" in done.stdout, done.stdout
    code, report = code_and_json(stack, "fsck")
    kinds = [f["kind"] for f in report["found"]]
    assert code == 1 and not report["clean"]
    assert kinds.count("missing-shard") == missing and kinds.count("leaked-burst-file") == 1 and len(kinds) == missing + 1
    assert os.path.exists(leaked)
    code, report = code_and_json(stack, "fsck", "--repair")
    assert code == 0 and report["clean"] and len(report["mended"]) == missing + 1, report
    assert not os.path.exists(leaked) and len(records(drive)) == missing
    assert stack.run("fsck").returncode == 0
    check_objects(stack, sums)


def test_fsck_and_scrub_raise_no_false_alarm_under_load(make_stack):
    stack = make_stack("--no-mount")
    stop, wrong = threading.Event(), []

    def load(worker):
        s3, rng, mine = stack.s3(), random.Random(worker), []
        try:
            while not stop.is_set():
                key = f"w{worker}/{rng.randrange(12)}/{rng.randrange(3)}"
                what = rng.randrange(4)
                if what < 2:
                    s3.put_object(Bucket="data", Key=key, Body=os.urandom(rng.choice([10, 9000, 40_000, 700_000])))
                    mine += [key] if key not in mine else []
                elif mine and what == 2:
                    s3.delete_object(Bucket="data", Key=mine.pop(rng.randrange(len(mine))))
                elif mine:
                    s3.copy_object(Bucket="data", Key=key + "c", CopySource={"Bucket": "data", "Key": mine[-1]})
        except Exception as e:
            wrong.append(e)

    workers = [threading.Thread(target=load, args=(i,)) for i in range(3)]
    for w in workers:
        w.start()
    try:
        for _ in range(2):
            code, report = code_and_json(stack, "fsck")
            assert code == 0 and report["clean"], report
            assert report["looked"]["entries"] > 0
            code, report = code_and_json(stack, "scrub", *FAST)
            assert code == 0 and report["objectd"]["damaged"] == 0, report
    finally:
        stop.set()
        for w in workers:
            w.join()
    assert not wrong, wrong
