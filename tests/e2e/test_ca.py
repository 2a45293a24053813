"""perigee ca: what it writes is what TLS takes, and nothing is replaced or shown by accident."""

import json
import os
import socket
import ssl
import stat
import subprocess
import threading

import pytest

from conftest import BINARIES


def ca(*args, code=0):
    done = subprocess.run([os.path.join(BINARIES, "perigee"), "ca", *map(str, args)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    assert "PRIVATE KEY" not in done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def context(side, directory, node, authority="ca.crt"):
    made = ssl.SSLContext(side)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_verify_locations(directory / authority)
    made.load_cert_chain(directory / f"{node}.crt", directory / f"{node}.key")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def handshake(server, client, host):
    """Both ends' mutual TLS over a socket pair; the server's certificate as the client sees it."""
    ours, theirs = socket.socketpair()

    def serve():
        try:
            with server.wrap_socket(theirs, server_side=True) as s:
                s.sendall(s.recv(1))
        except OSError:  # the client sees the end, and its test says whether it should
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=host) as s:
            s.sendall(b"x")
            assert s.recv(1) == b"x"
            return s.getpeercert()
    finally:
        ours.close()
        thread.join()


@pytest.fixture
def authority(tmp_path):
    ca("init", "--dir", tmp_path)
    return tmp_path


def test_nodes_of_one_authority_trust_each_other_by_name_and_address(authority):
    ca("issue", "--dir", authority, "node1.example.org", "10.0.0.1", "fd00::1")
    ca("issue", "--dir", authority, "node2.example.org")
    server = context(ssl.PROTOCOL_TLS_SERVER, authority, "node1.example.org")
    client = context(ssl.PROTOCOL_TLS_CLIENT, authority, "node2.example.org")
    for host in ("node1.example.org", "10.0.0.1", "fd00::1"):
        names = handshake(server, client, host)["subjectAltName"]
        assert len(names) == 3 and ("DNS", "node1.example.org") in names
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "node2.example.org")


def test_every_file_is_its_owners_alone(authority):
    ca("issue", "--dir", authority, "n1")
    for name in ("ca.key", "ca.crt", "n1.key", "n1.crt"):
        assert stat.S_IMODE((authority / name).stat().st_mode) == 0o600, name
    assert sorted(os.listdir(authority)) == ["ca.crt", "ca.key", "n1.crt", "n1.key"]
    os.chmod(authority / "ca.key", 0o640)
    assert "chmod 600" in ca("issue", "--dir", authority, "n2", code=1)


def test_nothing_is_replaced_without_force(authority):
    ca("issue", "--dir", authority, "n1")
    before = {name: (authority / name).read_bytes() for name in os.listdir(authority)}
    assert "--force" in ca("init", "--dir", authority, code=1)
    assert "--force" in ca("issue", "--dir", authority, "n1", "10.0.0.1", code=1)
    assert {name: (authority / name).read_bytes() for name in os.listdir(authority)} == before
    ca("issue", "--dir", authority, "--force", "n1", "10.0.0.1")
    assert (authority / "n1.crt").read_bytes() != before["n1.crt"]


@pytest.mark.parametrize("flags, same_key", [([], True), (["--new-key"], False)])
def test_a_renewed_certificate_has_the_same_names_and_a_later_end(authority, flags, same_key):
    ca("issue", "--dir", authority, "--days", 2, "node1.example.org", "10.0.0.1")
    key = (authority / "node1.example.org.key").read_bytes()
    made, = json.loads(ca("renew", "--dir", authority, "--days", 30, "--json", *flags, authority / "node1.example.org.crt"))
    assert made["names"] == ["node1.example.org", "10.0.0.1"]
    assert ((authority / "node1.example.org.key").read_bytes() == key) == same_key
    server = context(ssl.PROTOCOL_TLS_SERVER, authority, "node1.example.org")
    client = context(ssl.PROTOCOL_TLS_CLIENT, authority, "node1.example.org")
    seen = handshake(server, client, "10.0.0.1")
    days = (ssl.cert_time_to_seconds(seen["notAfter"]) - ssl.cert_time_to_seconds(seen["notBefore"])) / 86400
    assert 29 < days < 31


def test_a_certificate_of_another_authority_is_refused(authority, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    ca("init", "--dir", other)
    ca("issue", "--dir", authority, "n1")
    ca("issue", "--dir", other, "n1")
    server = context(ssl.PROTOCOL_TLS_SERVER, authority, "n1")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, context(ssl.PROTOCOL_TLS_CLIENT, other, "n1"), "n1")


@pytest.mark.parametrize("args, said", [
    ([], "init"), (["sign"], "init, issue or renew"), (["init"], "--dir"), (["issue", "--dir", "."], "host names"),
    (["renew", "--dir", "."], "FILE.crt"), (["init", "--dir", ".", "x"], "no names"), (["issue", "--dir", "DIR", "a,IP:1.2.3.4"], "host name"),
    (["issue", "--dir", "DIR", ""], "host name"), (["renew", "--dir", "DIR", "DIR/ca.crt"], "authority")])
def test_wrong_usage_is_one_line(authority, args, said):
    text = ca(*[a.replace("DIR", str(authority)) for a in args], code=2)
    assert said in text and text.count("\n") == 1, text


def test_a_node_that_is_not_there_is_said(authority):
    assert "no-such.crt" in ca("renew", "--dir", authority, authority / "no-such.crt", code=1)
