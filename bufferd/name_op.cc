#include "bufferd/name_op.h"

#include "base/bytes.h"
#include "base/checksum.h"
#include "rdma/wire/methods.h"

namespace perigee::bufferd {
namespace {

constexpr std::string_view kMagic = "PBN1";
constexpr size_t kFrameBytes = 8;

}  // namespace

std::string EncodeOp(const NameOp& op) {
  std::string body = wire::Encode(op);
  uint32_t crc = Crc32c(AsBytes(body));
  std::string out(kMagic);
  out.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  return out + body;
}

Status ForEachName(const NameOp& op,
                   const std::function<void(wire::FileId, const std::string&)>& fn) {
  switch (static_cast<wire::Method>(op.method)) {
    case wire::Method::kMetaCreate:
    case wire::Method::kMetaMkdir: {
      PERIGEE_ASSIGN(auto q, wire::Decode<wire::MakeRequest>(op.request));
      fn(q.parent, q.name);
      break;
    }
    case wire::Method::kMetaRename: {
      PERIGEE_ASSIGN(auto q, wire::Decode<wire::RenameRequest>(op.request));
      fn(q.parent, q.name);
      fn(q.new_parent, q.new_name);
      break;
    }
    case wire::Method::kMetaUnlink:
    case wire::Method::kMetaRmdir: {
      PERIGEE_ASSIGN(auto q, wire::Decode<wire::RemoveRequest>(op.request));
      fn(q.parent, q.name);
      break;
    }
    default:
      break;
  }
  return Status::Ok();
}

Result<NameOp> DecodeOp(std::string_view stored) {
  if (stored.size() < kFrameBytes || stored.substr(0, 3) != kMagic.substr(0, 3))
    return Status(Code::kCorrupt, "not a journaled change of names");
  if (stored[3] != kMagic[3])
    return Status(Code::kUnimplemented, "a journaled change of names is of a newer build");
  std::string_view body = stored.substr(kFrameBytes);
  if (GetLe<uint32_t>(AsBytes(stored).data() + 4) != Crc32c(AsBytes(body)))
    return Status(Code::kCorrupt, "a journaled change of names fails its checksum");
  return wire::Decode<NameOp>(body);
}

}  // namespace perigee::bufferd
