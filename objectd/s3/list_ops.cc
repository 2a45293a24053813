#include "base/utf8.h"
#include "objectd/s3/continuation_token.h"
#include "objectd/s3/operations.h"
#include "objectd/s3/time_format.h"

namespace perigee::objectd::s3 {

namespace {

constexpr uint32_t kListKeysMax = 1000;
constexpr uint64_t kListBytesPerKey = 2 << 10;  // a record and its lines of XML

struct Listing {
  ListQuery query;
  uint32_t max_keys = 0;
  KeyEncoding encode;
};

Outcome ParseListing(Call& call, Listing* out) {
  PERIGEE_S3_TRY(CountParameter(call.query(), "max-keys", kListKeysMax, &out->max_keys));
  PERIGEE_S3_TRY(EncodingParameter(call.query(), &out->encode));
  PERIGEE_S3_TRY(ReserveMemory(call, uint64_t{out->max_keys} * kListBytesPerKey));
  out->query.prefix = call.query().Get("prefix");
  out->query.delimiter = call.query().Get("delimiter");
  out->query.limit = out->max_keys;
  for (const std::string* text : {&out->query.prefix, &out->query.delimiter}) {
    if (!IsUtf8(*text))
      return {ErrorCode::kInvalidArgument, "A parameter of the listing is not UTF-8."};
  }
  return {};
}

Outcome Fetch(Call& call, const Listing& listing, ListPage* page) {
  if (listing.max_keys == 0) {
    // Nothing is asked for, but the bucket has to be there.
    Result<wire::Record> bucket = call.ns.HeadBucket(call.bucket());
    return bucket.ok() ? Outcome::Ok() : FromStatus(bucket.status(), ErrorCode::kNoSuchBucket);
  }
  Result<ListPage> got = call.ns.ListObjects(call.bucket(), listing.query);
  if (!got.ok()) return FromStatus(got.status(), ErrorCode::kNoSuchBucket);
  *page = std::move(*got);
  return {};
}

void AppendCommon(const Call& call, const Listing& listing, XmlWriter* xml) {
  xml->Text("Name", call.bucket());
  xml->Text("Prefix", listing.encode(listing.query.prefix));
  if (!listing.query.delimiter.empty())
    xml->Text("Delimiter", listing.encode(listing.query.delimiter));
  xml->Number("MaxKeys", listing.max_keys);
  if (listing.encode.url) xml->Text("EncodingType", "url");
}

enum class Owner { kShown, kHidden };

void AppendPage(const ListPage& page, const Listing& listing, Owner owner, XmlWriter* xml) {
  for (const auto& [key, record] : page.objects) {
    ObjectView view = ViewOf(record);
    xml->Open("Contents");
    xml->Text("Key", listing.encode(key));
    xml->Text("LastModified", FormatIsoMillis(view.modified));
    xml->Text("ETag", Quoted(view.etag));
    if (auto checksum = DecodeStored(view.checksum)) {
      xml->Text("ChecksumAlgorithm", NameOf(checksum->kind));
      xml->Text("ChecksumType", checksum->composite ? "COMPOSITE" : "FULL_OBJECT");
    }
    xml->Number("Size", view.size);
    if (owner == Owner::kShown) {
      xml->Open("Owner");
      xml->Text("ID", "perigee");
      xml->Text("DisplayName", "perigee");
      xml->Close("Owner");
    }
    xml->Text("StorageClass", "STANDARD");
    xml->Close("Contents");
  }
  for (const std::string& prefix : page.common_prefixes) {
    xml->Open("CommonPrefixes");
    xml->Text("Prefix", listing.encode(prefix));
    xml->Close("CommonPrefixes");
  }
}

}  // namespace

Outcome ListObjects(Call& call) {
  Listing listing;
  PERIGEE_S3_TRY(ParseListing(call, &listing));
  listing.query.after = call.query().Get("marker");
  ListPage page;
  PERIGEE_S3_TRY(Fetch(call, listing, &page));
  XmlWriter xml;
  xml.OpenRoot("ListBucketResult");
  AppendCommon(call, listing, &xml);
  xml.Text("Marker", listing.encode(listing.query.after));
  xml.Flag("IsTruncated", page.truncated);
  if (page.truncated) xml.Text("NextMarker", listing.encode(page.next_after));
  AppendPage(page, listing, Owner::kShown, &xml);
  xml.Close("ListBucketResult");
  call.SendXml(xml.Take());
  return {};
}

Outcome ListObjectsV2(Call& call) {
  Listing listing;
  PERIGEE_S3_TRY(ParseListing(call, &listing));
  std::string start_after = call.query().Get("start-after");
  listing.query.after = start_after;
  const std::string* token = call.query().Find("continuation-token");
  if (token) {
    auto after = DecodeContinuationToken(*token);
    if (!after)
      return {ErrorCode::kInvalidArgument, "The continuation token provided is incorrect"};
    listing.query.after = std::move(*after);
  }
  ListPage page;
  PERIGEE_S3_TRY(Fetch(call, listing, &page));
  XmlWriter xml;
  xml.OpenRoot("ListBucketResult");
  AppendCommon(call, listing, &xml);
  if (token) xml.Text("ContinuationToken", *token);
  if (!start_after.empty()) xml.Text("StartAfter", listing.encode(start_after));
  xml.Number("KeyCount", page.objects.size() + page.common_prefixes.size());
  xml.Flag("IsTruncated", page.truncated);
  if (page.truncated) xml.Text("NextContinuationToken", EncodeContinuationToken(page.next_after));
  bool owner = EqualsIgnoreCase(call.query().Get("fetch-owner"), "true");
  AppendPage(page, listing, owner ? Owner::kShown : Owner::kHidden, &xml);
  xml.Close("ListBucketResult");
  call.SendXml(xml.Take());
  return {};
}

Outcome CountParameter(const Query& query, const char* name, uint32_t most, uint32_t* out) {
  *out = most;
  const std::string* text = query.Find(name);
  if (!text || text->empty()) return {};
  auto value = ParseDecimal(*text);
  if (!value)
    return {ErrorCode::kInvalidArgument,
            "Provided " + std::string(name) + " not an integer or within integer range"};
  *out = static_cast<uint32_t>(std::min<uint64_t>(*value, most));
  return {};
}

Outcome EncodingParameter(const Query& query, KeyEncoding* out) {
  const std::string* text = query.Find("encoding-type");
  if (!text || text->empty()) return {};
  if (!EqualsIgnoreCase(*text, "url"))
    return {ErrorCode::kInvalidArgument, "Invalid Encoding Method specified in Request"};
  out->url = true;
  return {};
}

}  // namespace perigee::objectd::s3
