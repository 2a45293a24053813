"""Data directories of earlier builds (tests/data, made by tests/data/make.py) open, and all that is in them is there."""

import glob
import hashlib
import json
import os
import subprocess

import boto3
import pytest

from conftest import EXAMPLE_FREE_PORTS, HAS_FUSE, ROOT

VERSIONS = sorted(glob.glob(os.path.join(ROOT, "tests", "data", "*.tar.gz")))


def test_there_is_a_data_directory_of_a_landed_build():
    assert VERSIONS


@pytest.mark.parametrize("archive", VERSIONS, ids=os.path.basename)
def test_a_data_directory_of_an_earlier_build_opens_whole(archive, tmp_path, make_stack):
    subprocess.run(["tar", "-C", tmp_path, "-xzf", archive], check=True)
    stack = make_stack(data=str(tmp_path / "data"), up=False)
    with open(os.path.join(stack.data, "manifest.json")) as f:
        manifest = json.load(f)
    stack.up(*EXAMPLE_FREE_PORTS)  # drives, profile and mount as they were, below the directory's new place
    s3 = client_of(stack)

    def check_s3():
        listed = {o["Key"]: o for page in s3.get_paginator("list_objects_v2").paginate(Bucket="data") for o in page.get("Contents", [])}
        assert set(manifest["sha256"]) <= set(listed) and "gone" not in listed
        for key, expected in manifest["sha256"].items():
            got = s3.get_object(Bucket="data", Key=key)
            assert hashlib.sha256(got["Body"].read()).hexdigest() == expected, key
            # Unpacking gives burst files a new ctime; they count as written meanwhile and are published again.
            assert got["ETag"] == manifest["etag"][key] or key in manifest["unflushed"], key
    check_s3()
    upload = manifest["upload"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": upload["part_etag"]}]}
    s3.complete_multipart_upload(Bucket="data", Key=upload["key"], UploadId=upload["id"], MultipartUpload=parts)
    if HAS_FUSE:
        mounted = os.path.join(stack.mount, "data")
        for key, expected in manifest["sha256"].items():
            if "//" in key or ".." in key:
                continue  # what the kernel cannot name
            with open(os.path.join(mounted, key), "rb") as f:
                assert hashlib.sha256(f.read()).hexdigest() == expected, key
        for path, mode in manifest["mode"].items():
            assert os.stat(os.path.join(mounted, path)).st_mode & 0o777 == mode, path
        for path, mtime in manifest["mtime_ns"].items():
            assert os.stat(os.path.join(mounted, path)).st_mtime_ns == mtime, path
        for path, target in manifest["symlink"].items():
            assert os.readlink(os.path.join(mounted, path)) == target
        assert all(os.path.isdir(os.path.join(mounted, d)) for d in manifest["dirs"])
    # And it goes on from there.
    stack.run("flush", "--wait")
    assert {stack.stat("data/" + path)["tier"] for path in manifest["unflushed"]} == {"blobs"}
    check_s3()
    s3.put_object(Bucket="data", Key="new", Body=b"n" * 100_000)
    stack.down()
    stack.up(*EXAMPLE_FREE_PORTS)
    assert client_of(stack).get_object(Bucket="data", Key="new")["Body"].read() == b"n" * 100_000


def client_of(stack):
    key, secret = stack.credentials()
    return boto3.client("s3", endpoint_url=stack.endpoint, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret)
