"""Storage nodes: drives on other machines (cluster.py), which die, come back, are lost for good, drained and removed while a GPU node
saves and everybody reads. PERIGEE_NODES=all adds what takes minutes."""

import os
import re
import shutil
import urllib.request

import pytest

from cluster import ALL, Cluster, Files, MiB, check, counters, load, needs_machines, node_of, saved, slow, storage, wait_whole
from conftest import WITHIN, needs_fuse, until
from cutfs import CutFs


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster("tls", str(tmp_path_factory.mktemp("nodes")))
    data = {}
    if ALL:
        made.disk = CutFs(str(tmp_path_factory.mktemp("disk")))
        made.disk.space_as_around()  # else shards move there because it is the emptiest
        data["n2"] = os.path.join(made.disk.place, "n2")
    try:
        made.start_nodes(gpu_nodes=1, data=data)
        made.gpu = made.gpus[0]
        yield made
    finally:
        made.close()
        if ALL:
            made.disk.close()


def metrics(stack):
    with urllib.request.urlopen(f"http://{stack.host.address}:9001/metrics", timeout=10) as reply:
        return dict(re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", reply.read().decode(), re.M))


@needs_machines
@needs_fuse
class TestNodes:
    def test_nodes_join_and_volumes_are_spread_over_them(self, cluster):
        cluster.files = saved(cluster.gpu, [9 * MiB, 3 * MiB + 1, 5000], "early")
        wait_whole(cluster, "n1", "n2", "n3")
        for asked in (cluster.first, cluster.gpu):
            nodes, survives, _ = storage(asked)
            assert sorted(nodes) == ["first", "n1", "n2", "n3"]
            assert [nodes[n]["drives"] for n in ("n1", "n2", "n3")] == [2, 1, 1]
            assert all(n["heard"] and n["state"] == "in" and not n["problem"] for n in nodes.values())
            assert nodes["n1"]["addresses"] == f"tls:{cluster.storage[0].host.address}:9002"
        objectd = cluster.first.status()["objectd"]
        assert objectd["storage"]["survives"] == survives
        at = {drive["id"]: drive["node"] for drive in objectd["drives"]}
        assert len(set(at.values())) == 4
        for volume in objectd["volumes"]:
            assert len({at[drive] for drive in volume["drives"]}) == len(volume["drives"]), volume
        text = cluster.first.run("status").stdout
        assert f"may be lost: {survives}" in text and re.search(r"n2 +in +heard +1 of 1", text), text
        check(cluster, cluster.files)

    def test_a_storage_nodes_own_machine_says_how_it_is(self, cluster):
        node = cluster.storage[0]
        status = node.status()
        assert status["well"] and [d["name"] for d in status["daemons"]] == ["objectd"]
        assert [d["state"] for d in status["objectd"]["drives"]] == ["online", "online"]
        assert status["objectd"]["links"][0]["address"] == cluster.objectd and status["objectd"]["links"][0]["connected"]
        text = node.run("status").stdout
        assert f"to namespace node: {cluster.objectd}, connected" in text and "all doors answer" in text, text
        elsewhere = node.run("ls", check=False)
        assert elsewhere.returncode == 1 and f"run it where the namespace is, {cluster.objectd}" in elsewhere.stderr
        assert len(node.json("drive", "ls")) == 2

    def test_metrics_say_who_is_heard(self, cluster):
        said = metrics(cluster.first)
        assert [said[f'perigee_storage_node_heard{{node="{n}"}}'] for n in ("n1", "n2", "n3")] == ["1"] * 3
        assert (said["perigee_nodes_survived"], said["perigee_volume_moves"]) == ("1", "0")
        assert float(said["perigee_storage_nodes"]) >= 3
        assert "process_start_time_seconds" in metrics(cluster.storage[0])

    def test_a_killed_node_is_borne_at_once_and_filled_in_when_it_is_back(self, cluster):
        node = cluster.storage[0]
        node.kill_all()
        check(cluster, cluster.files)
        meanwhile = saved(cluster.gpu, [5 * MiB, MiB, 7000], "meanwhile")
        check(cluster, meanwhile)
        until("silent", lambda: not node_of(cluster, "n1")["heard"])
        told, survives, _ = storage(cluster.gpu)
        assert told["n1"]["drives_online"] == 0 and told["n1"]["problem"] and not survives.startswith("any 1 node")
        assert "SILENT since" in cluster.first.run("status").stdout
        assert metrics(cluster.first)['perigee_storage_node_heard{node="n1"}'] == "0"
        later = saved(cluster.gpu, [2 * MiB], "later")
        node.up()
        wait_whole(cluster, "n1")
        for files in (meanwhile, later):
            cluster.files.sums |= files.sums
        check(cluster, cluster.files)
        assert cluster.gpu.json("fsck")["found"] == []

    @slow
    def test_a_nodes_only_drive_hangs_and_saves_go_on(self, cluster):
        drives = os.path.join(cluster.storage[1].data, "drives")
        cluster.disk.fault(drives, delay_ms=3_600_000)
        try:
            files = Files(cluster.gpu, [5 * MiB, MiB, 7000] * 2, "hangs")
            cluster.gpu.run("flush", "--wait", timeout=90)
            assert node_of(cluster, "n2")["drives_online"] == 0
            assert "it hangs" in cluster.first.run("drive", "ls").stdout
            check(cluster, cluster.files, files)
        finally:
            cluster.disk.fault(drives)
        wait_whole(cluster, "n2")
        cluster.files.sums |= files.sums
        check(cluster, cluster.files)

    def test_the_namespace_node_starts_again_and_repairs_nothing(self, cluster):
        cluster.first.kill_all()
        cluster.first.up()
        wait_whole(cluster, "n1", "n2", "n3")
        assert counters(cluster.first)["shards_rebuilt"] == 0
        check(cluster, cluster.files)

    def test_a_lost_node_is_rebuilt_on_others_and_a_second_may_die(self, cluster):
        lost, second = cluster.storage[0], cluster.storage[1]
        refused = cluster.first.run("node", "repair", "n1", check=False)
        assert refused.returncode == 1 and "n1 is there" in refused.stderr
        lost.kill_all()
        until("silent", lambda: not node_of(cluster, "n1")["heard"])
        cluster.first.run("node", "repair", "n1", "--wait")
        wait_whole(cluster, "n2", "n3")
        second.kill_all()
        check(cluster, cluster.files)
        after = saved(cluster.gpu, [3 * MiB], "after")
        check(cluster, after)
        cluster.files.sums |= after.sums
        second.up()
        lost.up()
        wait_whole(cluster, "n1", "n2", "n3")
        check(cluster, cluster.files)

    def test_the_cable_is_pulled_in_the_middle_of_a_flush(self, cluster):
        node, gpu = cluster.storage[1], cluster.gpu
        gpu.run("flush", "--hold")
        files = Files(gpu, [12 * MiB] * 3, "pulled")
        gpu.host.limit("160mbit")
        sent = gpu.host.sent()
        gpu.run("flush", "--resume")
        until("the flush is under way", lambda: gpu.host.sent() - sent > 6 * MiB)
        node.host.unplug()
        try:
            gpu.host.limit(None)
            gpu.run("flush", "--wait")
            check(cluster, files)
        finally:
            node.host.plug()
        wait_whole(cluster, "n2")
        check(cluster, files)

    def test_a_node_is_drained_under_load_and_removed(self, cluster):
        node = cluster.storage[2]
        refused = cluster.first.run("node", "remove", "n3", check=False)
        assert refused.returncode == 1 and "drain it first" in refused.stderr
        with load(cluster, "drained"):
            drained = cluster.gpu.json("node", "drain", "n3", "--wait")
        assert (drained["state"], drained["volumes"]) == ("drained", 0)
        objectd = cluster.first.status()["objectd"]
        its = {drive["id"] for drive in objectd["drives"] if drive["node"] == drained["id"]}
        assert its and not any(its & set(volume["drives"]) for volume in objectd["volumes"])
        cluster.first.run("node", "remove", "n3")
        assert "n3" not in storage(cluster.first)[0]
        node.wait("refused", lambda s: s["objectd"]["links"][0]["refused"], WITHIN)
        link = node.status()["objectd"]["links"][0]
        assert "the node was removed from the cluster" in link["problem"] and not node.status()["well"]
        node.down()
        again = node.run("up", "--detach", check=False)
        assert again.returncode == 1 and "the node was removed from the cluster" in again.stderr
        check(cluster, cluster.files)
        assert cluster.gpu.json("fsck")["found"] == []

    @slow
    def test_a_drain_bears_a_cable_that_is_pulled_and_may_be_given_up(self, cluster):
        fresh = cluster.storage_node("n4", 1)
        wait_whole(cluster, "n1", "n2", "n4")
        with load(cluster, "kept"):
            cluster.first.run("node", "drain", "n2")
            cluster.storage[1].host.unplug()
            until("silent", lambda: not node_of(cluster, "n2")["heard"])
            cluster.storage[1].host.plug()
            cluster.first.run("node", "drain", "n2", "--wait")
        cluster.first.run("node", "keep", "n2")
        assert node_of(cluster, "n2")["state"] == "in"
        wait_whole(cluster, "n1", "n2", "n4")
        check(cluster, cluster.files)
        fresh.name = "n4"
        cluster.storage.append(fresh)

    def test_strangers_are_refused_in_one_line(self, cluster, tmp_path):
        wrong = tmp_path / "wrong"
        wrong.write_text("0" * 64)
        wrong.chmod(0o600)
        stranger = cluster.machine()
        done = stranger.run("up", "--detach", *cluster.joining(stranger, "n9", str(wrong)), "--drives", "1", check=False)
        assert done.returncode != 0 and "cluster secret" in done.stderr, done
        other = cluster.made("--no-mount", drives=1)
        other.down()
        theirs = shutil.move(f"{other.data}/drives/d1", f"{stranger.data}/theirs")
        done = stranger.run("up", "--detach", *cluster.joining(stranger, "n9"), "--drive", theirs, check=False)
        assert done.returncode != 0 and re.search(r"theirs belongs to cluster \w{16}, not to \w{16}", done.stderr), done
        assert "n9" not in storage(cluster.first)[0]

    @slow
    def test_a_node_that_stays_away_is_rebuilt_by_itself(self, cluster):
        cluster.first.down()
        cluster.first.up("--repair-after", "2s")
        wait_whole(cluster, "n1", "n2", "n4")
        cluster.storage[0].kill_all()
        until("rebuilt", lambda: node_of(cluster, "n1")["volumes"] == 0, 5 * WITHIN)
        wait_whole(cluster, "n2", "n4")
        cluster.storage[0].up()
        wait_whole(cluster, "n1", "n2", "n4")
        check(cluster, cluster.files)

    def test_nothing_is_left_wrong(self, cluster):
        for stack in (cluster.first, cluster.gpu):
            stack.run("flush", "--wait")
            assert stack.json("fsck")["found"] == []
