"""Clients that lie, dribble, flood or try what is not theirs: each gets a clear answer, nothing is stored, and others are served."""

import concurrent.futures
import datetime
import hashlib
import json
import os
import re
import resource
import socket
import time
import urllib.parse

import pytest

from conftest import HAS_FUSE, needs_root
from raw_s3 import Connection, RawS3, as_lines, quote

perigee = pytest.importorskip("perigee")

WITHIN = 60  # s, for what takes moments


@pytest.fixture
def raw(stack):
    before = {d["name"]: d["pid"] for d in stack.status()["daemons"]}
    yield RawS3(stack)
    assert {d["name"]: d["pid"] for d in stack.status()["daemons"]} == before, "a daemon died"


@pytest.fixture
def bucket(stack, request):
    """An empty bucket of the test's own; at its end it must hold what the test says in `bucket.holds`, and nothing more."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:60].strip("-")
    s3 = stack.s3()
    s3.create_bucket(Bucket=name)
    made = Bucket(name)
    yield made
    assert listed(s3, name) == made.holds
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=name)


class Bucket(str):
    """A bucket's name, and the objects that it is to hold: {key: body}."""

    def __init__(self, _):
        self.holds = {}


def listed(s3, name):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=name)
    return {o["Key"]: s3.get_object(Bucket=name, Key=o["Key"])["Body"].read() for p in pages for o in p.get("Contents", [])}


def keys_of(raw, name):
    """By our own client: boto3 does not get every key through."""
    found = re.findall(rb"<Key>([^<]*)</Key>", raw.do("GET", f"/{name}?encoding-type=url&list-type=2").body)
    return {urllib.parse.unquote_to_bytes(key) for key in found}


def put_and_look(raw, name, path, key):
    """PUT of a path as it is sent: stored under exactly `key`, or refused by name. Whether it was stored."""
    body = hashlib.sha256(key).digest()
    put = raw.do("PUT", f"/{name}/{path}", body)
    if put.status == 200:
        assert raw.do("GET", f"/{name}/{path}").body == body, (path, "is not what was stored")
        return True
    assert put.status in (400, 403, 404, 405, 501) and put.code, (path, put)
    assert raw.do("GET", f"/{name}/{path}").status != 200
    return False


def test_keys_that_look_like_ways_out_of_the_bucket(stack, raw):
    s3 = stack.s3()
    s3.create_bucket(Bucket="paths")
    outside = sorted(os.listdir(stack.data))
    paths = ["../up", "..", ".", "a/../../up", "./a", "a/.", "a/..", "/abs", "//", "a//b", "a///", "%2e%2e/up", "%2e%2e%2fup",
             "..%2f..%2f..%2fetc%2fpasswd", "%252e%252e/up", "..\\up", "..%5cup", "%2F%2Fabs", "~root/.ssh", "a:b", "-rf", "CON",
             "x" * 255, "x" * 256, "x" * 1024, "x" * 1025, "d/" * 100 + "deep", "d/" * 400 + "deeper", "lost+found/..", "%c0%ae%c0%ae/up", ".perigee"]
    stored = {}
    for path in paths:
        key = urllib.parse.unquote_to_bytes(path)
        if put_and_look(raw, "paths", path, key):
            stored[key] = path
    assert keys_of(raw, "paths") == set(stored)
    assert {b"../up", b"/abs", b"a//b", b"..", b"-rf", b"x" * 1024, b"d/" * 100 + b"deep"} <= set(stored)
    assert not {b"x" * 1025, b"\xc0\xae\xc0\xae/up"} & set(stored)
    # A bucket is no way out either.
    for path in ("/../x", "/..%2f..%2fx", "//x", "/%2e%2e/x"):
        reply = raw.do("PUT", path, b"no")
        assert reply.status in (400, 404, 405) and reply.code, (path, reply)
    # The mount shows what a file system can name, and nothing that leads elsewhere.
    if HAS_FUSE:
        names = {os.path.relpath(os.path.join(base, n), f"{stack.mount}/paths")
                 for base, _, files in os.walk(f"{stack.mount}/paths") for n in files}
        assert "-rf" in names and not any(part in ("..", ".") for n in names for part in n.split("/"))
    assert sorted(os.listdir(stack.data)) == outside
    assert not {"up", "abs"} & {*os.listdir(os.path.dirname(stack.data)), *os.listdir("/")}
    for key, path in stored.items():
        assert raw.do("DELETE", f"/paths/{path}").status == 204, key
    assert keys_of(raw, "paths") == set()
    s3.delete_bucket(Bucket="paths")


def test_keys_of_every_byte(stack, raw):
    stack.s3().create_bucket(Bucket="bytes")
    stored = set()
    shapes = [b"%c", b"in-%c-side", b"dir%c/file", b"end%c"]
    for byte in range(256):
        for shape in shapes:
            key = shape % byte
            if put_and_look(raw, "bytes", quote(key, ""), key):
                stored.add(key)
    # All of ASCII but NUL; single bytes beyond it are no UTF-8.
    assert stored == {shape % byte for byte in range(1, 128) for shape in shapes}
    assert keys_of(raw, "bytes") == stored
    # In XML that says them plainly too, but for those that XML cannot hold.
    text = raw.do("GET", "/bytes?list-type=2").body.decode()
    for key in (b"in-&-side", b"in-<-side", b'in-"-side', b"in-\x7f-side", b"in- -side"):
        shown = key.decode().replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        assert f"<Key>{shown}</Key>" in text or f"<Key>{key.decode()}</Key>" in text, key
    for wide in ("ü", "€", "🎉", "a\u0301", "\u202e", "\ufeff", "\U0010ffff"):
        assert put_and_look(raw, "bytes", quote(wide), wide.encode()), wide
    for broken in (b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xff\xfe"):
        assert not put_and_look(raw, "bytes", quote(broken), broken), broken


def test_escapes_that_are_none_are_refused(raw, bucket):
    for path in ("%", "%4", "%zz", "a%", "%%41", "%u0041"):
        head = f"PUT /{bucket}/{path} HTTP/1.1\r\n".encode()
        with raw.connect() as c:
            c.send(head + as_lines(raw.headers("PUT", f"/{bucket}/a") | {"content-length": "1"}) + b"\r\nx")
            reply = c.read()
        assert (reply.status, reply.code) == (400, "InvalidURI"), path


def test_long_heads(raw, bucket):
    eight = {f"x-filler-{i}": "v" * 500 for i in range(16)}
    assert raw.do("PUT", f"/{bucket}/eight", b"8", headers=eight).status == 200
    bucket.holds["eight"] = b"8"
    for headers in ({f"x-filler-{i}": "v" * 500 for i in range(128)}, {"x-one": "v" * (64 << 10)}):
        with raw.connect() as c:
            c.send(raw.wire("PUT", f"/{bucket}/long", b"no", headers=headers))
            assert c.read().status == 400 and c.closed()
    reply = raw.do("PUT", f"/{bucket}/metadata", b"no", headers={"x-amz-meta-a": "v" * (8 << 10)})
    assert (reply.status, reply.code) == (400, "MetadataTooLarge")
    assert raw.do("GET", f"/{bucket}?" + "x" * (40 << 10)).status == 400


def test_half_closed_sockets(raw, bucket):
    """A client that has said all it will say still gets its answer; one that stopped in the middle stores nothing."""
    with raw.connect() as c:
        c.send(raw.wire("PUT", f"/{bucket}/whole", b"w" * 100_000))
        c.socket.shutdown(socket.SHUT_WR)
        assert c.read().status == 200 and c.closed()
    bucket.holds["whole"] = b"w" * 100_000
    with raw.connect() as c:
        c.send(raw.wire("GET", f"/{bucket}/whole"))
        c.socket.shutdown(socket.SHUT_WR)
        assert len(c.read().body) == 100_000
    for size in (100, 1000_000):
        with raw.connect() as c:
            c.send(raw.wire("PUT", f"/{bucket}/part", b"p" * (size - 1), length=size))
            c.socket.shutdown(socket.SHUT_WR)
            reply = c.read()
            assert (reply.status, reply.code) == (400, "IncompleteBody") and c.closed()
    with raw.connect() as c:
        c.send(b"GET /half HTTP/1.1\r\nHost:")
        c.socket.shutdown(socket.SHUT_WR)
        assert c.closed()


def framed(*chunks, trailer=b"", end=b"0\r\n"):
    return b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + end + trailer + b"\r\n"


def test_lengths_and_chunks_that_lie(raw, bucket):
    """Content-Length, chunk sizes and decoded lengths that are not what is sent."""
    chunked = {"transfer-encoding": "chunked", "x-amz-decoded-content-length": "5"}
    coded = {"x-amz-decoded-content-length": "5", "content-encoding": "aws-chunked", "x-amz-trailer": "x-amz-checksum-crc32"}
    right = b"x-amz-checksum-crc32:NhCmhg==\r\n"
    stream = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    assert raw.do("PUT", f"/{bucket}/good", framed(b"hello", trailer=right), headers=coded, payload=stream).status == 200
    bucket.holds["good"] = b"hello"
    wrong = {
        "checksum": framed(b"hello", trailer=b"x-amz-checksum-crc32:AAAAAA==\r\n"),
        "checksum of no form": framed(b"hello", trailer=b"x-amz-checksum-crc32:???\r\n"),
        "no trailer": framed(b"hello"),
        "another trailer": framed(b"hello", trailer=b"x-amz-checksum-sha1:NhCmhg==\r\n"),
        "two values": framed(b"hello", trailer=b"x-amz-checksum-crc32:AAAAAA==\r\n" + right),
        "large trailer": framed(b"hello", trailer=b"x-a: " + b"v" * (64 << 10) + b"\r\n" + right),
        "many trailers": framed(b"hello", trailer=b"x-a: v\r\n" * 20_000 + right),
        "trailer without end": framed(b"hello", trailer=right)[:-2] + b"x-more",
        "more than decoded": framed(b"hello!", trailer=right),
        "less than decoded": framed(b"hell", trailer=right),
        "no last chunk": b"5\r\nhello\r\n",
        "short chunk": b"6\r\nhello\r\n0\r\n" + right + b"\r\n",
        "long chunk": b"4\r\nhello\r\n0\r\n" + right + b"\r\n",
        "overflow": b"10000000000000005\r\nhello\r\n0\r\n" + right + b"\r\n",
        "overflow to zero": b"10000000000000000\r\nhello\r\n0\r\n" + right + b"\r\n",
        "huge": b"ffffffffffffffff\r\nhello\r\n0\r\n" + right + b"\r\n",
        "sign": b"+5\r\nhello\r\n0\r\n" + right + b"\r\n",
        "minus": b"-5\r\nhello\r\n0\r\n" + right + b"\r\n",
        "0x": b"0x5\r\nhello\r\n0\r\n" + right + b"\r\n",
        "blank": b" 5\r\nhello\r\n0\r\n" + right + b"\r\n",
        "bare LF": b"5\nhello\n0\n" + right + b"\n",
        "long size line": b"5;" + b"x" * 10_000 + b"\r\nhello\r\n0\r\n" + right + b"\r\n",
        "something after it": framed(b"hello", trailer=right) + b"more",
    }
    for what, body in wrong.items():
        with raw.connect() as c:
            c.send(raw.wire("PUT", f"/{bucket}/bad", body, headers=coded, payload=stream))
            reply = c.read()
        assert reply.status == 400 and reply.code, (what, reply)
    # The same framing as HTTP's own.
    for what in ("short chunk", "long chunk", "overflow", "huge", "sign", "0x", "bare LF", "no last chunk"):
        with raw.connect() as c:
            c.send(raw.wire("PUT", f"/{bucket}/bad", wrong[what].replace(right, b""), headers=chunked, length=False))
            c.socket.shutdown(socket.SHUT_WR)
            reply = c.read()
        assert reply.status == 400 and reply.code, (what, reply)
    # Content-Length beyond what comes, and below it.
    sha = hashlib.sha256(b"hello").hexdigest()
    with raw.connect() as c:
        c.send(raw.wire("PUT", f"/{bucket}/bad", b"hello", length=6))
        c.socket.shutdown(socket.SHUT_WR)
        assert c.read().code == "IncompleteBody"
    with raw.connect() as c:
        c.send(raw.wire("PUT", f"/{bucket}/bad", b"hello", length=4, payload=sha))
        assert c.read().code == "XAmzContentSHA256Mismatch"
        c.send(b"\r\n\r\n")
        assert c.read().status == 400 and c.closed()  # "o" is no request
    for length in (5 << 40, 1 << 62):
        assert raw.do("PUT", f"/{bucket}/bad", b"", length=length).code == "EntityTooLarge"
    for length in ("-1", "5, 5", "+5", "0x5", "18446744073709551617", "five", ""):
        with raw.connect() as c:
            c.send(raw.wire("PUT", f"/{bucket}/bad", b"hello", length=False, headers={"content-length": length}))
            assert c.read().status == 400 and c.closed(), length
    assert raw.do("PUT", f"/{bucket}/bad", b"hello", length=False).code == "MissingContentLength"


def test_requests_that_two_servers_would_read_differently(raw, bucket):
    """Smuggling: refused, and what is hidden inside is never served as a request of its own."""
    inner = raw.wire("PUT", f"/{bucket}/smuggled", b"!")
    plain = raw.headers("PUT", f"/{bucket}/outer")
    lines = as_lines(plain)
    start = f"PUT /{bucket}/outer HTTP/1.1\r\n".encode()
    length = b"content-length: %d\r\n" % (len(inner) + 5)
    forms = {
        "both": start + lines + length + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "both, turned round": start + lines + b"transfer-encoding: chunked\r\n" + length + b"\r\n0\r\n\r\n",
        "two lengths": start + lines + b"content-length: 0\r\n" + length + b"\r\n",
        "two codings": start + lines + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        "coding and more": start + lines + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "blank before colon": start + lines + b"transfer-encoding : chunked\r\n" + length + b"\r\n0\r\n\r\n",
        "folded": start + lines + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "folded elsewhere": start + lines + b"x-a: b\r\n\tc\r\n" + length + b"\r\n",
        "bare LF": start + lines + b"x-a: b\ncontent-length: 0\r\n" + length + b"\r\n",
        "bare CR": start + lines + b"x-a: b\rcontent-length: 0\r\n" + length + b"\r\n",
        "NUL": start + lines + b"x-a: b\0c\r\n" + length + b"\r\n",
        "coding of 1.0": start.replace(b"1.1", b"1.0") + lines + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "two hosts": start + lines + b"host: other\r\n" + length + b"\r\n",
        "blank in target": start.replace(b"/outer", b"/ou ter") + lines + length + b"\r\n",
    }
    for what, head in forms.items():
        with raw.connect() as c:
            c.send(head + inner + b"xxxxx")
            reply = c.read()
            assert reply.status in (400, 501), (what, reply)
            assert c.closed()
        assert keys_of(raw, bucket) == set(), what
    # A refused request's body is not taken for a request either.
    with raw.connect() as c:
        c.send(start + b"host: h\r\n" + length.replace(b"%d" % (len(inner) + 5), b"%d" % len(inner)) + b"\r\n" + inner)
        assert c.read().status == 403
    assert keys_of(raw, bucket) == set()


def test_signatures_that_are_wrong_store_nothing(stack, raw, bucket):
    s3 = stack.s3()
    assert raw.do("PUT", f"/{bucket}/mine", b"mine", headers={"x-amz-meta-a": "b"}).status == 200
    bucket.holds["mine"] = b"mine"
    upload = s3.create_multipart_upload(Bucket=bucket, Key="multi")["UploadId"]
    delete = b"<Delete><Object><Key>mine</Key></Object></Delete>"
    md5 = {"content-md5": "ZGVsZXRl"}
    requests = [
        ("PUT", f"/{bucket}/new", b"no", {}), ("PUT", f"/{bucket}/mine", b"no", {}), ("DELETE", f"/{bucket}/mine", b"", {}),
        ("PUT", f"/{bucket}-2", b"", {}), ("DELETE", f"/{bucket}", b"", {}), ("GET", f"/{bucket}/mine", b"", {}),
        ("HEAD", f"/{bucket}/mine", b"", {}), ("GET", f"/{bucket}?list-type=2", b"", {}), ("GET", "/", b"", {}),
        ("POST", f"/{bucket}/other?uploads=", b"", {}), ("PUT", f"/{bucket}/multi?partNumber=1&uploadId={upload}", b"no", {}),
        ("POST", f"/{bucket}/multi?uploadId={upload}", b"<CompleteMultipartUpload/>", {}),
        ("DELETE", f"/{bucket}/multi?uploadId={upload}", b"", {}), ("POST", f"/{bucket}?delete=", delete, md5),
        ("PUT", f"/{bucket}/copy", b"", {"x-amz-copy-source": f"/{bucket}/mine"})]
    old = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=20)
    stranger = RawS3(stack)
    stranger.secret = stranger.secret[:-1] + ("a" if stranger.secret[-1] != "a" else "b")
    nobody = RawS3(stack)
    nobody.key = "nobody"

    def flipped(fields):
        text = fields["authorization"]
        return fields | {"authorization": text[:-1] + ("0" if text[-1] != "0" else "1")}

    for method, target, body, extra in requests:
        fields = raw.headers(method, target, extra)
        forms = {
            "flipped": flipped(fields),
            "another key": stranger.headers(method, target, extra),
            "nobody's key": nobody.headers(method, target, extra),
            "twenty minutes old": raw.headers(method, target, extra, at=old),
            "another method": raw.headers("OPTIONS", target, extra),
            "another path": raw.headers(method, target.replace("/", "/x", 1), extra),
            "another query": raw.headers(method, target + ("&" if "?" in target else "?") + "a=b", extra),
            "a header more": fields | {"x-amz-acl": "private"},
            "another payload": fields | {"x-amz-content-sha256": hashlib.sha256(body).hexdigest()},
            "none": {n: v for n, v in fields.items() if n != "authorization"},
            "no date": {n: v for n, v in fields.items() if n != "x-amz-date"},
            "another scheme": fields | {"authorization": fields["authorization"].replace("HMAC", "ECDSA", 1)},
            "no such form": fields | {"authorization": "AWS4-HMAC-SHA256 Credential=/////,SignedHeaders=;,Signature="},
            "basic": fields | {"authorization": "Basic cm9vdDpyb290"},
            "host not signed": fields | {"authorization": fields["authorization"].replace("host;", "")},
        }
        for what, sent in forms.items():
            with raw.connect() as c:
                c.send(f"{method} {target} HTTP/1.1\r\n".encode() + as_lines(sent | {"content-length": str(len(body))}) + b"\r\n" + body)
                reply = c.read(head_only=method == "HEAD")
            assert reply.status in (400, 403), (what, method, target, reply)
            assert raw.secret.encode() not in reply.head + reply.body
    # The payload that was signed is not the one that came.
    reply = raw.do("PUT", f"/{bucket}/new", b"other", payload=hashlib.sha256(b"this").hexdigest())
    assert reply.code == "XAmzContentSHA256Mismatch"
    # Presigned, tampered with and too late.
    url = s3.generate_presigned_url("put_object", Params={"Bucket": str(bucket), "Key": "mine"}, ExpiresIn=1)
    target = url[url.index(f"/{bucket}"):]
    host = "host: %s:%d\r\ncontent-length: 2\r\n\r\nno" % raw.address
    for tampered in (target.replace("/mine", "/new"), target.replace("X-Amz-Expires=1", "X-Amz-Expires=3600"), target[:-1] + "g"):
        with raw.connect() as c:
            c.send(f"PUT {tampered} HTTP/1.1\r\n{host}".encode())
            assert c.read().status in (400, 403), tampered
    assert s3.head_object(Bucket=bucket, Key="mine")["Metadata"] == {"a": "b"}
    assert "Parts" not in s3.list_parts(Bucket=bucket, Key="multi", UploadId=upload)
    s3.abort_multipart_upload(Bucket=bucket, Key="multi", UploadId=upload)
    assert f"{bucket}-2" not in {b["Name"] for b in s3.list_buckets()["Buckets"]}


def dribble(connections, seconds):
    """A byte to each, four times a second, until it is closed or time is over; the connections still open."""
    deadline = time.monotonic() + seconds
    left = set(connections)
    while left and time.monotonic() < deadline:
        for c in list(left):
            try:
                c.socket.send(b"x")
                c.socket.setblocking(False)
                if c.socket.recv(1 << 16) == b"":
                    left.discard(c)
            except BlockingIOError:
                pass
            except OSError:
                left.discard(c)
        time.sleep(0.25)
    return left


def test_clients_that_dribble_are_dropped_and_others_served(make_stack):
    stack = make_stack("--no-mount", "--daemon-option", "objectd:--s3-head-timeout=3s",
                       "--daemon-option", "objectd:--s3-body-timeout=3s")
    raw, s3 = RawS3(stack), stack.s3()
    large = os.urandom(32 << 20)
    s3.put_object(Bucket="data", Key="large", Body=large)
    slow = [raw.connect() for _ in range(300)]
    for i, c in enumerate(slow):
        if i % 3 == 0:
            c.send(b"PUT /data/slow HTTP/1.1\r\nx-")
        elif i % 3 == 1:
            c.send(raw.wire("PUT", f"/data/slow-{i}", b"x", length=1_000_000))
        else:
            c.send(b"PUT /data/slow HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n")  # and nobody's
    readers = [raw.connect() for _ in range(8)]
    for c in readers:
        c.send(raw.wire("GET", "/data/large"))  # and reads nothing of it
    with concurrent.futures.ThreadPoolExecutor(1) as aside:
        left = aside.submit(dribble, slow, WITHIN)
        slowest = 0
        for i in range(20):
            began = time.monotonic()
            s3.put_object(Bucket="data", Key=f"good-{i}", Body=b"g" * 30_000)
            assert s3.get_object(Bucket="data", Key=f"good-{i}")["Body"].read() == b"g" * 30_000
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 12, slowest
        assert not left.result(), "the server waits for clients that dribble"
    for c in readers:
        assert len(c.pending) == 0 and c.closed()
        assert len(c.pending) < len(large)
    assert {o["Key"] for o in s3.list_objects_v2(Bucket="data")["Contents"]} == {"large"} | {f"good-{i}" for i in range(20)}


def rss(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) << 10


def test_ten_thousand_idle_connections(stack, raw):
    """They cost no thread and little memory, and a client among them is served; without the descriptors for so many, as many as go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10_000, hard // 4 * 3 - 200)
    pid = next(d["pid"] for d in stack.status()["daemons"] if d["name"] == "objectd")
    s3 = stack.s3()
    s3.put_object(Bucket="data", Key="before", Body=b"b")
    before, idle = rss(pid), []
    try:
        for i in range(count):
            c = raw.connect()
            if i % 10 == 0:
                c.send(b"GET / HTTP/1.1\r\n")
            idle.append(c)
        body = os.urandom(3 << 20)
        s3.put_object(Bucket="data", Key="among", Body=body)
        assert s3.get_object(Bucket="data", Key="among")["Body"].read() == body
        each = (rss(pid) - before) / count
        assert each < 24 << 10, f"{each:.0f} bytes for each idle connection"
        assert stack.status()["well"]
    finally:
        for c in idle:
            c.socket.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert s3.get_object(Bucket="data", Key="before")["Body"].read() == b"b"


def test_beyond_the_bound_connections_are_refused_and_idle_ones_make_room(make_stack):
    stack = make_stack("--no-mount", "--daemon-option", "objectd:--s3-connections=64")
    raw = RawS3(stack)
    idle = [raw.connect() for _ in range(64)]
    refused = raw.connect().read()
    assert (refused.status, refused.code) == (503, "SlowDown")
    deadline = time.monotonic() + WITHIN
    while (reply := raw.do("GET", "/data?list-type=2")) is None or reply.status != 200:
        assert time.monotonic() < deadline, "a full server never makes room"
        time.sleep(0.1)
    assert all(c.closed() for c in idle[:8])


def as_user(uid, work, groups=()):
    """What `work()` returns (as JSON has it) in a child process of that user."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            os.write(there, json.dumps(work()).encode())
        except BaseException as e:
            os.write(there, json.dumps({"raised": repr(e)}).encode())
        finally:
            os._exit(0)
    os.close(there)
    with open(here) as f:
        said = json.loads(f.read() or '{"raised": "died"}')
    os.waitpid(child, 0)
    assert not (isinstance(said, dict) and "raised" in said), said
    return said


def outcome(work):
    """The name of the error, or "done"."""
    try:
        work()
        return "done"
    except OSError as e:
        return type(e).__name__


def openings(path):
    """What this user may do with a path that is not his: ["read", "write", "list", "make", "connect"]."""
    def connect():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(5)
            s.connect(path)

    def make():
        os.close(os.open(os.path.join(path, "made"), os.O_CREAT | os.O_EXCL))
        os.unlink(os.path.join(path, "made"))

    if os.path.isdir(path):
        tries = {"list": lambda: os.listdir(path), "make": make}
    else:
        tries = {"read": lambda: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK)),
                 "write": lambda: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))}
        if path.endswith(".sock"):
            tries["connect"] = connect
    return [what for what, work in tries.items() if outcome(work) == "done"]


@needs_root
def test_another_user_finds_nothing_in_the_directories(make_stack, tmp_path):
    """Drives and burst directory lie where administrators put them: in directories that everyone may pass."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() == "root" and str(parent) != "/":
            parent.chmod(0o755 if parent.stat().st_mode & 0o1000 == 0 else 0o1777)
    places = [tmp_path / f"d{i}" for i in range(3)] + [tmp_path / "burst"]
    for place in places:
        place.mkdir(mode=0o755)
    stack = make_stack("--no-mount", *[x for p in places[:3] for x in ("--drive", str(p))], "--burst", str(places[3]), drives=0)
    secret = b"what nobody else may read " * 1000
    stack.s3().put_object(Bucket="data", Key="secret", Body=secret)
    with perigee.open("data/burst-secret", "wb", client=perigee.Client(f"{stack.data}/run/bufferd.sock")) as f:
        f.write(secret)
    paths = [os.path.join(base, name) for place in (stack.data, *map(str, places)) for base, dirs, files in os.walk(place)
             for name in dirs + files] + [stack.data, *map(str, places)]
    assert any(p.endswith(".sock") for p in paths) and any("/burst/files/" in p for p in paths)
    began = time.monotonic()
    found = as_user(65534, lambda: {p: o for p in paths if (o := openings(p))})
    mine = {*map(str, places)}  # the administrator's own directories may be looked at
    assert {p: o for p, o in found.items() if p not in mine or o != ["list"]} == {}
    assert time.monotonic() - began < WITHIN


@needs_root
def test_a_user_of_the_socket_group_is_held_to_the_bits(make_stack):
    group = 4399
    stack = make_stack(*([] if HAS_FUSE else ["--no-mount"]), "--daemon-option", f"bufferd:--socket-group={group}")
    sock = f"{stack.data}/run/bufferd.sock"
    root = perigee.Client(sock)
    for name, umask in (("theirs", 0o077), ("shared", 0o022), ("open", 0)):
        before = os.umask(umask)
        with perigee.open(f"data/{name}", "wb", client=root) as f:
            f.write(b"by root")
        os.umask(before)

    def work():
        me = perigee.Client(sock)

        def read(name):
            with perigee.open(f"data/{name}", client=me) as f:
                assert f.read() == b"by root"

        def write(name, mode="r+b"):
            with perigee.open(f"data/{name}", mode, client=me) as f:
                f.write(b"by user")
        return {
            "read theirs": outcome(lambda: read("theirs")), "write theirs": outcome(lambda: write("theirs")),
            "replace theirs": outcome(lambda: write("theirs", "wb")), "read shared": outcome(lambda: read("shared")),
            "write shared": outcome(lambda: write("shared")), "write open": outcome(lambda: write("open")),
            "evict theirs": outcome(lambda: me.evict("data/theirs")), "remove theirs": outcome(lambda: me.unlink("data/theirs")),
            "rename theirs": outcome(lambda: me.rename("data/theirs", "data/mine")),
            "make as root": outcome(lambda: me.session.create("data/lie", False, 0o4777, 0, 0)),
            "hold all": outcome(lambda: me.flush())}
    refused = "PermissionError"
    assert as_user(4400, work, [group]) == {
        "read theirs": refused, "write theirs": refused, "replace theirs": refused, "read shared": "done", "write shared": refused,
        "write open": "done", "evict theirs": refused, "remove theirs": refused, "rename theirs": refused, "make as root": refused,
        "hold all": refused}
    began = time.monotonic()
    stranger = as_user(4400, lambda: outcome(lambda: perigee.Client(sock).stat("data/shared")))  # not of the group
    assert stranger == refused and time.monotonic() - began < 10
    assert stack.s3().get_object(Bucket="data", Key="theirs")["Body"].read() == b"by root"


def test_admin_doors_are_read_only_and_keep_secrets(stack):
    key, secret = stack.credentials()
    with open(f"{stack.data}/secret") as f:
        cluster_secret = f.read().strip()
    status = stack.status()
    silent = []
    for door in ("admin_listen", "bufferd_admin_listen") + (("fuse_admin_listen",) if HAS_FUSE else ()):
        host, port = status[door].rsplit(":", 1)

        def ask(wire):
            with Connection((host, int(port))) as c:
                c.send(wire)
                c.closed()
                return c.pending
        text = ask(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n") + \
            ask(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert text.startswith(b"HTTP/1.1 200") and not any(s.encode() in text for s in (key, secret, cluster_secret))
        for method, path, code in (("POST", "/metrics", 405), ("PUT", "/healthz", 405), ("DELETE", "/metrics", 405), ("GET", "/", 404),
                                   ("GET", "/debug", 404), ("GET", "/../../etc/passwd", 404), ("POST", "/quit", 404)):
            assert ask(f"{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())[9:12] == str(code).encode(), path
        assert b"200" not in ask(b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 20_000)[:20]
        silent.append(Connection((host, int(port))))
    assert all(c.closed() for c in silent)  # who says nothing is not waited for
