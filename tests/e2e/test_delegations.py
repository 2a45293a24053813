"""Opens that the mount answers by itself, and that none of them shows what was before an acknowledged change."""

import errno
import os
import signal
import threading
import time

import pytest

from conftest import EXAMPLE_FREE_PORTS, Made, needs_fuse
from test_kill_matrix import KillStack

pytestmark = needs_fuse


def counter(stack, name):
    return stack.status()["fuse"]["counters"][name]


def read(path):
    with open(path, "rb") as f:
        return f.read()


def kept(stack, path):
    """The file's opens are answered by the mount alone from here on."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        before = counter(stack, "opens_kept")
        read(path)
        if counter(stack, "opens_kept") > before:
            return
    raise AssertionError(f"{path} is never delegated")


def test_a_file_that_is_opened_again_is_answered_by_the_mount(stack):
    stack.s3().put_object(Bucket="data", Key="again", Body=b"x" * 70000)
    path = os.path.join(stack.mount, "data", "again")
    kept(stack, path)
    before = counter(stack, "opens_kept")
    for _ in range(100):
        assert read(path) == b"x" * 70000
    assert counter(stack, "opens_kept") == before + 100


def test_every_open_sees_the_last_put(stack):
    s3, path = stack.s3(), os.path.join(stack.mount, "data", "rewritten")
    s3.put_object(Bucket="data", Key="rewritten", Body=b"first")
    for i in range(60):
        read(path)
        read(path)
        s3.put_object(Bucket="data", Key="rewritten", Body=b"%d" % i)
        assert read(path) == b"%d" % i


def test_readers_beside_a_writer_never_go_back(stack):
    s3, path = stack.s3(), os.path.join(stack.mount, "data", "counted")
    s3.put_object(Bucket="data", Key="counted", Body=b"0")
    acknowledged, stop, wrong = [0], threading.Event(), []

    def look():
        while not stop.is_set():
            least = acknowledged[0]
            try:
                got = int(read(path))
            except OSError as e:
                if e.errno != errno.ESTALE:  # replaced again while the kernel looked again, which it does once
                    wrong.append(e)
                continue
            if got < least:
                wrong.append((got, least))

    readers = [threading.Thread(target=look) for _ in range(4)]
    for r in readers:
        r.start()
    for i in range(1, 80):
        s3.put_object(Bucket="data", Key="counted", Body=b"%d" % i)
        acknowledged[0] = i
    stop.set()
    for r in readers:
        r.join()
    assert not wrong


def test_names_that_go_are_gone(stack):
    s3, data = stack.s3(), os.path.join(stack.mount, "data")
    for name in ("deleted", "unlinked", "moved", "over", "hidden"):
        s3.put_object(Bucket="data", Key=name, Body=name.encode())
        kept(stack, f"{data}/{name}")
    s3.delete_object(Bucket="data", Key="deleted")
    os.unlink(f"{data}/unlinked")
    os.rename(f"{data}/moved", f"{data}/over")
    s3.put_object(Bucket="data", Key="hidden/inside", Body=b"in a directory of that name")
    for name in ("deleted", "unlinked", "moved"):
        with pytest.raises(FileNotFoundError):
            read(f"{data}/{name}")
    assert read(f"{data}/over") == b"moved"
    stack.wait("the directory hides the file", lambda _: os.path.isdir(f"{data}/hidden"), timeout=10)


def test_changed_by_this_mount(stack):
    data = os.path.join(stack.mount, "data")
    path = f"{data}/changed"
    with open(path, "wb") as f:
        f.write(b"a" * 50000)
    kept(stack, path)
    with open(path, "r+b") as f:
        f.write(b"b" * 100)
    assert read(path) == b"b" * 100 + b"a" * 49900
    kept(stack, path)
    with open(path, "wb") as f:
        f.write(b"c")
    assert read(path) == b"c"
    kept(stack, path)
    os.chmod(path, 0o600)
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_an_evicted_file_gives_its_space_back(stack):
    path = os.path.join(stack.mount, "data", "evicted")
    body = os.urandom(8 << 20)
    with open(path, "wb") as f:
        f.write(body)
    stack.run("flush", "--wait", "data/evicted")
    kept(stack, path)
    used = stack.used()
    stack.run("evict", "data/evicted")
    stack.wait("its space is back", lambda s: s["bufferd"]["used_bytes"] <= used - len(body), timeout=20)
    assert read(path) == body


@pytest.mark.parametrize("daemon", ["bufferd", "objectd"])
def test_a_daemon_dies_between_open_and_change(make_stack, daemon):
    stack = make_stack()
    s3, path = stack.s3(), os.path.join(stack.mount, "data", "x")
    for i in range(3):
        s3.put_object(Bucket="data", Key="x", Body=b"%d" % i)
        kept(stack, path)
        os.kill(next(d["pid"] for d in stack.status()["daemons"] if d["name"] == daemon), signal.SIGKILL)
        put_when_up(s3, b"new %d" % i)
        # A node that has not found objectd again within its term reads as of its last look until it has.
        deadline = time.monotonic() + 10
        while daemon == "objectd" and read(path) != b"new %d" % i and time.monotonic() < deadline:
            time.sleep(0.05)
        assert read(path) == b"new %d" % i


def put_when_up(s3, body):
    deadline = time.monotonic() + 60
    while True:
        try:
            s3.put_object(Bucket="data", Key="x", Body=body)
            return
        except Exception:  # noqa: BLE001: whatever boto3 makes of a server that is starting
            if time.monotonic() > deadline:
                raise


def test_a_stopped_bufferd_delays_a_change_for_its_term_only(make_stack):
    stack = make_stack()
    s3, path = stack.s3(), os.path.join(stack.mount, "data", "x")
    s3.put_object(Bucket="data", Key="x", Body=b"old")
    kept(stack, path)
    pid = next(d["pid"] for d in stack.status()["daemons"] if d["name"] == "bufferd")
    os.kill(pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        s3.put_object(Bucket="data", Key="x", Body=b"new")
        assert time.monotonic() - begin < 10
        seen = []
        reader = threading.Thread(target=lambda: seen.append(read(path)))
        reader.start()  # waits for bufferd: what is kept holds no longer
    finally:
        os.kill(pid, signal.SIGCONT)
    reader.join(60)
    assert seen == [b"new"]


def test_a_name_given_up_while_objectd_was_away_is_not_answered_by_what_it_said_since(tmp_path):
    stack = KillStack(str(tmp_path))
    try:
        # The change is made there 4 s after objectd is back; until then objectd knows the file by its old name.
        stack.arm("bufferd", "names_replay_before_op=delay:4000@*")
        stack.up("--drives", "3", *EXAMPLE_FREE_PORTS)
        data = os.path.join(stack.info["mount"], "data")
        with open(f"{data}/old", "wb") as f:
            f.write(b"a" * 50000)
        kept(stack, f"{data}/old")
        objectd = stack.pid_of("objectd")
        os.kill(objectd, signal.SIGSTOP)
        try:
            os.rename(f"{data}/old", f"{data}/new")
        finally:
            os.kill(objectd, signal.SIGCONT)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            assert read(f"{data}/new") == b"a" * 50000
            assert not os.path.exists(f"{data}/old")
            time.sleep(0.02)
        with open(f"{data}/old", "wb") as f:
            f.write(b"b")
        assert read(f"{data}/new") == b"a" * 50000
        stack.wait("the change is made", lambda s: s.get("well") and s["bufferd"].get("registered_later") == 0, timeout=30)
        assert (read(f"{data}/new"), read(f"{data}/old")) == (b"a" * 50000, b"b")
    finally:
        made = Made()
        made.stacks.append(stack)
        made.close()
