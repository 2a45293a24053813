#include <doctest/doctest.h>

#include "tests/objectd/s3/fixture.h"

namespace perigee::objectd::s3 {
namespace {

using namespace test;

size_t Count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}

TEST_CASE("each method and sub-resource has its operation") {
  auto name = [](const std::string& method, const std::string& target,
                 const HeaderList& headers = {}) -> std::string {
    Operation op;
    Target t = *ParseTarget(target);
    Outcome o = SelectOperation(MakeHead(method, target, headers), t, &op);
    return std::string(o.ok() ? NameOf(op) : InfoOf(o.error().code).name);
  };
  CHECK(name("GET", "/") == "ListBuckets");
  CHECK(name("GET", "/?x-id=ListBuckets") == "ListBuckets");
  CHECK(name("PUT", "/b") == "CreateBucket");
  CHECK(name("PUT", "/b/") == "CreateBucket");
  CHECK(name("GET", "/b?location") == "GetBucketLocation");
  CHECK(name("GET", "/b?versioning") == "GetBucketVersioning");
  CHECK(name("PUT", "/b?versioning") == "NotImplemented");
  CHECK(name("GET", "/b?list-type=2") == "ListObjectsV2");
  CHECK(name("GET", "/b?list-type=1") == "ListObjects");
  CHECK(name("GET", "/b?uploads") == "ListMultipartUploads");
  CHECK(name("GET", "/b?versions") == "NotImplemented");
  CHECK(name("POST", "/b?delete") == "DeleteObjects");
  CHECK(name("POST", "/b") == "NotImplemented");
  CHECK(name("GET", "/b/k?x-id=GetObject") == "GetObject");
  CHECK(name("HEAD", "/b/k") == "HeadObject");
  CHECK(name("PUT", "/b/k") == "PutObject");
  CHECK(name("PUT", "/b/k", {{"x-amz-copy-source", "b/j"}}) == "CopyObject");
  CHECK(name("PUT", "/b/k?partNumber=1&uploadId=u") == "UploadPart");
  CHECK(name("PUT", "/b/k?partNumber=1&uploadId=u", {{"x-amz-copy-source", "b/j"}}) ==
        "UploadPartCopy");
  CHECK(name("PUT", "/b/k?uploadId=u") == "InvalidArgument");
  CHECK(name("PUT", "/b/k?partNumber=1") == "InvalidArgument");
  CHECK(name("POST", "/b/k?uploads") == "CreateMultipartUpload");
  CHECK(name("POST", "/b/k?uploadId=u") == "CompleteMultipartUpload");
  CHECK(name("DELETE", "/b/k?uploadId=u") == "AbortMultipartUpload");
  CHECK(name("GET", "/b/k?uploadId=u") == "ListParts");
  CHECK(name("POST", "/b/k?restore") == "NotImplemented");
  CHECK(name("PATCH", "/b/k") == "MethodNotAllowed");
  CHECK(name("DELETE", "/") == "MethodNotAllowed");
}

TEST_CASE("buckets are made, listed, found and removed") {
  Fixture f;
  CHECK(f.Do("PUT", "/second").header("location") == "/second");
  CHECK(f.Do("PUT", "/second").element("Code") == "BucketAlreadyOwnedByYou");
  for (const char* bad : {"/ab", "/Upper", "/a..b", "/-ab", "/1.2.3.4", "/a_b"}) {
    CAPTURE(bad);
    CHECK(f.Do("PUT", bad).element("Code") == "InvalidBucketName");
  }
  CHECK(f.Do("PUT", "/third",
             "<CreateBucketConfiguration><LocationConstraint>eu-1</LocationConstraint></"
             "CreateBucketConfiguration>")
            .element("Code") == "InvalidLocationConstraint");
  CHECK(f.Do("PUT", "/third", "<Create").element("Code") == "MalformedXML");
  MemoryResponse list = f.Do("GET", "/");
  CHECK(Count(list.body, "<Bucket>") == 2);
  CHECK(list.element("Name") == "bucket");
  CHECK(Count(f.Do("GET", "/?prefix=sec").body, "<Bucket>") == 1);
  CHECK(f.Do("HEAD", "/second").header("x-amz-bucket-region") == "us-east-1");
  CHECK(f.Do("HEAD", "/absent").head.status == 404);
  CHECK(f.Do("GET", "/second?location").body.find("LocationConstraint xmlns") != std::string::npos);
  CHECK(f.Do("GET", "/absent?location").element("Code") == "NoSuchBucket");
  CHECK(f.Do("GET", "/second?versioning").head.status == 200);
  f.Do("PUT", "/second/k", "x");
  CHECK(f.Do("DELETE", "/second").element("Code") == "BucketNotEmpty");
  f.Do("DELETE", "/second/k");
  CHECK(f.Do("DELETE", "/second").head.status == 204);
  CHECK(f.Do("DELETE", "/second").element("Code") == "NoSuchBucket");
}

TEST_CASE("listings page through keys and prefixes in order") {
  Fixture f;
  for (const char* key : {"a", "a/b", "a/c", "b%20b", "d/e/f", "z%26"})
    f.Do("PUT", std::string("/bucket/") + key, "x");
  std::string seen, token;
  int pages = 0;
  do {
    MemoryResponse page =
        f.Do("GET",
             "/bucket?list-type=2&max-keys=2" +
                 (token.empty() ? "" : "&continuation-token=" + UriEncode(token, Slash::kEncode)));
    REQUIRE(page.head.status == 200);
    for (size_t at = 0; (at = page.body.find("<Key>", at)) != std::string::npos; ++at) {
      seen += page.body.substr(at + 5, page.body.find("</Key>", at) - at - 5) + ",";
    }
    token = page.element("NextContinuationToken");
    CHECK(page.element("IsTruncated") == (token.empty() ? "false" : "true"));
    ++pages;
  } while (!token.empty() && pages < 9);
  CHECK(seen == "a,a/b,a/c,b b,d/e/f,z&amp;,");
  CHECK(pages == 3);
  MemoryResponse v2 =
      f.Do("GET", "/bucket?list-type=2&delimiter=%2F&encoding-type=url&fetch-owner=true");
  CHECK(Count(v2.body, "<CommonPrefixes>") == 2);
  CHECK(v2.body.find("<Key>b%20b</Key>") != std::string::npos);
  CHECK(v2.body.find("<Key>z%26</Key>") != std::string::npos);
  CHECK(Count(v2.body, "<Owner>") == 3);
  CHECK(v2.element("KeyCount") == "5");
  MemoryResponse v1 = f.Do("GET", "/bucket?prefix=a%2F&marker=a%2Fb");
  CHECK(Count(v1.body, "<Contents>") == 1);
  CHECK(v1.element("Key") == "a/c");
  CHECK(v1.element("ETag") == "&quot;" + Md5Hex("x") + "&quot;");
  MemoryResponse first = f.Do("GET", "/bucket?max-keys=1");
  CHECK(first.element("NextMarker") == "a");
  CHECK(f.Do("GET", "/bucket?list-type=2&start-after=d").element("Key") == "d/e/f");
  MemoryResponse none = f.Do("GET", "/bucket?list-type=2&max-keys=0");
  CHECK(none.element("IsTruncated") == "false");
  CHECK(Count(none.body, "<Contents>") == 0);
  CHECK(f.Do("GET", "/bucket?list-type=2&max-keys=-1").element("Code") == "InvalidArgument");
  CHECK(f.Do("GET", "/bucket?list-type=2&continuation-token=x").element("Code") ==
        "InvalidArgument");
  CHECK(f.Do("GET", "/bucket?encoding-type=x").element("Code") == "InvalidArgument");
  CHECK(f.Do("GET", "/absent?max-keys=0").element("Code") == "NoSuchBucket");
  CHECK(f.Do("GET", "/absent").element("Code") == "NoSuchBucket");
}

TEST_CASE("many objects are deleted at once, each with its own outcome") {
  Fixture f;
  std::string xml = "<Delete>";
  for (int i = 0; i < 40; ++i) {
    f.Do("PUT", "/bucket/k" + std::to_string(i), "x");
    xml += "<Object><Key>k" + std::to_string(i) + "</Key></Object>";
  }
  xml +=
      "<Object><Key>absent</Key></Object><Object><Key>k1</Key><VersionId>v7</VersionId></Object></"
      "Delete>";
  MemoryResponse done = f.Do("POST", "/bucket?delete", xml);
  CHECK(Count(done.body, "<Deleted>") == 41);
  CHECK(Count(done.body, "<Error>") == 1);
  CHECK(done.element("Code") == "NoSuchVersion");
  CHECK(Count(f.Do("GET", "/bucket").body, "<Contents>") == 0);
  CHECK(f.Do("POST", "/bucket?delete", "<Delete>").element("Code") == "MalformedXML");
  CHECK(f.Do("POST", "/absent?delete", "<Delete><Object><Key>k</Key></Object></Delete>")
            .element("Code") == "NoSuchBucket");
  CHECK(f.Do("POST", "/bucket?delete", "<Delete><Object><Key>k</Key></Object></Delete>",
             {{"content-md5", Base64Encode(Hash(HashKind::kMd5, ""))}})
            .element("Code") == "BadDigest");
  MemoryResponse quiet = f.Do("POST", "/bucket?delete",
                              "<Delete><Quiet>true</Quiet><Object><Key>k</Key></Object></Delete>");
  CHECK(Count(quiet.body, "<Deleted>") == 0);
}

TEST_CASE("copies keep or replace headers and obey conditions") {
  Fixture f;
  std::string body = RandomText(50000, 1);
  f.Do("PUT", "/bucket/a%20b", body, {{"content-type", "text/x"}, {"x-amz-meta-m", "1"}});
  std::string etag = "\"" + Md5Hex(body) + "\"";
  MemoryResponse copy = f.Do("PUT", "/bucket/copy", "", {{"x-amz-copy-source", "/bucket/a%20b"}});
  CHECK(copy.head.status == 200);
  CHECK(copy.element("ETag") == "&quot;" + Md5Hex(body) + "&quot;");
  MemoryResponse got = f.Do("GET", "/bucket/copy");
  CHECK((got.body == body));
  CHECK(got.header("x-amz-meta-m") == "1");
  HeaderList replace{{"x-amz-copy-source", "bucket/a%20b"},
                     {"x-amz-metadata-directive", "REPLACE"},
                     {"x-amz-meta-n", "2"}};
  CHECK(f.Do("PUT", "/bucket/a%20b", "", replace).head.status == 200);
  got = f.Do("GET", "/bucket/a%20b");
  CHECK((got.body == body));
  CHECK(got.header("x-amz-meta-n") == "2");
  CHECK_FALSE(got.head.headers.Has("x-amz-meta-m"));
  auto code = [&](HeaderList headers) {
    return f.Do("PUT", "/bucket/copy", "", headers).element("Code");
  };
  CHECK(code({{"x-amz-copy-source", "/bucket/copy"}}) == "InvalidRequest");
  CHECK(code({{"x-amz-copy-source", "/bucket/absent"}}) == "NoSuchKey");
  CHECK(code({{"x-amz-copy-source", "/absent/k"}}) == "NoSuchBucket");
  CHECK(code({{"x-amz-copy-source", "nothing"}}) == "InvalidArgument");
  CHECK(code({{"x-amz-copy-source", "/bucket/%zz"}}) == "InvalidArgument");
  CHECK(code({{"x-amz-copy-source", "/bucket/a%20b"}, {"x-amz-copy-source-if-match", "\"x\""}}) ==
        "PreconditionFailed");
  CHECK(code({{"x-amz-copy-source", "/bucket/a%20b"}, {"x-amz-copy-source-if-none-match", etag}}) ==
        "PreconditionFailed");
  CHECK(code({{"x-amz-copy-source", "/bucket/a%20b"}, {"x-amz-copy-source-if-match", etag}}) == "");
  CHECK(f.Do("PUT", "/absent/copy", "", {{"x-amz-copy-source", "/bucket/a%20b"}}).element("Code") ==
        "NoSuchBucket");
}

struct Multipart {
  Fixture& f;
  std::string key = "/bucket/multi", id;
  explicit Multipart(Fixture& fixture, const HeaderList& headers = {}) : f(fixture) {
    id = f.Do("POST", key + "?uploads", "", headers).element("UploadId");
    REQUIRE(!id.empty());
  }
  MemoryResponse Part(int number, const std::string& body, const HeaderList& headers = {}) {
    return f.Do("PUT", key + "?partNumber=" + std::to_string(number) + "&uploadId=" + id, body,
                headers);
  }
  static std::string Xml(const std::vector<std::pair<int, std::string>>& parts,
                         const std::string& more = "") {
    std::string xml = "<CompleteMultipartUpload>";
    for (const auto& [n, etag] : parts)
      xml += "<Part><PartNumber>" + std::to_string(n) + "</PartNumber><ETag>" + etag + "</ETag>" +
             more + "</Part>";
    return xml + "</CompleteMultipartUpload>";
  }
  MemoryResponse Complete(const std::string& xml, const HeaderList& headers = {}) {
    return f.Do("POST", key + "?uploadId=" + id, xml, headers);
  }
};

TEST_CASE("an upload in parts becomes one object with AWS's ETag") {
  Fixture f;
  Multipart m(f, {{"x-amz-meta-a", "1"}, {"x-amz-checksum-algorithm", "CRC32"}});
  std::string one = RandomText(5 << 20, 1), two = RandomText((5 << 20) + 3, 2),
              three = RandomText(77, 3);
  CHECK(m.Part(1, one).header("etag") == "\"" + Md5Hex(one) + "\"");
  m.Part(2, two);
  m.Part(9, three);
  MemoryResponse parts = f.Do("GET", m.key + "?uploadId=" + m.id + "&max-parts=2");
  CHECK(Count(parts.body, "<Part>") == 2);
  CHECK(parts.element("NextPartNumberMarker") == "2");
  CHECK(parts.element("IsTruncated") == "true");
  CHECK(parts.element("ChecksumAlgorithm") == "CRC32");
  CHECK(f.Do("GET", m.key + "?uploadId=" + m.id + "&part-number-marker=2").element("PartNumber") ==
        "9");
  CHECK(f.Do("GET", "/bucket?uploads").element("UploadId") == m.id);
  CHECK(f.Do("HEAD", m.key).head.status == 404);

  std::string xml =
      Multipart::Xml({{1, Md5Hex(one)}, {2, "\"" + Md5Hex(two) + "\""}, {9, Md5Hex(three)}});
  MemoryResponse done = m.Complete(xml);
  REQUIRE(done.head.status == 200);
  std::string etag =
      Md5Hex(Hash(HashKind::kMd5, one) + Hash(HashKind::kMd5, two) + Hash(HashKind::kMd5, three)) +
      "-3";
  CHECK(done.element("ETag") == "&quot;" + etag + "&quot;");
  MemoryResponse got = f.Do("GET", m.key);
  CHECK((got.body == one + two + three));
  CHECK(got.header("x-amz-meta-a") == "1");
  CHECK(got.header("etag") == "\"" + etag + "\"");
  CHECK_FALSE(got.head.headers.Has("x-amz-checksum-algorithm"));
  MemoryResponse range = f.Do("GET", m.key, {}, {{"range", "bytes=5242870-5242890"}});
  CHECK((range.body == (one + two).substr(5242870, 21)));
  CHECK(m.Complete(xml).element("ETag") == "&quot;" + etag + "&quot;");  // a retry
  CHECK(Count(f.Do("GET", "/bucket?uploads").body, "<Upload>") == 0);
}

TEST_CASE("an upload is completed only with the parts it has") {
  Fixture f;
  Multipart m(f);
  std::string body = RandomText(100, 1);
  m.Part(1, body);
  m.Part(2, body);
  CHECK(m.Complete(Multipart::Xml({{2, Md5Hex(body)}, {1, Md5Hex(body)}})).element("Code") ==
        "InvalidPartOrder");
  CHECK(m.Complete(Multipart::Xml({{1, Md5Hex("x")}})).element("Code") == "InvalidPart");
  CHECK(m.Complete(Multipart::Xml({{3, Md5Hex(body)}})).element("Code") == "InvalidPart");
  CHECK(m.Complete(Multipart::Xml({{1, Md5Hex(body)}, {2, Md5Hex(body)}})).element("Code") ==
        "EntityTooSmall");
  CHECK(m.Complete("<x/>").element("Code") == "MalformedXML");
  CHECK(m.Complete(Multipart::Xml({{1, Md5Hex(body)}}), {{"if-none-match", "*"}}).head.status ==
        200);
  CHECK(f.Do("PUT", m.key + "?partNumber=0&uploadId=" + m.id, "x").element("Code") ==
        "InvalidArgument");
  CHECK(f.Do("PUT", m.key + "?partNumber=10001&uploadId=" + m.id, "x").element("Code") ==
        "InvalidArgument");
  CHECK(f.Do("PUT", m.key + "?partNumber=1&uploadId=nonsense", "x").element("Code") ==
        "NoSuchUpload");
  CHECK(f.Do("DELETE", m.key + "?uploadId=nonsense").element("Code") == "NoSuchUpload");
  Multipart second(f);
  second.Part(1, body);
  CHECK(second.Complete(Multipart::Xml({{1, Md5Hex(body)}}), {{"if-none-match", "*"}})
            .element("Code") == "PreconditionFailed");
  CHECK(f.Do("DELETE", second.key + "?uploadId=" + second.id).head.status == 204);
  CHECK(second.Part(1, body).element("Code") == "NoSuchUpload");
}

TEST_CASE("checksums of parts and of the whole are compared on completion") {
  Fixture f;
  std::string one = RandomText(5 << 20, 4), two = RandomText(1000, 5);
  auto crc = [](std::string_view data) {
    Checksum c(ChecksumKind::kCrc64Nvme);
    c.Update(AsBytes(data));
    return Base64Encode(c.Finish());
  };
  Multipart m(f,
              {{"x-amz-checksum-algorithm", "CRC64NVME"}, {"x-amz-checksum-type", "FULL_OBJECT"}});
  CHECK(
      m.Part(1, one, {{"x-amz-checksum-crc64nvme", crc(one)}}).header("x-amz-checksum-crc64nvme") ==
      crc(one));
  m.Part(2, two, {{"x-amz-checksum-crc64nvme", crc(two)}});
  std::vector<std::pair<int, std::string>> parts{{1, Md5Hex(one)}, {2, Md5Hex(two)}};
  CHECK(m.Complete(Multipart::Xml(parts, "<ChecksumCRC64NVME>" + crc(two) + "</ChecksumCRC64NVME>"))
            .element("Code") == "InvalidPart");
  CHECK(
      m.Complete(Multipart::Xml(parts), {{"x-amz-checksum-crc64nvme", crc(two)}}).element("Code") ==
      "BadDigest");
  CHECK(m.Complete(Multipart::Xml(parts), {{"x-amz-checksum-crc64nvme", crc(one + two)}})
            .head.status == 200);
}

TEST_CASE("parts can be copied from ranges of objects") {
  Fixture f;
  std::string body = RandomText((6 << 20) + 11, 6);
  f.Do("PUT", "/bucket/src", body);
  Multipart m(f);
  MemoryResponse one = m.Part(
      1, "",
      {{"x-amz-copy-source", "/bucket/src"}, {"x-amz-copy-source-range", "bytes=0-5242879"}});
  MemoryResponse two = m.Part(
      2, "",
      {{"x-amz-copy-source", "/bucket/src"}, {"x-amz-copy-source-range", "bytes=5242880-6291466"}});
  REQUIRE(two.head.status == 200);
  CHECK(m.Part(3, "",
               {{"x-amz-copy-source", "/bucket/src"},
                {"x-amz-copy-source-range", "bytes=0-99999999"}})
            .element("Code") == "InvalidRange");
  CHECK(m.Complete(Multipart::Xml({{1, one.element("ETag")}, {2, two.element("ETag")}}))
            .head.status == 200);
  CHECK((f.Do("GET", m.key).body == body));
}

TEST_CASE("uploads are listed in pages, rolled up by a delimiter") {
  Fixture f;
  for (const char* key : {"a/1", "a/2", "b", "c/1"})
    f.Do("POST", std::string("/bucket/") + key + "?uploads");
  MemoryResponse rolled = f.Do("GET", "/bucket?uploads&delimiter=%2F");
  CHECK(Count(rolled.body, "<CommonPrefixes>") == 2);
  CHECK(Count(rolled.body, "<Upload>") == 1);
  std::string query = "/bucket?uploads&delimiter=%2F&max-uploads=1", marker;
  int lines = 0;
  while (lines < 9) {
    MemoryResponse page = f.Do("GET", query + marker);
    lines += static_cast<int>(Count(page.body, "<CommonPrefixes>") + Count(page.body, "<Upload>"));
    if (page.element("IsTruncated") != "true") break;
    marker = "&key-marker=" + UriEncode(page.element("NextKeyMarker"), Slash::kEncode) +
             "&upload-id-marker=" + page.element("NextUploadIdMarker");
  }
  CHECK(lines == 3);
  CHECK(Count(f.Do("GET", "/bucket?uploads&prefix=a").body, "<Upload>") == 2);
}

}  // namespace
}  // namespace perigee::objectd::s3
