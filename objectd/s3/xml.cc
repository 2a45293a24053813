#include "objectd/s3/xml.h"

#include <array>
#include <cstring>
#include <pugixml.hpp>

#include "objectd/s3/http.h"

namespace perigee::objectd::s3 {

namespace {

// "ns:Key" and "Key" alike.
std::string_view LocalName(const pugi::xml_node& node) {
  std::string_view name = node.name();
  size_t colon = name.find(':');
  return colon == std::string_view::npos ? name : name.substr(colon + 1);
}

Status Load(std::string_view xml, std::string_view root_name, pugi::xml_document* doc,
            pugi::xml_node* root) {
  // Whitespace inside values counts (keys may be blanks); entities other than the five are left as
  // they are.
  pugi::xml_parse_result parsed = doc->load_buffer(
      xml.data(), xml.size(),
      pugi::parse_escapes | pugi::parse_cdata | pugi::parse_ws_pcdata_single | pugi::parse_eol,
      pugi::encoding_utf8);
  if (!parsed) return Status(Code::kInvalidArgument, std::string("XML: ") + parsed.description());
  *root = doc->document_element();
  if (LocalName(*root) != root_name)
    return Status(Code::kInvalidArgument, "XML: expected " + std::string(root_name));
  return Status::Ok();
}

// All of it: comments and CDATA sections may divide an element's text.
std::string TextOf(const pugi::xml_node& node) {
  std::string text;
  for (pugi::xml_node part : node.children()) {
    if (part.type() == pugi::node_pcdata || part.type() == pugi::node_cdata) text += part.value();
  }
  return text;
}

constexpr std::array<bool, 256> kEscaped = [] {
  std::array<bool, 256> escaped{};
  for (int c = 0; c < 0x20; ++c) escaped[c] = c != '\t' && c != '\n';
  for (unsigned char c : {'&', '<', '>', '"'}) escaped[c] = true;
  return escaped;
}();

bool NeedsEscape(char c) { return kEscaped[static_cast<unsigned char>(c)]; }

}  // namespace

XmlWriter::XmlWriter() : out_("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n") {}

void XmlWriter::Open(std::string_view name) {
  out_.push_back('<');
  out_.append(name);
  out_.push_back('>');
}

void XmlWriter::OpenRoot(std::string_view name) {
  out_.append("<").append(name).append(" xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
}

void XmlWriter::Close(std::string_view name) {
  out_.append("</", 2);
  out_.append(name);
  out_.push_back('>');
}

void XmlWriter::Text(std::string_view name, std::string_view text) {
  Open(name);
  AppendXmlEscaped(&out_, text);
  Close(name);
}

void XmlWriter::Number(std::string_view name, uint64_t value) {
  Open(name);
  out_.append(std::to_string(value));
  Close(name);
}

void XmlWriter::Flag(std::string_view name, bool value) { Text(name, value ? "true" : "false"); }

void XmlWriter::Empty(std::string_view name) { out_.append("<").append(name).append("/>"); }

void AppendXmlEscaped(std::string* out, std::string_view text) {
  size_t plain = 0;  // from here to `at` nothing needs escaping
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (!NeedsEscape(c)) continue;
    out->append(text.substr(plain, at - plain));
    plain = at + 1;
    switch (c) {
      case '&':
        out->append("&amp;");
        break;
      case '<':
        out->append("&lt;");
        break;
      case '>':
        out->append("&gt;");
        break;
      case '"':
        out->append("&quot;");
        break;
      default:
        out->append("&#").append(std::to_string(int{c})).append(";");
    }
  }
  out->append(text.substr(plain));
}

Result<DeleteDocument> ParseDelete(std::string_view xml) {
  pugi::xml_document doc;
  pugi::xml_node root;
  PERIGEE_TRY(Load(xml, "Delete", &doc, &root));
  DeleteDocument out;
  for (pugi::xml_node node : root.children()) {
    if (LocalName(node) == "Quiet") out.quiet = EqualsIgnoreCase(TextOf(node), "true");
    if (LocalName(node) != "Object") continue;
    DeleteDocument::Item item;
    bool has_key = false;
    for (pugi::xml_node field : node.children()) {
      std::string_view name = LocalName(field);
      if (name == "Key") {
        item.key = TextOf(field);
        has_key = true;
      } else if (name == "VersionId") {
        item.version_id = TextOf(field);
      } else if (name == "ETag") {
        item.etag = StripQuotes(TextOf(field));
      }
    }
    if (!has_key || item.key.empty())
      return Status(Code::kInvalidArgument, "XML: Object without Key");
    if (out.items.size() == kDeleteKeysMax)
      return Status(Code::kInvalidArgument, "XML: more than 1000 objects");
    out.items.push_back(std::move(item));
  }
  if (out.items.empty()) return Status(Code::kInvalidArgument, "XML: no Object");
  return out;
}

Result<CompleteDocument> ParseComplete(std::string_view xml) {
  pugi::xml_document doc;
  pugi::xml_node root;
  PERIGEE_TRY(Load(xml, "CompleteMultipartUpload", &doc, &root));
  CompleteDocument out;
  for (pugi::xml_node node : root.children()) {
    if (LocalName(node) != "Part") continue;
    CompleteDocument::Part part;
    for (pugi::xml_node field : node.children()) {
      std::string_view name = LocalName(field);
      if (name == "PartNumber") {
        std::string text = TextOf(field);
        auto n = ParseDecimal(TrimBlanks(text));
        if (!n || *n < 1 || *n > 10000)
          return Status(Code::kInvalidArgument, "XML: bad PartNumber");
        part.number = static_cast<uint32_t>(*n);
      } else if (name == "ETag") {
        part.etag = StripQuotes(TextOf(field));
      } else if (name.starts_with("Checksum")) {
        part.checksums.emplace_back(name, TextOf(field));
      }
    }
    if (part.number == 0 || part.etag.empty())
      return Status(Code::kInvalidArgument, "XML: Part without number or ETag");
    out.parts.push_back(std::move(part));
    if (out.parts.size() > 10000)
      return Status(Code::kInvalidArgument, "XML: more than 10000 parts");
  }
  if (out.parts.empty()) return Status(Code::kInvalidArgument, "XML: no Part");
  return out;
}

Result<std::string> ParseCreateBucket(std::string_view xml) {
  pugi::xml_document doc;
  pugi::xml_node root;
  PERIGEE_TRY(Load(xml, "CreateBucketConfiguration", &doc, &root));
  for (pugi::xml_node node : root.children()) {
    if (LocalName(node) == "LocationConstraint") return TextOf(node);
  }
  return std::string();
}

std::string StripQuotes(std::string_view etag) {
  etag = TrimBlanks(etag);
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"')
    etag = etag.substr(1, etag.size() - 2);
  return std::string(etag);
}

}  // namespace perigee::objectd::s3
