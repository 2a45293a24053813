"""GPU nodes with a burst buffer and a mount each, and objectd on another machine (cluster.py), over `tls` and over `ucx`."""

import contextlib
import os
import re
import signal
import subprocess

import pytest

from cluster import Cluster, Files, needs_machines
from conftest import BINARIES, WITHIN, needs_fuse, until

MiB = 1 << 20


@pytest.fixture(scope="module", params=["tls", "ucx"])
def cluster(request, tmp_path_factory):
    made = Cluster(request.param, str(tmp_path_factory.mktemp("network")))
    try:
        made.start()
        made.nodes = [made.gpu_node() for _ in range(2)]
        yield made
    finally:
        made.close()


def counter(node, name):
    return node.status()["bufferd"]["counters"][name]


def to_objectd(node):
    return node.status()["bufferd"]["links"][0]


@contextlib.contextmanager
def held(node):
    """Nothing is flushed meanwhile."""
    node.run("flush", "--hold")
    try:
        yield
    finally:
        node.run("flush", "--resume")


@needs_machines
@needs_fuse
class TestCluster:
    def test_status_says_how_each_machine_is_reached(self, cluster):
        first, (node, _) = cluster.first.status(), cluster.nodes
        assert first["well"] and first["objectd"]["network"]["addresses"] == [cluster.objectd]
        why = "certificates are given" if cluster.provider == "tls" else "the fabric is trusted"
        assert first["objectd"]["network"]["why"] == why
        status = node.status()
        assert status["well"] and status["endpoint"] == "" and len(status["objectd"]["drives"]) == 3
        assert [d["name"] for d in status["daemons"]] == ["bufferd", "fuse"]
        link = status["bufferd"]["links"][0]
        assert (link["to"], link["address"], link["connected"]) == ("objectd", cluster.objectd, True)
        assert status["bufferd"]["network"]["addresses"] == [f"{cluster.provider}:{node.host.address}:9012"]
        text = node.run("status").stdout
        assert re.search(rf"to objectd: {cluster.objectd}, connected, since 20\d\d-", text), text
        assert f"for other machines: {cluster.provider}:{node.host.address}:9012 ({why})" in text

    def test_no_daemon_has_memory_hooks(self, cluster):
        """UCX would patch libc's munmap and its like in every process that loads it."""
        for stack in [cluster.first, *cluster.nodes]:
            for daemon in stack.status()["daemons"]:
                with open(f"/proc/{daemon['pid']}/smaps") as f:
                    maps = re.findall(r" r-xp .*/libc\.so\.6\n(?:.*\n)*?Private_Dirty: +(\d+) kB", f.read())
                assert maps == ["0"], daemon["name"]

    def test_a_checkpoint_is_read_on_another_node_at_once_and_restored_there(self, cluster):
        a, b = cluster.nodes
        with held(a):
            files = Files(a, [24 * MiB, 9 * MiB + 1, 5000], "ckpt")
            before = counter(b, "bytes_filled_peer")
            files.check(b)
            assert counter(b, "bytes_filled_peer") - before == 33 * MiB + 1
            links = b.status()["bufferd"]["links"]
            assert (links[1]["address"], links[1]["connected"]) == (f"{cluster.provider}:{a.host.address}:9012", True)
            files.check_s3(cluster.first)
            assert b.stat("data/ckpt0")["tier"] == "burst"
        a.run("flush", "--wait", *files.paths())
        assert b.stat("data/ckpt0")["tier"] == "blobs"
        for node in (a, b):
            node.run("evict", *files.paths()[:2])
            before = counter(node, "bytes_filled_blobs")
            files.check(node)
            assert counter(node, "bytes_filled_blobs") - before >= 33 * MiB
        b.run("evict", *files.paths()[:2])
        b.run("warm", "--wait", *files.paths()[:2])
        assert b.stat("data/ckpt0")["burst"]["resident_bytes"] == 24 * MiB
        files.check_s3(cluster.first)

    def test_the_first_machine_reads_and_is_read(self, cluster):
        node = cluster.nodes[0]
        for writer, reader in ((cluster.first, node), (node, cluster.first)):
            with held(writer):
                Files(writer, [3 * MiB], f"both{reader.data[-3:]}").check(reader)

    def test_verbs_of_a_node_without_objectd(self, cluster):
        node = cluster.nodes[0]
        cluster.first.s3().put_object(Bucket="data", Key="verbs/there", Body=b"x" * 100)
        assert "there" in {e["name"] for e in node.json("ls", "data/verbs")}
        assert node.stat("data/verbs/there")["size"] == 100
        assert len(node.json("drive", "ls")) == 3
        refused = node.run("drive", "replace", "/srv/d1", check=False)
        assert refused.returncode == 1
        assert refused.stderr == f"perigee drive: the drives are at {cluster.objectd}: run it there\n"
        assert node.run("fsck").returncode == 0

    def test_objectd_killed_in_between(self, cluster):
        a, b = cluster.nodes
        early = Files(a, [2 * MiB], "early")
        pid = next(d["pid"] for d in cluster.first.status()["daemons"] if d["name"] == "objectd")
        os.kill(pid, signal.SIGKILL)
        late = Files(a, [MiB, 3000], "late")
        late.check(a)
        cluster.first.wait("objectd is back", lambda s: s["well"], WITHIN)
        for node in (a, b):
            node.wait("connected again", lambda s: s["well"] and s["bufferd"]["links"][0]["connected"], WITHIN)
        a.wait("told", lambda s: s["bufferd"]["registered_later"] == 0, WITHIN)
        a.run("flush", "--wait")
        for files in (early, late):
            files.check(b)
            files.check_s3(cluster.first)

    def test_the_cable_is_pulled_in_the_middle_of_a_flush(self, cluster):
        a, b = cluster.nodes
        with held(a):
            files = Files(a, [12 * MiB] * 4, "pulled")
            a.host.limit("120mbit")
            sent = a.host.sent()
        until("the flush is under way", lambda: a.host.sent() - sent > 6 * MiB)
        assert a.status()["bufferd"]["dirty_files"] > 0
        a.host.unplug()
        a.host.limit(None)
        a.wait("away", lambda s: not s["bufferd"]["links"][0]["connected"], WITHIN)
        assert to_objectd(a)["problem"]
        alone = Files(a, [2 * MiB, 700], "alone")
        alone.check(a)
        a.host.plug()
        a.wait("connected again", lambda s: s["bufferd"]["links"][0]["connected"], WITHIN)
        a.wait("told", lambda s: s["bufferd"]["registered_later"] == 0, WITHIN)
        a.run("flush", "--wait")
        for f in (files, alone):
            f.check(b)
            f.check_s3(cluster.first)
            assert {b.stat(path)["class"] for path in f.paths()} == {"object"}

    def test_a_stranger_is_refused_and_told_so_once(self, cluster, tmp_path):
        host = cluster.nodes[0].host
        wrong = tmp_path / "wrong"
        wrong.write_text("0" * 64)
        wrong.chmod(0o600)
        ways = {"secret": (str(wrong), "")}
        if cluster.provider == "tls":
            cluster.ca("init", to="others")
            ways["certificate"] = (cluster.secret, "others")
        for what, (secret, authority) in ways.items():
            log = tmp_path / f"{what}.log"
            with open(log, "w") as f:
                stranger = subprocess.Popen(
                    [*host.prefix, os.path.join(BINARIES, "perigee-bufferd"), "--store", tmp_path / f"{what}-store", "--run-dir",
                     tmp_path / f"{what}-run", "--objectd", cluster.objectd, "--admin-listen", "none", "--secret-file", secret,
                     *cluster.network(host, authority, ":0")], stdout=f, stderr=f)
            try:
                door = f"{cluster.first.data}/log/objectd.log"

                def refusals():
                    with open(door) as f:
                        return len(re.findall("rdma_(?:peer_violation|connection_closed)", f.read()))
                before = refusals()
                until("it tries again and again", lambda: refusals() >= before + 3)
            finally:
                stranger.terminate()
                assert stranger.wait(timeout=60) == 0
            told = [line for line in log.read_text().splitlines() if "objectd_away" in line]
            assert len(told) == 1 and what in told[0], told

    def test_a_node_that_is_started_again_is_what_it_was(self, cluster):
        a, b = cluster.nodes
        with held(b):
            files = Files(b, [2 * MiB], "again")
            b.down()
            with pytest.raises(OSError):  # its buffer is away, and there is no other copy
                files.check(a)
            with pytest.raises(Exception, match="503|SlowDown|ServiceUnavailable"):
                files.check_s3(cluster.first)
            b.up()
            assert b.status()["objectd_address"] == cluster.objectd
            files.check(a)
        files.check_s3(cluster.first)

    def test_nothing_is_left_wrong(self, cluster):
        for stack in [cluster.first, *cluster.nodes]:
            stack.run("flush", "--wait")
            assert stack.json("fsck")["found"] == []


REFUSED = [
    (["--transport", "tcp"], "--transport tcp: auto, local, tls, ucx or ofi"),
    (["--transport", "tls", "--listen", "127.0.0.1"], "--transport tls: needs --ca-file"),
    (["--transport", "tls", "--ca-file", "a", "--cert-file", "b", "--key-file", "c"], "--listen"),
    (["--listen", "127.0.0.1", "--ca-file", "a"], "give all three"),
    (["--listen", "0.0.0.0"], "--advertise"),
    (["--listen", "127.0.0.1", "--advertise", "host:1"], "the host alone"),
    (["--listen", "127.0.0.1:0", "--bufferd-listen", "127.0.0.1:0"], "no certificates"),
    (["--listen", "127.0.0.1:0", "--bufferd-listen", "127.0.0.1:0", "--ca-file", "/no/ca", "--cert-file", "b", "--key-file", "c"],
     "/no/ca"),
    (["--listen", "192.0.2.1", "--transport", "ucx"], "--listen 192.0.2.1:9002: no interface"),
    (["--objectd", "tls:127.0.0.1:9002", "--listen", "127.0.0.1"], "--secret-file"),
    (["--objectd", "tls:127.0.0.1:9002"], "--listen"),
    (["--objectd", "tls:127.0.0.1:9002", "--drives", "3"], "of its machine"),
    (["--join", "tls:127.0.0.1:9002", "--listen", "127.0.0.1"], "--drive DIR"),
    (["--join", "tls:127.0.0.1:9002", "--drives", "1"], "--listen HOST"),
    (["--join", "ucx:127.0.0.1:9002", "--drives", "1", "--listen", "127.0.0.1", "--transport", "ucx", "--fabric-trusted"], "--secret-file"),
    (["--join", "tls:127.0.0.1:9002", "--drives", "1", "--profile", "2+1"], "drives only"),
    (["--join", "tls:127.0.0.1:9002", "--objectd", "tls:127.0.0.1:9002"], "without drives"),
    (["--repair-after", "soon"], "--repair-after"),
    (["--objectd", "tls:127.0.0.1:9002", "--node-name", "node1"], "of its machine"),
]


@pytest.mark.parametrize("options, said", REFUSED, ids=[" ".join(o) for o, _ in REFUSED])
def test_what_cannot_be_is_refused_in_one_line(make_stack, options, said):
    stack = make_stack(up=False)
    doors = [] if {"--objectd", "--join"} & set(options) else ["--s3-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    for how in ([], ["--detach"]):
        done = stack.run("up", "--no-mount", *doors, *options, *how, check=False)
        assert done.returncode == 2, done
        lines = [line for line in done.stderr.splitlines() if line.startswith("perigee up: ")]
        assert len(lines) == 1 and said in lines[0], done.stderr
