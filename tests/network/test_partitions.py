"""A network that loses packets, is slow, goes and comes back, or joins some machines and not others, between two GPU nodes, a
namespace node and three storage nodes (cluster.py). Whatever happens: what was acknowledged is there, nobody waits for ever, status
says what is wrong, and nothing is left degraded once the network is whole. PERIGEE_NODES=all adds providers and what takes minutes."""

import contextlib
import errno
import os

import machines
import pytest

from cluster import Cluster, Files, MiB, check, counters, in_background, in_time, load, needs_machines, node_of, saved, slow, storage, wait_whole
from conftest import WITHIN, needs_fuse, until

WHY_NO_FILTER = machines.why_no_filter() if machines.why_not() is None else machines.why_not()
needs_filter = pytest.mark.skipif(WHY_NO_FILTER is not None, reason=str(WHY_NO_FILTER))
NODES = ("n1", "n2", "n3")


# After an interface has gone, libfabric 1.17's tcp provider may crash the process in fi_cq_read (tcpx_handle_ack: an acknowledgement of
# nothing), and may never give back what was posted on a connection. Daemons are started again; reads that are under way fail.
crashes = pytest.mark.xfail(strict=False, reason="libfabric 1.17 crashes where a peer's interface goes down")


@pytest.fixture(scope="module", params=["tls", pytest.param("ucx", marks=slow), pytest.param("ofi", marks=[slow, crashes])])
def cluster(request, tmp_path_factory):
    made = Cluster(request.param, str(tmp_path_factory.mktemp("partitions")))
    try:
        made.start_nodes(gpu_nodes=2)
        wait_whole(made, *NODES)
        made.saves = [saved(made.gpus[0], [6 * MiB, 5000], "early")]
        yield made
    finally:
        made.close()


def to_storage(status):
    """A GPU node's links to storage nodes."""
    return [link for link in status["bufferd"]["links"] if link["to"].startswith("storage node ")]


def to_objectd(status):
    return status["bufferd"]["links"][0]


def healed(cluster, *saves):
    """Until everybody is reached and nothing is to repair. What was saved meanwhile is looked at again at the very end."""
    cluster.saves += saves
    wait_whole(cluster, *NODES)
    for node in cluster.gpus:
        node.wait("reached", lambda s: s["well"] and all(link["connected"] for link in to_storage(s)), WITHIN)


@contextlib.contextmanager
def dropped(host, **rule):
    host.drop(**rule)
    try:
        yield
    finally:
        host.drop_none()


@contextlib.contextmanager
def limited(rate, *hosts):
    for host in hosts:
        host.limit(rate)
    try:
        yield
    finally:
        for host in hosts:
            host.limit(None)


@contextlib.contextmanager
def down(host):
    host.interface("down")
    try:
        yield
    finally:
        host.interface("up")


def hosts(*stacks):
    return [stack.host for stack in stacks]


def under_way(counter):
    """A condition: some MiB more were counted (host.sent, host.received)."""
    before = counter()
    return lambda: counter() - before > 6 * MiB


@needs_machines
@needs_filter
@needs_fuse
class TestPartitions:
    @slow
    def test_two_packets_of_a_hundred_are_lost(self, cluster):
        a, b = cluster.gpus
        with contextlib.ExitStack() as losses:
            for stack in (a, b, cluster.storage[0]):
                losses.enter_context(dropped(stack.host, percent=2))
            files = in_time("saved", lambda: saved(a, [12 * MiB, 3 * MiB + 1, 5000], "lossy"))
            in_time("read", lambda: check(cluster, files))
        healed(cluster, files)
        assert counters(cluster.first)["shards_rebuilt"] == 0

    @slow
    def test_a_slow_network_is_no_dead_one(self, cluster):
        a, n2 = cluster.gpus[0], cluster.storage[1]
        since = node_of(cluster, "n2")["since"]
        with limited("200mbit", a.host), limited("20mbit", n2.host):
            files = in_time("saved", lambda: saved(a, [16 * MiB, MiB], "slow"))
            in_time("read", lambda: check(cluster, files))
        assert node_of(cluster, "n2")["since"] == since
        assert node_of(cluster, "n2")["heard"]
        healed(cluster, files)

    def test_a_gpu_nodes_interface_goes_in_the_middle_of_a_flush(self, cluster):
        a = cluster.gpus[0]
        a.run("flush", "--hold")
        files = Files(a, [12 * MiB] * 3, "gone")
        with limited("160mbit", a.host):
            begun = under_way(a.host.sent)
            a.run("flush", "--resume")
            until("the flush is under way", begun)
            with down(a.host):
                a.wait("away", lambda s: not to_objectd(s)["connected"], WITHIN)
                assert to_objectd(a.status())["problem"]
                alone = in_time("saved alone", lambda: Files(a, [2 * MiB, 700], "alone"))
                in_time("read alone", lambda: alone.check(a))
        a.wait("told", lambda s: s["bufferd"]["registered_later"] == 0, WITHIN)
        in_time("flushed", lambda: a.run("flush", "--wait"))
        in_time("read", lambda: check(cluster, files, alone))
        healed(cluster, files, alone)

    def test_a_file_whose_writer_is_gone_is_written_by_another_node(self, cluster):
        a, b = cluster.gpus
        theirs, ours = (os.path.join(stack.mount, "data", "latest") for stack in (a, b))
        saved(a, [700], "beside")

        def written():
            try:
                with open(ours, "wb") as f:
                    f.write(b"b" * 70_000)
                return True
            except OSError as e:
                assert e.errno == errno.EBUSY
                return False

        with open(theirs, "wb") as held:
            held.write(b"a" * 80_000)
            held.flush()
            assert not written()
            with down(a.host):
                assert not written()
                until("the dead node gives way", written, 90)
                held.write(b"a" * 1000)
        a.wait("told", lambda s: s["well"] and s["bufferd"]["registered_later"] == 0, WITHIN)
        there = {e["name"] for e in b.json("ls", "data") if e["name"].startswith("latest")}
        beside = there - {"latest"}
        assert len(beside) == 1 and "latest" in there
        until("both show it", lambda: open(theirs, "rb").read() == open(ours, "rb").read() == b"b" * 70_000, WITHIN)
        assert open(os.path.join(b.mount, "data", beside.pop()), "rb").read() == b"a" * 81_000
        healed(cluster)

    def test_a_storage_nodes_interface_goes_in_the_middle_of_a_restore(self, cluster):
        b, n1 = cluster.gpus[1], cluster.storage[0]
        files = saved(cluster.gpus[0], [24 * MiB, 12 * MiB], "restored")
        everyone = hosts(cluster.first, *cluster.storage)
        with limited("60mbit", *everyone):
            begun = under_way(b.host.received)
            reading = in_background(lambda: files.check(b))
            until("the restore is under way", begun)
            with down(n1.host):
                reading()
                until("silent", lambda: not node_of(cluster, "n1")["heard"])
        healed(cluster, files)

    @slow
    def test_a_gpu_nodes_interface_goes_in_the_middle_of_a_restore(self, cluster):
        b = cluster.gpus[1]
        files = saved(cluster.gpus[0], [24 * MiB, 12 * MiB], "again")
        with limited("60mbit", *hosts(cluster.first, *cluster.storage)):
            begun = under_way(b.host.received)

            reading = in_background(lambda: files.readable(b))
            until("the restore is under way", begun)
            with down(b.host):
                b.wait("away", lambda s: not to_objectd(s)["connected"], WITHIN)
            reading()
        until("read again", lambda: in_time("read", lambda: files.readable(b)))
        healed(cluster, files)

    @slow
    def test_a_storage_node_that_the_namespace_node_does_not_reach(self, cluster):
        n1 = cluster.storage[0]
        with dropped(n1.host, others=[cluster.first.host]):
            in_time("read at once", lambda: check(cluster, cluster.saves[0]))
            until("silent", lambda: not node_of(cluster, "n1")["heard"])
            _, survives, _ = storage(cluster.first)
            assert not survives.startswith("any 1 node")
            n1.wait("told", lambda s: not s["well"] and s["objectd"]["links"][0]["problem"], WITHIN)
            files = in_time("saved", lambda: saved(cluster.gpus[0], [9 * MiB, MiB], "unheard"))
            in_time("read", lambda: check(cluster, files))
        healed(cluster, files)

    def test_a_storage_node_that_gpu_nodes_do_not_reach(self, cluster):
        a, b = cluster.gpus
        first, n1 = cluster.first, cluster.storage[0]
        with dropped(n1.host, others=hosts(a, b)):
            passed_on = first.host.sent()
            # Enough files for every volume.
            files = in_time("saved", lambda: saved(a, [6 * MiB] * 6, "around"))
            in_time("read", lambda: check(cluster, files))
            assert first.host.sent() - passed_on > 4 * MiB
            for node in (a, b):
                told = node.wait("told", lambda s: not all(link["connected"] for link in to_storage(s)), WITHIN)
                away = [link for link in to_storage(told) if not link["connected"]]
                assert [link["address"] for link in away] == [f"{cluster.provider}:{n1.host.address}:9002"]
                assert away[0]["problem"], away
            assert "to storage node " in a.run("status").stdout
            assert node_of(cluster, "n1")["heard"]
        # The namespace node bridged it: nothing was written without n1.
        objectd = first.status()["objectd"]
        assert objectd["volumes_to_repair"] == objectd["blobs_to_repair"] == 0
        healed(cluster, files)
        passed_on = first.host.sent()
        saved(a, [12 * MiB], "straight")
        assert first.host.sent() - passed_on < 2 * MiB

    def test_a_gpu_node_that_reaches_half_of_the_cluster(self, cluster):
        a, b = cluster.gpus
        files = saved(a, [12 * MiB, MiB], "half")
        a.run("flush", "--hold")
        burst = Files(a, [2 * MiB], "burst")
        with dropped(b.host, others=hosts(a, *cluster.storage[:2])):
            in_time("restored", lambda: files.check(b))
            theirs = in_time("saved", lambda: saved(b, [9 * MiB, 5000], "theirs"))
            in_time("read where it was saved", lambda: theirs.check(b))
            in_time("read by others", lambda: theirs.check(a))
            with pytest.raises(OSError):  # only A has it, which B does not reach: never other bytes
                in_time("read from a node out of reach", lambda: burst.check(b))
            burst.check_s3(cluster.first)
        until("read from the other", lambda: burst.readable(b))
        a.run("flush", "--resume")
        healed(cluster, files, theirs, burst)

    @slow
    def test_a_port_that_a_firewall_closes_to_the_namespace_node(self, cluster):
        """The storage node's reports come through; no call gets to it."""
        n2 = cluster.storage[1]
        n2.host.close_port(9002, hosts(cluster.first))
        try:
            files = in_time("saved", lambda: saved(cluster.gpus[0], [6 * MiB] * 4, "closed"))
            in_time("read", lambda: check(cluster, files))
        finally:
            n2.host.drop_none()
        healed(cluster, files)

    @slow
    def test_the_namespace_nodes_interface_goes_in_the_middle_of_everything(self, cluster):
        a, b = cluster.gpus
        files = saved(a, [24 * MiB], "before")
        a.run("flush", "--hold")
        later = Files(a, [12 * MiB] * 2, "later")
        with limited("60mbit", *hosts(a, *cluster.storage)):
            begun = under_way(a.host.sent)
            a.run("flush", "--resume")
            reading = in_background(lambda: files.readable(b))
            until("the flush is under way", begun)
            with down(cluster.first.host):
                for stack in (a, b):
                    stack.wait("away", lambda s: not to_objectd(s)["connected"], WITHIN)
                alone = in_time("saved alone", lambda: Files(a, [MiB], "lone"))
                in_time("read alone", lambda: alone.check(a))
            reading()
        for stack in (a, b):
            stack.wait("back", lambda s: to_objectd(s)["connected"], WITHIN)
        a.wait("told", lambda s: s["bufferd"]["registered_later"] == 0, WITHIN)
        in_time("flushed", lambda: a.run("flush", "--wait"))
        in_time("read", lambda: check(cluster, files, later, alone))
        healed(cluster, files, later, alone)

    @slow
    def test_a_drain_bears_that_a_node_it_fills_and_the_namespace_node_go_and_come_back(self, cluster):
        with load(cluster, "drain"):
            cluster.first.run("node", "drain", "n3")
            with down(cluster.storage[0].host):
                until("silent", lambda: not node_of(cluster, "n1")["heard"])
            until("heard", lambda: node_of(cluster, "n1")["heard"])
        with down(cluster.first.host):
            for node in cluster.storage:
                node.wait("away", lambda s: not s["objectd"]["links"][0]["connected"], WITHIN)
        cluster.first.run("node", "drain", "n3", "--wait")
        check(cluster, cluster.saves[0])
        cluster.first.run("node", "keep", "n3")
        healed(cluster)

    def test_nothing_is_left_wrong(self, cluster):
        for stack in (cluster.first, *cluster.gpus):
            stack.run("flush", "--wait")
        check(cluster, *cluster.saves)
        for stack in (cluster.first, *cluster.gpus):
            assert stack.json("fsck")["found"] == []
        for stack in (cluster.first, *cluster.gpus, *cluster.storage):
            status = stack.status()
            assert status["well"] and all(daemon["restarts"] == 0 for daemon in status["daemons"])
