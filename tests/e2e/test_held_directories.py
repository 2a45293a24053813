"""Directories in which a node makes files by itself, and that every door shows what it acknowledged there."""

import os
import signal
import subprocess
import tarfile
import threading
import time

import botocore.exceptions
import pytest

from conftest import Made, needs_fuse

pytestmark = needs_fuse

FILES = 120


@pytest.fixture(scope="module")
def stack():
    made = Made()
    yield made()
    made.close()


def write(path, body):
    with open(path, "xb") as f:
        f.write(body)


def body_of(n):
    return b"%d " % n * (1 + n % 3 * 2000)


def held(stack):
    return stack.metric("objectd", "perigee_meta_directories_held_total")


def asked(stack):
    return stack.metric("objectd", "perigee_meta_directory_holders_asked_total")


@pytest.fixture
def directory(stack, request):
    """A new one, which this node holds."""
    name = f"held-{request.node.name}"
    path = os.path.join(stack.mount, "data", name)
    os.mkdir(path)
    before, n = held(stack), 0
    deadline = time.monotonic() + 30
    while held(stack) == before:
        assert time.monotonic() < deadline, "it is never held"
        write(f"{path}/first-{n}", b"first")
        n += 1
    return path


def key(path):
    return path.split("/data/", 1)[1]


def s3_read(stack, path):
    return stack.s3().get_object(Bucket="data", Key=key(path))["Body"].read()


def test_each_file_is_at_every_door_once_it_is_closed(stack, directory):
    s3, before = stack.s3(), asked(stack)
    for n in range(FILES):
        path = f"{directory}/{n}"
        write(path, body_of(n))
        if n % 10 == 0:
            assert s3.get_object(Bucket="data", Key=key(path))["Body"].read() == body_of(n)
        if n % 10 == 5:
            listed = s3.list_objects_v2(Bucket="data", Prefix=key(path))["Contents"]
            assert [(o["Key"], o["Size"]) for o in listed if o["Key"] == key(path)] == [(key(path), len(body_of(n)))]
    assert asked(stack) > before
    assert {f"{n}" for n in range(FILES)} <= set(os.listdir(directory))
    for n in range(FILES):
        with open(f"{directory}/{n}", "rb") as f:
            assert f.read() == body_of(n)


def test_many_files_take_few_commits(stack, directory):
    applied = stack.metric("objectd", "perigee_meta_commits_total")
    for n in range(FILES):
        write(f"{directory}/{n}", body_of(n))
    stack.wait("told", lambda s: s["bufferd"]["registered_later"] == 0)
    # One by one it takes two each, and one for each that ends its writing. How many are told at once depends on how fast this machine
    # makes them.
    assert stack.metric("objectd", "perigee_meta_commits_total") - applied < 2 * FILES


def test_what_is_not_told_yet_is_as_any_file(stack, directory):
    path = f"{directory}/new"
    write(path, b"one")
    with pytest.raises(FileExistsError):
        write(path, b"two")
    os.chmod(path, 0o640)
    os.utime(path, ns=(1_000_000_000, 2_000_000_000))
    with open(path, "ab") as f:
        f.write(b" and two")
    os.utime(path, ns=(1_000_000_000, 2_000_000_000))
    write(f"{directory}/other", b"other")
    os.rename(f"{directory}/other", f"{directory}/renamed")
    write(f"{directory}/gone", b"gone")
    os.unlink(f"{directory}/gone")
    write(f"{directory}/gone", b"here again")
    write(f"{directory}/linked", b"linked")
    os.link(f"{directory}/linked", f"{directory}/link")
    write(f"{directory}/attributed", b"attributed")
    os.setxattr(f"{directory}/attributed", "user.color", b"green")
    write(f"{directory}/short", b"shortened")
    os.truncate(f"{directory}/short", 5)
    stat = os.stat(path)
    assert (stat.st_mode & 0o777, stat.st_mtime_ns, stat.st_size) == (0o640, 2_000_000_000, 11)
    for name, body in (("new", b"one and two"), ("renamed", b"other"), ("gone", b"here again"), ("link", b"linked"), ("short", b"short")):
        assert s3_read(stack, f"{directory}/{name}") == body
    assert os.getxattr(f"{directory}/attributed", "user.color") == b"green"
    assert not os.path.exists(f"{directory}/other")


def test_the_directory_is_as_new_as_its_last_file(stack, directory):
    for n in range(20):
        before = time.time_ns()
        write(f"{directory}/{n}", b"x")
        assert os.stat(directory).st_mtime_ns >= before - 20_000_000  # the kernel's clock ticks


def test_who_puts_into_the_directory_and_who_makes_files_there_never_lose_each_other(stack, directory):
    s3, made, put, lost = stack.s3(), [], [], []

    def putter():
        for n in range(200):
            try:
                s3.put_object(Bucket="data", Key=f"{key(directory)}/same-{n}", Body=b"put", IfNoneMatch="*")
                put.append(n)
            except botocore.exceptions.ClientError as e:
                if e.response["Error"]["Code"] not in ("PreconditionFailed", "ConditionalRequestConflict"):
                    lost.append(e)
            time.sleep(0.01)

    other = threading.Thread(target=putter)
    other.start()
    for n in reversed(range(200)):
        try:
            write(f"{directory}/same-{n}", b"made")
            made.append(n)
        except FileExistsError:
            pass
        if n % 20 == 0:
            for again in range(12):
                write(f"{directory}/more-{n}-{again}", b"more")
    other.join()
    assert not lost
    # What is not closed yet is no object: where the two meet, a PUT may replace it.
    assert len(set(made) & set(put)) <= 1
    assert set(made) | set(put) == set(range(200))
    for n in range(200):
        assert s3_read(stack, f"{directory}/same-{n}") == (b"put" if n in put else b"made")
    assert not [name for name in os.listdir(directory) if "conflict" in name]


def test_an_archive_is_unpacked_as_it_was_packed(stack, directory, tmp_path):
    packed = tmp_path / "packed"
    for d in ("a", "a/b", "c"):
        (packed / d).mkdir(parents=True, exist_ok=True)
        for n in range(60):
            path = packed / d / f"{n}"
            path.write_bytes(body_of(n))
            os.chmod(path, 0o600 + n % 64)
            os.utime(path, ns=(n * 10**9, (n + 1) * 10**9))
    with tarfile.open(tmp_path / "archive", "w") as tar:
        tar.add(packed, "packed")
    subprocess.run(["tar", "-xpf", tmp_path / "archive", "-C", directory], check=True)
    subprocess.run(["diff", "-r", packed, f"{directory}/packed"], check=True)
    for d in ("a", "a/b", "c"):
        for n in range(60):
            was, now = os.stat(packed / d / f"{n}"), os.stat(f"{directory}/packed/{d}/{n}")
            assert (now.st_mode, now.st_mtime_ns, now.st_size) == (was.st_mode, was.st_mtime_ns, was.st_size)
    subprocess.run(["rm", "-r", f"{directory}/packed"], check=True)
    listed = stack.s3().list_objects_v2(Bucket="data", Prefix=f"{key(directory)}/packed/")
    assert "Contents" not in listed


@pytest.mark.parametrize("daemon", ["bufferd", "objectd"])
def test_what_was_acknowledged_is_there_after_a_kill(stack, directory, daemon):
    for n in range(FILES):
        write(f"{directory}/{n}", body_of(n))
    pid = stack.pid_of(daemon)
    os.kill(pid, signal.SIGKILL)
    stack.wait("all is back", lambda s: s.get("well") and s["bufferd"]["registered_later"] == 0, timeout=60)
    assert stack.pid_of(daemon) != pid
    for n in range(FILES):
        assert s3_read(stack, f"{directory}/{n}") == body_of(n)
        with open(f"{directory}/{n}", "rb") as f:
            assert f.read() == body_of(n)
    assert not [name for name in os.listdir(directory) if "conflict" in name]


def test_a_node_that_is_stopped_has_told_all(make_stack):
    stack = make_stack()
    path = os.path.join(stack.mount, "data", "d")
    os.mkdir(path)
    before = held(stack)
    for n in range(FILES):
        write(f"{path}/{n}", body_of(n))
    assert held(stack) > before
    supervisor, bufferd = stack.status()["pid"], stack.pid_of("bufferd")
    for n in range(FILES, 2 * FILES):
        write(f"{path}/{n}", body_of(n))
    os.kill(supervisor, signal.SIGSTOP)  # nobody starts it again
    try:
        os.kill(bufferd, signal.SIGTERM)
        s3, began = stack.s3(), time.monotonic()
        for n in range(2 * FILES):
            assert s3.get_object(Bucket="data", Key=f"d/{n}")["Body"].read() == body_of(n)
        assert time.monotonic() - began < 20
    finally:
        os.kill(supervisor, signal.SIGCONT)


def test_a_holder_that_does_not_answer_is_waited_for_as_long_as_its_term(stack, directory):
    pid = stack.pid_of("bufferd")
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        stack.s3().put_object(Bucket="data", Key=f"{key(directory)}/put", Body=b"put")
        assert time.monotonic() - began < 10
    finally:
        os.kill(pid, signal.SIGCONT)
    write(f"{directory}/after", b"after")
    assert s3_read(stack, f"{directory}/after") == b"after"
    with open(f"{directory}/put", "rb") as f:
        assert f.read() == b"put"
