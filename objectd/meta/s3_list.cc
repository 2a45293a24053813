// Listings in S3's byte order. Components of directories end in '/', so a walk of each directory in
// key order, going into a directory where its component stands, is that order. With delimiter '/'
// directories are not gone into: a page is one scan of one directory. (A directory that holds only
// what S3 does not see, such as files never published, is then still a common prefix.)

#include <algorithm>

#include "objectd/meta/namespace_impl.h"
#include "objectd/meta/s3_path.h"

namespace perigee::objectd {
namespace {

constexpr size_t kBatchMax = 1000;

class Lister {
 public:
  Lister(Tree& tree, wire::FileId bucket, const ListQuery& query, ListPage* page)
      : tree_(tree), bucket_(bucket), query_(query), page_(page) {}

  Status Run() {
    if (query_.limit == 0) return Status::Ok();
    from_ = std::max(query_.prefix,
                     query_.after.empty() ? std::string() : query_.after + std::string(1, '\0'));
    Seek();
    while (!stack_.empty() && !page_->truncated) PERIGEE_TRY(Step());
    if (!page_->objects.empty()) page_->next_after = page_->objects.back().first;
    if (!page_->common_prefixes.empty())
      page_->next_after = std::max(page_->next_after, page_->common_prefixes.back());
    return Status::Ok();
  }

 private:
  struct Frame {
    wire::FileId dir;
    std::string path;  // key prefix of the directory's entries
    std::string next;  // component to read on from
    std::string end;   // component to stop before; "": none
    std::vector<kv::KeyValue> batch;
    size_t at = 0;
    bool exhausted = false;
  };

  void Seek() {
    stack_.clear();
    Push(bucket_, "");
  }

  // Bounds the components to those whose keys can be >= from_ and have the prefix.
  void Push(wire::FileId dir, std::string path) {
    Frame frame{.dir = dir, .path = std::move(path)};
    if (from_.starts_with(frame.path)) {
      frame.next = from_.substr(frame.path.size());
      if (size_t slash = frame.next.find('/'); slash != std::string::npos)
        frame.next.resize(slash + 1);
    }
    if (query_.prefix.starts_with(frame.path)) {
      std::string rest = query_.prefix.substr(frame.path.size());
      if (size_t slash = rest.find('/'); slash != std::string::npos) {
        rest.resize(slash + 1);
        frame.end = rest + std::string(1, '\0');
      } else {
        frame.end = keys::Successor(rest);
      }
      frame.next = std::max(frame.next, rest);
    }
    stack_.push_back(std::move(frame));
  }

  Status Step() {
    Frame& frame = stack_.back();
    if (frame.at == frame.batch.size()) {
      if (frame.exhausted) {
        stack_.pop_back();
        return Status::Ok();
      }
      const size_t want = std::min<size_t>(kBatchMax, query_.limit - Items() + 1);
      PERIGEE_ASSIGN(frame.batch, tree_.ListRows(frame.dir, frame.next, frame.end, want));
      frame.at = 0;
      frame.exhausted = frame.batch.size() < want;
      if (!frame.exhausted)
        frame.next.assign(keys::EntryComponent(frame.batch.back().first)).push_back('\0');
      return Status::Ok();
    }
    const auto& [row_key, value] = frame.batch[frame.at++];
    PERIGEE_ASSIGN(RecordSummary record, tree_.Summarize(value));
    std::string key = frame.path;
    key.append(keys::EntryComponent(row_key));
    if (!record.is_directory()) {
      if (IsVisible(record) && IsWanted(key)) Offer(std::move(key), std::move(record));
      return Status::Ok();
    }
    if (query_.delimiter == "/" && key.size() > query_.prefix.size() &&
        key.starts_with(query_.prefix)) {
      OfferPrefix(std::move(key));
      return Status::Ok();
    }
    const wire::FileId dir = record.id;
    if (!record.implicit && IsWanted(key)) {
      // The zero-byte object that it also is (MarkerOf in s3_path.h).
      record.committed = VersionSummary{.mtime = record.mtime};
      if (Offer(key, std::move(record))) return Status::Ok();
    }
    Push(dir, std::move(key));
    return Status::Ok();
  }

  bool IsWanted(const std::string& key) const {
    return key >= from_ && key.starts_with(query_.prefix);
  }
  size_t Items() const { return page_->objects.size() + page_->common_prefixes.size(); }

  // False when the page was full: then there is more behind it.
  bool HasRoom() {
    page_->truncated = Items() == query_.limit;
    return !page_->truncated;
  }

  // True when the walk has moved on to elsewhere.
  bool Offer(std::string key, RecordSummary record) {
    if (!query_.delimiter.empty()) {
      const size_t at = key.find(query_.delimiter, query_.prefix.size());
      if (at != std::string::npos) {
        std::string common = key.substr(0, at + query_.delimiter.size());
        from_ = keys::Successor(common);
        OfferPrefix(std::move(common));
        if (from_.empty())
          stack_.clear();
        else
          Seek();
        return true;
      }
    }
    // A directory's own object and the empty component in it have one key.
    if (!page_->objects.empty() && page_->objects.back().first == key) return false;
    if (HasRoom()) page_->objects.emplace_back(std::move(key), std::move(record));
    return false;
  }

  void OfferPrefix(std::string common) {
    if (common <= query_.after) return;
    if (HasRoom()) page_->common_prefixes.push_back(std::move(common));
  }

  Tree& tree_;
  const wire::FileId bucket_;
  const ListQuery& query_;
  ListPage* const page_;
  std::string from_;  // keys below it are done
  std::vector<Frame> stack_;
};

}  // namespace

Result<ListPage> NamespaceImpl::ListObjects(const std::string& bucket, const ListQuery& query) {
  ListPage page;
  PERIGEE_TRY(ReadDurable([&](Tree& tree) -> Status {
    page = {};
    PERIGEE_ASSIGN(Node node, FindBucket(tree, bucket, kv::ReadMode::kSnapshot));
    return Lister(tree, node.record.id, query, &page).Run();
  }));
  return page;
}

}  // namespace perigee::objectd
