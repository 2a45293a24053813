"""A checkpoint's way over a whole cluster (cluster.py), by each provider: saved on one GPU node, read at once on another, flushed to
storage nodes, and restored there when the first GPU node and a storage node are dead."""

import os

import pytest
import torch

from cluster import Cluster, Files, MiB, counters, needs_machines, storage, wait_whole
from conftest import WITHIN, needs_fuse, until

PROVIDERS = ["tls", "ucx", "ofi"]


@pytest.fixture(scope="module", params=PROVIDERS)
def cluster(request, tmp_path_factory):
    made = Cluster(request.param, str(tmp_path_factory.mktemp("story")))
    try:
        made.start_nodes(gpu_nodes=2)
        wait_whole(made, "n1", "n2", "n3")
        yield made
    finally:
        made.close()


def reached(node):
    """Addresses of whom a GPU node has spoken to, and still does."""
    return {link["address"] for link in node.status()["bufferd"]["links"] if link["connected"]}


def away(node):
    links = node.status()["bufferd"]["links"]
    return [link for link in links if link["to"].startswith("storage node ") and not link["connected"]]


def filled(node, source):
    return node.status()["bufferd"]["counters"][f"bytes_filled_{source}"]


def address(cluster, stack, port=9002):
    return f"{cluster.provider}:{stack.host.address}:{port}"


@needs_machines
@needs_fuse
def test_a_checkpoint_outlives_the_node_that_saved_it_and_a_storage_node(cluster):
    first, (a, b), nodes = cluster.first, cluster.gpus, cluster.storage
    a.run("flush", "--hold")
    weights = {f"layer{i}": torch.randn(1 << 20) for i in range(6)}
    torch.save(weights, os.path.join(a.mount, "data", "model.pt"))
    shards = Files(a, [9 * MiB + 1, 5000], "rank")
    paths = ["data/model.pt", *shards.paths()]
    size = os.path.getsize(os.path.join(a.mount, "data", "model.pt"))

    def restored():
        shards.check(b)
        found = torch.load(os.path.join(b.mount, "data", "model.pt"))
        assert weights.keys() == found.keys() and all(torch.equal(weights[k], found[k]) for k in weights)

    before = filled(b, "peer")
    restored()
    assert filled(b, "peer") - before == size + 9 * MiB + 1
    assert address(cluster, a, 9012) in reached(b)

    received, passed_on = [n.host.received() for n in nodes], first.host.sent()
    a.run("flush", "--resume")
    a.run("flush", "--wait", *paths)
    assert {a.stat(path)["class"] for path in paths} == {"object"}
    # Shards go straight to their drives: what the first machine sends are answers.
    assert sum(n.host.received() for n in nodes) - sum(received) > 20 * MiB
    assert first.host.sent() - passed_on < 2 * MiB
    assert len({address(cluster, node) for node in nodes} & reached(a)) >= 2

    a.kill_all()
    nodes[0].kill_all()
    before = filled(b, "blobs")
    b.run("evict", *paths)
    restored()
    assert filled(b, "blobs") - before >= size + 9 * MiB + 1
    assert reached(b) & {address(cluster, node) for node in nodes[1:]}
    until("n1 is away", lambda: address(cluster, nodes[0]) not in reached(b))
    until("n1 is silent", lambda: not storage(b)[0]["n1"]["heard"])
    assert not storage(b)[1].startswith("any 1 node")
    shards.check_s3(first)

    nodes[0].up()
    a.up()
    wait_whole(cluster, "n1", "n2", "n3")
    until("no storage node is away", lambda: not away(b))
    for node in (a, b):
        node.run("evict", *paths)
        shards.check(node)
    assert counters(first)["shards_rebuilt"] == 0
    for stack in (first, a, b):
        assert stack.wait("well", lambda s: s["well"], WITHIN)
        assert stack.json("fsck")["found"] == []
    for stack in (first, b, *nodes[1:]):
        assert all(daemon["restarts"] == 0 for daemon in stack.status()["daemons"])
