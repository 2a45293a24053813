"""An S3 client that sends exactly the bytes a test wants, signed or not."""

import datetime
import hashlib
import hmac
import re
import socket
import urllib.parse

UNSIGNED = "UNSIGNED-PAYLOAD"


def quote(text, safe="/"):
    return urllib.parse.quote(text, safe=safe + "-._~")


class Reply:
    def __init__(self, head, body):
        self.head, self.body = head, body
        self.status = int(head.split(b" ", 2)[1])

    @property
    def code(self):
        found = re.search(rb"<Code>(\w+)</Code>", self.body)
        return found[1].decode() if found else None

    def __repr__(self):
        return f"{self.status} {self.code} {self.body[:200]}"


class Connection:
    def __init__(self, address, timeout=30):
        self.socket = socket.create_connection(address, timeout=timeout)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *parts):
        """As far as the server listens."""
        try:
            for part in parts:
                self.socket.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _more(self):
        try:
            got = self.socket.recv(1 << 16)
        except ConnectionResetError:
            got = b""
        self.pending += got
        return bool(got)

    def read(self, head_only=False):
        """The next reply; None when the server has closed."""
        while b"\r\n\r\n" not in self.pending:
            if not self._more():
                return None
        head, self.pending = self.pending.split(b"\r\n\r\n", 1)
        found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        length = 0 if head_only or not found else int(found[1])
        while len(self.pending) < length:
            if not self._more():
                break
        body, self.pending = self.pending[:length], self.pending[length:]
        return Reply(head, body)

    def closed(self):
        """Waits until the server closes; what it sends before is thrown away."""
        while self._more():
            pass
        return True


class RawS3:
    def __init__(self, stack):
        url = urllib.parse.urlparse(stack.endpoint)
        self.address = (url.hostname, url.port)
        self.key, self.secret = stack.credentials()

    def connect(self, timeout=30):
        return Connection(self.address, timeout)

    def hmac(self, key, text):
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    def headers(self, method, target, headers=(), payload=UNSIGNED, at=None):
        """The signed headers of a request: a dict, in the order they are sent. `target` is as sent."""
        at = at or datetime.datetime.now(datetime.timezone.utc)
        stamp, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
        path, _, query = target.partition("?")
        fields = {"host": "%s:%d" % self.address, "x-amz-date": stamp, "x-amz-content-sha256": payload} | dict(headers)
        signed = sorted(n for n in fields if n == "host" or n.startswith("x-amz-") or n == "content-type")
        pairs = sorted((quote(n, ""), quote(v, "")) for n, v in urllib.parse.parse_qsl(query, keep_blank_values=True))
        canonical = "\n".join([
            method, quote(urllib.parse.unquote_to_bytes(path)), "&".join(f"{n}={v}" for n, v in pairs),
            "".join(f"{n}:{fields[n].strip()}\n" for n in signed), ";".join(signed), payload])
        scope = f"{day}/us-east-1/s3/aws4_request"
        key = ("AWS4" + self.secret).encode()
        for part in scope.split("/"):
            key = self.hmac(key, part)
        to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        return fields | {"authorization": f"AWS4-HMAC-SHA256 Credential={self.key}/{scope}, SignedHeaders={';'.join(signed)}, "
                                          f"Signature={signature}"}

    def wire(self, method, target, body=b"", headers=(), payload=UNSIGNED, length=None, **how):
        """The bytes of a request. `length`: what Content-Length says, False for none."""
        fields = self.headers(method, target, headers, payload, **how)
        if length is not False:
            fields["content-length"] = str(len(body) if length is None else length)
        return f"{method} {target} HTTP/1.1\r\n".encode() + as_lines(fields) + b"\r\n" + body

    def do(self, method, target, body=b"", **how):
        with self.connect() as c:
            c.send(self.wire(method, target, body, **how))
            return c.read(head_only=method == "HEAD")


def as_lines(fields):
    return "".join(f"{n}: {v}\r\n" for n, v in fields.items()).encode()
