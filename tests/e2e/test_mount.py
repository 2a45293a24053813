"""The mount: what torch, numpy, rsync, git, fio, cp and tar do, and that S3 sees it."""

import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import subprocess
import time

import pytest

from conftest import ONE_USER, needs_fuse, needs_root

pytestmark = needs_fuse


@pytest.fixture
def where(stack, request):
    path = os.path.join(stack.mount, "data", request.node.name.replace("[", "-").replace("]", ""))
    os.mkdir(path)
    yield path
    shutil.rmtree(path)


def key_of(stack, path):
    return os.path.relpath(path, os.path.join(stack.mount, "data"))


def test_a_file_is_at_every_door_when_close_returns(stack, where):
    body = os.urandom(3 << 20)
    with open(f"{where}/x", "wb") as f:
        f.write(body)
    assert stack.s3().get_object(Bucket="data", Key=key_of(stack, f"{where}/x"))["Body"].read() == body
    s = stack.stat(f"data/{key_of(stack, where)}/x")
    assert s["tier"] in ("burst", "blobs") and s["size"] == len(body)


def test_s3_objects_are_files(stack, where):
    body = os.urandom(2 << 20)
    stack.s3().put_object(Bucket="data", Key=key_of(stack, f"{where}/sub/obj"), Body=body)
    with open(f"{where}/sub/obj", "rb") as f:
        assert f.read() == body
    assert os.listdir(f"{where}/sub") == ["obj"]


def test_a_copy_in_the_burst_buffer_goes_with_its_object(stack, where):
    with open(f"{where}/x", "wb") as f:
        f.write(os.urandom(8 << 20))
    stack.run("flush", "--wait")
    used = stack.used()
    stack.s3().delete_object(Bucket="data", Key=key_of(stack, f"{where}/x"))
    stack.wait("the copy is gone", lambda s: s["bufferd"]["used_bytes"] <= used - (8 << 20), timeout=30)


@pytest.mark.parametrize("size", [0, 1, 4096, 16384, 20000, 5 << 20])
def test_sizes_survive_flush_and_evict(stack, where, size):
    body = os.urandom(size)
    path = f"{where}/f"
    with open(path, "wb") as f:
        f.write(body)
    stack.run("flush", "--wait", f"data/{key_of(stack, path)}")
    stack.run("evict", f"data/{key_of(stack, path)}", check=False)
    with open(path, "rb") as f:
        assert f.read() == body
    assert os.stat(path).st_size == size


def test_writes_at_any_offset_append_and_truncate(stack, where):
    path = f"{where}/f"
    model = bytearray(300_000)
    with open(path, "wb") as f:
        f.truncate(300_000)
    with open(path, "r+b") as f:
        for offset, data in ((5, b"hello"), (299_990, b"0123456789"), (100_000, os.urandom(70_000))):
            f.seek(offset)
            f.write(data)
            model[offset:offset + len(data)] = data
    with open(path, "ab") as f:
        f.write(b"tail")
    model += b"tail"
    assert open(path, "rb").read() == bytes(model)
    os.truncate(path, 1000)
    assert open(path, "rb").read() == bytes(model[:1000])
    os.truncate(path, 2000)
    assert open(path, "rb").read() == bytes(model[:1000]) + bytes(1000)
    assert stack.s3().get_object(Bucket="data", Key=key_of(stack, path))["Body"].read() == bytes(model[:1000]) + bytes(1000)


def test_rename_is_atomic_replaces_and_moves_trees(stack, where):
    os.makedirs(f"{where}/tree/deep")
    for name in ("a", "deep/b"):
        with open(f"{where}/tree/{name}", "w") as f:
            f.write(name)
    os.rename(f"{where}/tree", f"{where}/moved")
    assert open(f"{where}/moved/deep/b").read() == "deep/b"
    assert not os.path.exists(f"{where}/tree")
    with open(f"{where}/new", "w") as f:
        f.write("new")
    os.rename(f"{where}/new", f"{where}/moved/a")
    assert open(f"{where}/moved/a").read() == "new"
    with pytest.raises(OSError) as e:
        os.rename(f"{where}/moved", f"{where}/moved/deep/inside")
    assert e.value.errno == errno.EINVAL
    listed = stack.s3().list_objects_v2(Bucket="data", Prefix=key_of(stack, where) + "/")
    names = {o["Key"].removeprefix(key_of(stack, where) + "/") for o in listed["Contents"]}
    assert {"moved/a", "moved/deep/b"} <= names and not any(n.startswith("tree") for n in names)


def test_rename_across_buckets_is_exdev(stack, where):
    stack.s3().create_bucket(Bucket="otherbucket")
    with open(f"{where}/f", "w") as f:
        f.write("x")
    with pytest.raises(OSError) as e:
        os.rename(f"{where}/f", f"{stack.mount}/otherbucket/f")
    assert e.value.errno == errno.EXDEV


def test_root_takes_buckets_only(stack):
    with pytest.raises(OSError) as e:
        open(f"{stack.mount}/plainfile", "w")
    assert e.value.errno == errno.EPERM
    with pytest.raises(OSError) as e:
        os.mkdir(f"{stack.mount}/Bad_Name")
    assert e.value.errno == errno.EINVAL
    os.mkdir(f"{stack.mount}/mkdir-bucket")
    assert "mkdir-bucket" in [b["Name"] for b in stack.s3().list_buckets()["Buckets"]]
    os.rmdir(f"{stack.mount}/mkdir-bucket")


def test_unlinked_files_stay_readable_while_open(where):
    path = f"{where}/f"
    with open(path, "w+b") as f:
        f.write(b"abc" * 10000)
        f.flush()
        os.unlink(path)
        assert os.fstat(f.fileno()).st_nlink == 0
        f.seek(0)
        assert f.read() == b"abc" * 10000
    assert os.listdir(where) == []


def test_mmap_shared_and_private(stack, where):
    path = f"{where}/m"
    with open(path, "wb") as f:
        f.write(bytes(1 << 20))
    with open(path, "r+b") as f:
        with mmap.mmap(f.fileno(), 0) as m:
            m[10:15] = b"hello"
            m.flush()
        with mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as m:
            assert m[10:15] == b"hello"
            m[10:15] = b"XXXXX"
    assert open(path, "rb").read()[10:15] == b"hello"
    assert stack.s3().get_object(Bucket="data", Key=key_of(stack, path))["Body"].read()[10:15] == b"hello"


def test_attributes(where):
    path = f"{where}/f"
    with open(path, "w") as f:
        f.write("x")
    inode = os.stat(path).st_ino
    os.chmod(path, 0o640)
    os.utime(path, ns=(1_600_000_000_123_456_789, 1_600_000_001_987_654_321))
    may_chown = os.geteuid() == 0 and not ONE_USER
    if may_chown:
        os.chown(path, 1234, 5678)
    st = os.stat(path)
    assert st.st_mode & 0o7777 == 0o640 and st.st_mtime_ns == 1_600_000_001_987_654_321 and st.st_ino == inode
    if may_chown:
        assert (st.st_uid, st.st_gid) == (1234, 5678)
    os.rename(path, path + "2")
    assert os.stat(path + "2").st_ino == inode
    os.symlink("f2", f"{where}/link")
    assert os.readlink(f"{where}/link") == "f2" and open(f"{where}/link").read() == "x"
    os.link(path + "2", f"{where}/hard")
    assert os.stat(f"{where}/hard").st_ino == inode and os.stat(f"{where}/hard").st_nlink == 2
    os.unlink(path + "2")
    assert open(f"{where}/hard").read() == "x"
    os.setxattr(f"{where}/hard", "user.color", b"blue")
    assert os.getxattr(f"{where}/hard", "user.color") == b"blue" and os.listxattr(f"{where}/hard") == ["user.color"]
    os.removexattr(f"{where}/hard", "user.color")
    assert os.listxattr(f"{where}/hard") == []
    assert os.statvfs(where).f_bavail > 0


def test_mtime_set_before_close_stays(where):
    path = f"{where}/f"
    with open(path, "wb") as f:
        f.write(b"data" * 10000)
        f.flush()
        os.utime(f.fileno(), ns=(1_500_000_000_000_000_000, 1_500_000_000_000_000_000))
    assert os.stat(path).st_mtime_ns == 1_500_000_000_000_000_000


def test_fsync_of_files_and_directories_and_fallocate(stack, where):
    fd = os.open(f"{where}/f", os.O_CREAT | os.O_RDWR)
    os.posix_fallocate(fd, 0, 100_000)
    os.pwrite(fd, b"x" * 100_000, 0)
    os.fsync(fd)
    assert stack.stat(f"data/{key_of(stack, where)}/f")["class"] in ("local", "object")
    os.close(fd)
    fd = os.open(where, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def test_flock_excludes_on_one_node(where):
    with open(f"{where}/l", "w") as one, open(f"{where}/l") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_o_direct_of_any_alignment(where):
    fd = os.open(f"{where}/d", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    body = os.urandom(10_001)
    assert os.pwrite(fd, body, 3) == len(body)
    assert os.pread(fd, 10_001, 3) == body
    os.close(fd)
    assert open(f"{where}/d", "rb").read() == bytes(3) + body


def test_exclusive_create_and_missing_names(where):
    os.close(os.open(f"{where}/e", os.O_CREAT | os.O_EXCL))
    with pytest.raises(FileExistsError):
        os.open(f"{where}/e", os.O_CREAT | os.O_EXCL)
    with pytest.raises(FileNotFoundError):
        open(f"{where}/none")
    with pytest.raises(OSError) as e:
        open(f"{where}/" + "n" * 256, "w")
    assert e.value.errno == errno.ENAMETOOLONG
    os.mkdir(f"{where}/dir")
    open(f"{where}/dir/f", "w").close()
    with pytest.raises(OSError) as e:
        os.rmdir(f"{where}/dir")
    assert e.value.errno == errno.ENOTEMPTY


def test_a_big_directory_lists_completely(where):
    for i in range(1500):
        open(f"{where}/file-{i:04}", "w").close()
    assert sorted(os.listdir(where)) == [f"file-{i:04}" for i in range(1500)]
    assert len([e for e in os.scandir(where) if e.stat().st_size == 0]) == 1500


def test_two_processes_append_and_read(where):
    # A reader that opens after the writer's close sees what was written: close-to-open.
    path = f"{where}/log"
    for i in range(20):
        subprocess.run(["sh", "-c", f"echo line{i} >> {path}"], check=True)
        assert open(path).read().splitlines()[-1] == f"line{i}"


def run(*command, cwd=None):
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    for name, size in (("a.bin", 3 << 20), ("dir/b.txt", 100), ("dir/deep/c", 70_000), ("empty", 0)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.urandom(size))
    (root / "link").symlink_to("dir/b.txt")
    (root / "dir/b.txt").chmod(0o600)
    os.utime(root / "a.bin", (1_000_000_000, 1_000_000_000))
    return root


def test_cp_a_and_rsync_keep_everything(where, tree):
    run("cp", "-a", f"{tree}/.", f"{where}/cp")
    run("rsync", "-a", f"{tree}/", f"{where}/rsync")
    for copy in ("cp", "rsync"):
        run("diff", "-r", str(tree), f"{where}/{copy}")
        # A second pass finds nothing to do: sizes and times are what they were.
        assert run("rsync", "-ain", f"{tree}/", f"{where}/{copy}/") == ""


def test_tar_and_mv(where, tree):
    run("tar", "-cf", f"{where}/t.tar", "-C", str(tree), ".")
    os.mkdir(f"{where}/x")
    run("tar", "-xf", f"{where}/t.tar", "-C", f"{where}/x")
    run("diff", "-r", str(tree), f"{where}/x")
    run("mv", f"{where}/x", f"{where}/y")
    run("diff", "-r", str(tree), f"{where}/y")


def test_git_works_in_the_mount(where):
    git = ["git", "-c", "user.email=a@b", "-c", "user.name=n", "-C", f"{where}/repo"]
    run("git", "init", "-q", f"{where}/repo")
    for i in range(5):
        with open(f"{where}/repo/f{i}", "w") as f:
            f.write("text\n" * i)
        run(*git, "add", ".")
        run(*git, "commit", "-q", "-m", f"c{i}")
    run(*git, "gc", "-q")
    run(*git, "fsck", "--strict")
    assert run(*git, "status", "--porcelain") == ""
    assert len(run(*git, "log", "--oneline").splitlines()) == 5


@pytest.mark.skipif(not shutil.which("fio"), reason="fio is not installed")
@pytest.mark.parametrize("engine", ["psync", "mmap"])
def test_fio_verifies(where, engine):
    run("fio", "--name=v", f"--directory={where}", "--rw=randwrite", "--bs=4k", "--size=16m", f"--ioengine={engine}",
        "--verify=crc32c", "--do_verify=1", "--verify_state_save=0", "--end_fsync=1")


@needs_root
def test_other_users_are_held_to_the_bits(stack, where):
    with open(f"{where}/secret", "w") as f:
        f.write("s")
    os.chmod(f"{where}/secret", 0o600)
    os.chmod(where, 0o777)
    script = (f"import os\nos.setgid(4321); os.setuid(4321)\n"
              f"try:\n open('{where}/secret'); print('READ')\nexcept PermissionError: print('denied')\n"
              f"open('{where}/mine','w').write('m'); print(os.stat('{where}/mine').st_uid)")
    out = run("python3", "-c", script)
    assert out.split() == ["denied", "4321"]


def test_passthrough_serves_reads_and_writes(stack, where):
    if not stack.status()["fuse"]["passthrough"]:
        pytest.skip("no passthrough here: " + stack.status()["fuse"]["why"])
    before = stack.status()["fuse"]["counters"]
    with open(f"{where}/p", "wb") as f:
        f.write(os.urandom(4 << 20))
    with open(f"{where}/p", "rb") as f:
        f.read()
    after = stack.status()["fuse"]["counters"]
    assert after["opens_passthrough"] - before["opens_passthrough"] == 2
    assert after["read_requests"] == before["read_requests"] and after["write_requests"] == before["write_requests"]


def test_times_of_a_directory_follow_what_is_done_in_it(stack, where):
    """The mount keeps them for a second: what is done through it is seen at once."""
    def told():
        return os.stat(where).st_mtime_ns

    def listed():
        return next(d["mtime"] for d in stack.json("ls", "data") if d["name"] == os.path.basename(where))
    seen = [told()]

    def moved():
        seen.append(told())
        assert seen[-1] > seen[-2] and os.stat(where).st_ctime_ns == seen[-1]
    for name in "abc":
        os.close(os.open(f"{where}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        moved()
    assert listed() == seen[-1]
    for change in (lambda: os.mkdir(f"{where}/sub"), lambda: os.rename(f"{where}/a", f"{where}/sub/a"),
                   lambda: os.unlink(f"{where}/b"), lambda: os.symlink("c", f"{where}/d"),
                   lambda: os.link(f"{where}/c", f"{where}/e"), lambda: os.mkfifo(f"{where}/fifo")):
        change()
        moved()
    assert listed() == seen[-1]
    os.chmod(where, 0o700)
    assert os.stat(where).st_mode & 0o7777 == 0o700
    os.utime(where, ns=(10**18, 10**18))
    assert told() == 10**18
