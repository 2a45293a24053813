"""Machines with two networks between them, over `tls`: both are used, and either may go away."""

import re
import subprocess
import sys

import pytest

from cluster import Cluster, Files, needs_machines
from conftest import WITHIN, needs_fuse, until

MiB = 1 << 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster("tls", str(tmp_path_factory.mktemp("rails")), networks=2)
    try:
        made.start()
        made.node = made.gpu_node()
        yield made
    finally:
        made.close()


def to_objectd(node):
    return node.status()["bufferd"]["links"][0]


def sent(node):
    return [cable.sent() for cable in node.host.cables]


def since(node, before):
    return [now - then for now, then in zip(sent(node), before)]


def metric(node, name):
    """By the rail's address. The door is on that machine's own loopback."""
    ask = f"import urllib.request; print(urllib.request.urlopen('http://{node.status()['bufferd']['admin']}/metrics').read().decode())"
    text = subprocess.run([*node.host.prefix, sys.executable, "-c", ask], check=True, timeout=60, capture_output=True,
                          text=True).stdout
    return {rail: float(value) for rail, value in re.findall(rf'^{name}{{rail="([^"]+)"}} (\S+)$', text, re.M)}


@needs_machines
@needs_fuse
class TestRails:
    def test_status_shows_each_rail(self, cluster):
        node, addresses = cluster.node, cluster.objectd.split(",")
        assert cluster.first.status()["objectd"]["network"]["addresses"] == addresses
        assert len(node.status()["bufferd"]["network"]["addresses"]) == 2
        link = to_objectd(node)
        assert link["connected"] and link["address"] == cluster.objectd
        assert [rail["address"] for rail in link["rails"]] == addresses
        until("both are up", lambda: node.run("ls", "data") and {r["state"] for r in to_objectd(node)["rails"]} == {"up"})
        text = node.run("status").stdout
        for address in addresses:
            assert f"    rail {address}: up" in text, text

    def test_both_networks_carry_a_flush(self, cluster):
        node, before = cluster.node, sent(cluster.node)
        files = Files(node, [24 * MiB] * 4, "both")
        node.run("flush", "--wait", *files.paths())
        carried = since(node, before)
        assert sum(carried) > 96 * MiB and min(carried) > 10 * MiB, carried
        counted = metric(node, "perigee_net_rail_bytes_total")
        assert set(counted) == set(cluster.objectd.split(",")) and min(counted.values()) > 10 * MiB, counted
        files.check_s3(cluster.first)

    def test_one_network_goes_down_in_the_middle_of_a_flush(self, cluster):
        node, (first, second) = cluster.node, cluster.node.host.cables
        node.run("flush", "--hold")
        files = Files(node, [12 * MiB] * 6, "down")
        for cable in (first, second):
            cable.limit("120mbit")
        before = sent(node)
        node.run("flush", "--resume")
        until("the flush goes by both", lambda: min(since(node, before)) > 4 * MiB)
        second.down()
        try:
            assert node.status()["bufferd"]["dirty_files"] > 0
            node.run("flush", "--wait")
            link = to_objectd(node)
            assert link["connected"]
            assert [rail["state"] for rail in link["rails"]] == ["up", "cooling down"]
            assert link["rails"][1]["problem"] and link["rails"][1]["cool_downs"] > 0
            assert metric(node, "perigee_net_rail_cooldowns_total")[link["rails"][1]["address"]] > 0
            late = Files(node, [8 * MiB], "late")
            node.run("flush", "--wait")
        finally:
            second.up()
            for cable in (first, second):
                cable.limit(None)
        for f in (files, late):
            f.check_s3(cluster.first)
            assert {node.stat(path)["class"] for path in f.paths()} == {"object"}
        assert node.status()["bufferd"]["reported"] == []

        # Calls probe it once its cool-down is over.
        until("it is used again", lambda: node.run("ls", "data") and to_objectd(node)["rails"][1]["state"] == "up", WITHIN)
        before = sent(node)
        after = Files(node, [24 * MiB] * 4, "after")
        node.run("flush", "--wait")
        assert min(since(node, before)) > 10 * MiB
        after.check_s3(cluster.first)

    def test_a_network_that_leads_nowhere_from_the_start_costs_nothing(self, cluster):
        second = cluster.node.host.cables[1]
        cluster.node.down()
        second.down()
        try:
            cluster.node.up()
            assert to_objectd(cluster.node)["connected"]
            files = Files(cluster.node, [8 * MiB, 1000], "alone")
            cluster.node.run("flush", "--wait")
            files.check_s3(cluster.first)
        finally:
            second.up()

    def test_nothing_is_left_wrong(self, cluster):
        for stack in (cluster.first, cluster.node):
            stack.run("flush", "--wait")
            assert stack.json("fsck")["found"] == []
