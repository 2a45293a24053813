"""The S3 door, by boto3 and by the command-line clients people use."""

import hashlib
import os
import shutil
import subprocess
import urllib.request

import botocore
import pytest


@pytest.fixture
def s3(stack):
    return stack.s3()


def code_of(error):
    return error.value.response["Error"]["Code"]


@pytest.mark.parametrize("size", [0, 1, 4096, 16384, 16385, 65536, 1 << 20, (9 << 20) + 7])
def test_put_get_head_delete(s3, size):
    body = os.urandom(size)
    put = s3.put_object(Bucket="data", Key=f"size/{size}", Body=body, ContentType="application/x-test", Metadata={"a": "b"})
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket="data", Key=f"size/{size}")
    assert got["Body"].read() == body
    head = s3.head_object(Bucket="data", Key=f"size/{size}")
    assert head["ContentLength"] == size and head["ContentType"] == "application/x-test" and head["Metadata"] == {"a": "b"}
    s3.delete_object(Bucket="data", Key=f"size/{size}")
    with pytest.raises(botocore.exceptions.ClientError) as e:
        s3.get_object(Bucket="data", Key=f"size/{size}")
    assert code_of(e) == "NoSuchKey"


def test_ranges_touch_any_offset(s3):
    body = os.urandom(5_000_001)
    s3.put_object(Bucket="data", Key="ranged", Body=body)
    for first, last in ((0, 0), (0, 9), (262_143, 262_145), (1_048_570, 2_100_000), (4_999_990, 9_999_999)):
        got = s3.get_object(Bucket="data", Key="ranged", Range=f"bytes={first}-{last}")
        assert got["Body"].read() == body[first:last + 1]
    assert s3.get_object(Bucket="data", Key="ranged", Range="bytes=-10")["Body"].read() == body[-10:]
    with pytest.raises(botocore.exceptions.ClientError) as e:
        s3.get_object(Bucket="data", Key="ranged", Range="bytes=6000000-")
    assert code_of(e) == "InvalidRange"


def test_listing_is_in_s3_order_with_prefixes_and_pages(s3):
    s3.create_bucket(Bucket="listing")
    keys = sorted(["a", "a/b", "a/c/d", "a-b", "a//x", "b/1", "b/2", "z", "ü/ä", "a b+c"], key=lambda k: k.encode())
    for key in keys:
        s3.put_object(Bucket="listing", Key=key, Body=b"x")
    assert [o["Key"] for o in s3.list_objects_v2(Bucket="listing")["Contents"]] == keys
    paged = [o["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket="listing", PaginationConfig={"PageSize": 3})
             for o in page.get("Contents", [])]
    assert paged == keys
    top = s3.list_objects_v2(Bucket="listing", Delimiter="/")
    assert [p["Prefix"] for p in top["CommonPrefixes"]] == ["a/", "b/", "ü/"]
    assert [o["Key"] for o in top["Contents"]] == [k for k in keys if "/" not in k]
    below = s3.list_objects(Bucket="listing", Prefix="a/", Delimiter="/")
    assert [p["Prefix"] for p in below["CommonPrefixes"]] == ["a//", "a/c/"]
    assert [o["Key"] for o in below["Contents"]] == ["a/b"]
    after = s3.list_objects_v2(Bucket="listing", StartAfter="b/1")
    assert [o["Key"] for o in after["Contents"]] == keys[keys.index("b/2"):]
    s3.delete_objects(Bucket="listing", Delete={"Objects": [{"Key": k} for k in keys]})
    assert "Contents" not in s3.list_objects_v2(Bucket="listing")
    s3.delete_bucket(Bucket="listing")


def test_multipart(s3):
    parts = [os.urandom(5 << 20), os.urandom((5 << 20) + 3), os.urandom(77)]
    upload = s3.create_multipart_upload(Bucket="data", Key="multi", Metadata={"m": "1"})["UploadId"]
    done = []
    for number, part in enumerate(parts, 1):
        etag = s3.upload_part(Bucket="data", Key="multi", UploadId=upload, PartNumber=number, Body=part)["ETag"]
        done.append({"PartNumber": number, "ETag": etag})
    assert [p["Size"] for p in s3.list_parts(Bucket="data", Key="multi", UploadId=upload)["Parts"]] == [len(p) for p in parts]
    assert [u["Key"] for u in s3.list_multipart_uploads(Bucket="data")["Uploads"]] == ["multi"]
    with pytest.raises(botocore.exceptions.ClientError):
        s3.get_object(Bucket="data", Key="multi")
    result = s3.complete_multipart_upload(Bucket="data", Key="multi", UploadId=upload, MultipartUpload={"Parts": done})
    joined = hashlib.md5(b"".join(hashlib.md5(p).digest() for p in parts)).hexdigest()
    assert result["ETag"] == f'"{joined}-3"'
    got = s3.get_object(Bucket="data", Key="multi")
    assert got["Body"].read() == b"".join(parts) and got["Metadata"] == {"m": "1"}
    assert s3.get_object(Bucket="data", Key="multi", Range="bytes=5242870-5242890")["Body"].read() == b"".join(parts)[5242870:5242891]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="data")
    aborted = s3.create_multipart_upload(Bucket="data", Key="gone")["UploadId"]
    s3.upload_part(Bucket="data", Key="gone", UploadId=aborted, PartNumber=1, Body=b"x")
    s3.abort_multipart_upload(Bucket="data", Key="gone", UploadId=aborted)
    with pytest.raises(botocore.exceptions.ClientError) as e:
        s3.list_parts(Bucket="data", Key="gone", UploadId=aborted)
    assert code_of(e) == "NoSuchUpload"


def test_copy_shares_content_and_outlives_its_source(s3):
    body = os.urandom(3 << 20)
    s3.put_object(Bucket="data", Key="copy/from", Body=body, ContentType="a/b")
    s3.copy_object(Bucket="data", Key="copy/to", CopySource={"Bucket": "data", "Key": "copy/from"})
    s3.delete_object(Bucket="data", Key="copy/from")
    got = s3.get_object(Bucket="data", Key="copy/to")
    assert got["Body"].read() == body and got["ContentType"] == "a/b"


def test_preconditions(s3):
    first = s3.put_object(Bucket="data", Key="cond", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(botocore.exceptions.ClientError) as e:
        s3.put_object(Bucket="data", Key="cond", Body=b"2", IfNoneMatch="*")
    assert code_of(e) == "PreconditionFailed"
    s3.put_object(Bucket="data", Key="cond", Body=b"3", IfMatch=first)
    with pytest.raises(botocore.exceptions.ClientError) as e:
        s3.put_object(Bucket="data", Key="cond", Body=b"4", IfMatch=first)
    assert code_of(e) == "PreconditionFailed"
    assert s3.get_object(Bucket="data", Key="cond")["Body"].read() == b"3"
    with pytest.raises(botocore.exceptions.ClientError) as e:
        s3.get_object(Bucket="data", Key="cond", IfNoneMatch=s3.head_object(Bucket="data", Key="cond")["ETag"])
    assert e.value.response["ResponseMetadata"]["HTTPStatusCode"] == 304


def test_checksums_are_verified_and_returned(s3):
    s3.put_object(Bucket="data", Key="sum", Body=b"hello", ChecksumAlgorithm="CRC32")
    assert s3.head_object(Bucket="data", Key="sum", ChecksumMode="ENABLED")["ChecksumCRC32"] == "NhCmhg=="
    with pytest.raises(botocore.exceptions.ClientError) as e:
        s3.put_object(Bucket="data", Key="bad-sum", Body=b"hello", ChecksumSHA256="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    assert code_of(e) in ("BadDigest", "InvalidRequest")
    with pytest.raises(botocore.exceptions.ClientError):
        s3.head_object(Bucket="data", Key="bad-sum")


def test_presigned_and_anonymous(stack, s3):
    s3.put_object(Bucket="data", Key="signed", Body=b"body")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "data", "Key": "signed"}, ExpiresIn=60)
    assert urllib.request.urlopen(url).read() == b"body"
    for bad in (f"{stack.endpoint}/data/signed", url[:-4] + "0000"):
        with pytest.raises(urllib.error.HTTPError) as e:
            urllib.request.urlopen(bad)
        assert e.value.code == 403


def test_an_rdma_token_is_declined_and_nothing_is_stored(stack, s3):
    def add(request, **_):
        request.headers["x-amz-rdma-token"] = "0" * 81
    s3.meta.events.register("before-sign.s3.PutObject", add)
    with pytest.raises(botocore.exceptions.ClientError) as e:
        s3.put_object(Bucket="data", Key="rdma", Body=b"")
    assert e.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    with pytest.raises(botocore.exceptions.ClientError):
        stack.s3().head_object(Bucket="data", Key="rdma")


def client_env(stack, tmp_path):
    key, secret = stack.credentials()
    # rclone refuses a custom CA bundle, which a machine may have set for other servers.
    inherited = {k: v for k, v in os.environ.items() if k != "AWS_CA_BUNDLE"}
    return dict(inherited, AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret, AWS_REGION="us-east-1",
                AWS_DEFAULT_REGION="us-east-1", HOME=str(tmp_path),
                RCLONE_CONFIG_P_TYPE="s3", RCLONE_CONFIG_P_PROVIDER="Other", RCLONE_CONFIG_P_ENDPOINT=stack.endpoint,
                RCLONE_CONFIG_P_ACCESS_KEY_ID=key, RCLONE_CONFIG_P_SECRET_ACCESS_KEY=secret, RCLONE_CONFIG_P_REGION="us-east-1")


def run(command, env):
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    return done.stdout


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    for name, size in (("a.bin", 20 << 20), ("dir/b.txt", 100), ("dir/deep/c", 70_000), ("dir/empty", 0)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return root


def same_tree(one, other):
    run(["diff", "-r", str(one), str(other)], os.environ)


def test_aws_cli(stack, tree, tmp_path):
    env = client_env(stack, tmp_path)
    import sys
    aws = [sys.executable, "-m", "awscli", "--endpoint-url", stack.endpoint, "s3"]
    run([*aws, "mb", "s3://awscli"], env)
    run([*aws, "sync", str(tree), "s3://awscli/t"], env)
    assert "deep/c" in run([*aws, "ls", "--recursive", "s3://awscli/"], env)
    run([*aws, "sync", "s3://awscli/t", str(tmp_path / "back")], env)
    same_tree(tree, tmp_path / "back")
    run([*aws, "rb", "--force", "s3://awscli"], env)


@pytest.mark.skipif(not shutil.which("rclone"), reason="rclone is not installed")
def test_rclone(stack, tree, tmp_path):
    env = client_env(stack, tmp_path)
    run(["rclone", "copy", str(tree), "P:rclone/t"], env)
    run(["rclone", "check", str(tree), "P:rclone/t"], env)
    run(["rclone", "copy", "P:rclone/t", str(tmp_path / "back")], env)
    same_tree(tree, tmp_path / "back")
    run(["rclone", "purge", "P:rclone"], env)


@pytest.mark.skipif(not shutil.which("s3cmd"), reason="s3cmd is not installed")
def test_s3cmd(stack, tree, tmp_path):
    env = client_env(stack, tmp_path)
    host = stack.endpoint.removeprefix("http://")
    config = tmp_path / "s3cfg"
    key, secret = stack.credentials()
    config.write_text(f"[default]\naccess_key = {key}\nsecret_key = {secret}\nhost_base = {host}\nhost_bucket = {host}\n"
                      "use_https = False\nsignature_v2 = False\nbucket_location = us-east-1\n")
    s3cmd = ["s3cmd", "-c", str(config)]
    run([*s3cmd, "mb", "s3://s3cmd"], env)
    run([*s3cmd, "put", "--recursive", str(tree) + "/", "s3://s3cmd/t/"], env)
    (tmp_path / "back").mkdir()
    run([*s3cmd, "get", "--recursive", "s3://s3cmd/t/", str(tmp_path / "back")], env)
    same_tree(tree, tmp_path / "back")
    run([*s3cmd, "rb", "--recursive", "--force", "s3://s3cmd"], env)
