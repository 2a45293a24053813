"""Makes a tiny data directory of the build at hand, with something of every kind that is stored, for tests/e2e/test_upgrade.py:
every later build has to open it. Run it once for a format that is about to be released, and commit what it prints:

    .venv/bin/python tests/data/make.py build/bin tests/data/VERSION.tar.gz
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile

import boto3

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))

from stack import Stack  # noqa: E402

KIB = 1 << 10


def some(rng, size):
    """Bytes that differ from all others here, and pack well."""
    return (rng.randbytes(256) * (size // 256 + 1))[:size]


def main():
    binaries, out = sys.argv[1:]
    rng = random.Random(20261121)
    with tempfile.TemporaryDirectory() as top:
        stack = Stack(os.path.join(top, "data"), os.path.abspath(binaries))
        stack.up("--drives", "3", "--profile", "1+1", "--mount", os.path.join(top, "data", "mnt"), "--s3-listen", "127.0.0.1:0",
                 "--admin-listen", "127.0.0.1:0", "--bufferd-admin-listen", "127.0.0.1:0")
        key, secret = stack.credentials()
        s3 = boto3.client("s3", endpoint_url=stack.endpoint, region_name="us-east-1", aws_access_key_id=key,
                          aws_secret_access_key=secret)
        content = {}

        def put(key, size):
            content[key] = some(rng, size)
            s3.put_object(Bucket="data", Key=key, Body=content[key], ContentType="application/x-test", Metadata={"made": "by make.py"})

        put("inline", 100)
        put("empty", 0)
        put("copies", 40 * KIB)
        put("striped", 300 * KIB)
        put("a//b/../odd \u00fcber", 10)
        put("gone", 20 * KIB)
        s3.delete_object(Bucket="data", Key="gone")
        del content["gone"]
        s3.copy_object(Bucket="data", Key="copy", CopySource="data/striped")
        content["copy"] = content["striped"]
        upload = s3.create_multipart_upload(Bucket="data", Key="open-upload")
        part = s3.upload_part(Bucket="data", Key="open-upload", UploadId=upload["UploadId"], PartNumber=1, Body=b"p" * 20 * KIB)

        mounted = os.path.join(stack.mount, "data")

        def write(key, size, mode=0o644, sync=True):
            content[key] = some(rng, size)
            path = os.path.join(mounted, key)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(content[key])
                os.fchmod(f.fileno(), mode)
                if sync:
                    os.fsync(f.fileno())
            os.utime(path, ns=(1_700_000_000_123_456_789, 1_700_000_001_987_654_321))

        write("run/flushed", 50 * KIB, 0o640)
        write("run/tiny", 10)
        write("run/sub/moved-in", 30 * KIB)
        os.rename(os.path.join(mounted, "run/sub"), os.path.join(mounted, "run/dir"))
        content["run/dir/moved-in"] = content.pop("run/sub/moved-in")
        os.symlink("dir/moved-in", os.path.join(mounted, "run/link"))
        os.makedirs(os.path.join(mounted, "run/empty-dir"))
        stack.run("flush", "--wait")
        stack.run("flush", "--hold")
        write("run/unflushed", 60 * KIB, 0o600)
        write("run/flushed", 45 * KIB, 0o640)  # over a flushed one
        etags = {key: s3.head_object(Bucket="data", Key=key)["ETag"] for key in content}
        stack.down()
        manifest = {
            "sha256": {key: hashlib.sha256(data).hexdigest() for key, data in sorted(content.items())},
            "etag": etags, "mode": {"run/flushed": 0o640, "run/unflushed": 0o600, "run/tiny": 0o644},
            "mtime_ns": {"run/flushed": 1_700_000_001_987_654_321}, "symlink": {"run/link": "dir/moved-in"},
            "dirs": ["run/dir", "run/empty-dir"], "unflushed": ["run/flushed", "run/unflushed"],
            "upload": {"key": "open-upload", "id": upload["UploadId"], "part_etag": part["ETag"]}}
        with open(os.path.join(top, "data", "manifest.json"), "w") as f:
            json.dump(manifest, f, indent=1)
        subprocess.run(["tar", "--sparse", "--format=posix", "--numeric-owner", "-C", top, "--exclude=data/log", "--exclude=data/run", "--exclude=LOG*",
                        "-czf", out, "data"], check=True)
        print(out, os.path.getsize(out), "bytes")


if __name__ == "__main__":
    main()
