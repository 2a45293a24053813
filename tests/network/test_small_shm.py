"""UCX in a container whose /dev/shm is small: a full one would be a SIGBUS."""

import hashlib
import os
import subprocess

import pytest

from cluster import Cluster, MiB, needs_machines


@pytest.fixture(params=["64m", "512m"])
def cluster(request, tmp_path):
    made = Cluster("ucx", str(tmp_path), shm=request.param)
    try:
        made.start("--no-mount")
        yield made
    finally:
        made.close()


def neighbour(cluster):
    """A GPU node on the first machine: the two could share memory."""
    host = cluster.first.host
    stack = cluster.made(up=False, prefix=host.prefix)
    stack.up("--objectd", cluster.objectd, "--secret-file", cluster.secret, "--no-mount", *cluster.network(host, port=":0"),
             "--bufferd-listen", f"{host.address}:0", "--bufferd-admin-listen", "127.0.0.1:0")
    return stack


@needs_machines
def test_ucx_says_that_shared_memory_is_too_small_and_does_without(cluster, tmp_path):
    node, host = neighbour(cluster), cluster.first.host
    local = tmp_path / "local"
    local.write_bytes(os.urandom(20 * MiB))
    node.run("cp", str(local), "perigee://data/there")
    node.run("flush", "--wait")
    assert node.stat("data/there")["class"] == "object"
    body = cluster.first.s3().get_object(Bucket="data", Key="there")["Body"].read()
    assert hashlib.md5(body).digest() == hashlib.md5(local.read_bytes()).digest()
    used = subprocess.run([*host.prefix, "df", "--output=used", "/dev/shm"], check=True, capture_output=True, text=True).stdout
    with open(f"{node.data}/log/bufferd.log") as f:
        said = [line for line in f if "rdma_ucx_no_shared_memory" in line]
    if cluster.lan.shm == "64m":
        assert int(used.split()[1]) == 0
        assert len(said) == 1 and "/dev/shm has 64 MiB free, wanted 128" in said[0], said
    else:
        assert int(used.split()[1]) > 0 and not said
