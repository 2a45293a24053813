// Random operations through both doors on few names, against namespace_model.h, while the store
// makes transactions lose races that never were. Compares every outcome, and both listings.
// RapidCheck prints the seed and shrinks what fails (RC_PARAMS="seed=... reproduce=..." replays).

#include "tests/objectd/meta/namespace_model.h"

#include <rapidcheck.h>

#include "tests/objectd/meta/fixture.h"

using namespace perigee;
using namespace perigee::objectd;
using namespace perigee::objectd::test;

namespace {

enum class What {
  kMkdir,
  kCreate,
  kSymlink,
  kWrite,
  kUnlink,
  kRmdir,
  kLink,
  kRename,
  kNoReplace,
  kExchange,
  kPut,
  kPutNew,
  kGet,
  kDelete,
  kDeleteTwo,
  kCopy,
  kPublishOpen
};
constexpr int kWhats = 17;

struct Op {
  What what;
  std::vector<std::string> dir, dir2;  // from the root
  std::string name, name2;
  std::string key, key2;
  std::string content;
};

std::ostream& operator<<(std::ostream& out, const Op& op) {
  auto path = [](const std::vector<std::string>& names) {
    std::string all;
    for (const auto& n : names) all += "/" + n;
    return all;
  };
  return out << "{" << static_cast<int>(op.what) << " " << path(op.dir) << " " << op.name << " "
             << path(op.dir2) << " " << op.name2 << " key '" << op.key << "' '" << op.key2
             << "' content '" << op.content << "'}";
}

rc::Gen<Op> AnyOp() {
  auto name = rc::gen::element<std::string>("a", "b", "c");
  auto dir = rc::gen::mapcat(
      rc::gen::element<std::string>("bkt-one", "bkt-one", "bkt-one", "bkt-two"),
      [=](std::string bucket) {
        return rc::gen::map(rc::gen::resize(3, rc::gen::container<std::vector<std::string>>(name)),
                            [=](std::vector<std::string> names) {
                              names.insert(names.begin(), bucket);
                              return names;
                            });
      });
  auto key = rc::gen::map(
      rc::gen::pair(
          rc::gen::resize(
              4, rc::gen::nonEmpty(rc::gen::container<std::vector<std::string>>(
                     rc::gen::element<std::string>("a", "b", "c", "a/", "b/", "/", "a", "-")))),
          name),
      [](const std::pair<std::vector<std::string>, std::string>& parts) {
        std::string all;
        for (const auto& p : parts.first) all += p;
        return all;
      });
  return rc::gen::build<Op>(
      rc::gen::set(&Op::what, rc::gen::map(rc::gen::inRange(0, kWhats),
                                           [](int w) { return static_cast<What>(w); })),
      rc::gen::set(&Op::dir, dir), rc::gen::set(&Op::dir2, dir), rc::gen::set(&Op::name, name),
      rc::gen::set(&Op::name2, name), rc::gen::set(&Op::key, key), rc::gen::set(&Op::key2, key),
      rc::gen::set(&Op::content, rc::gen::element<std::string>("", "x", "yy")));
}

class Run {
 public:
  Run(Namespace& ns, Model& model) : ns_(ns), model_(model) {}

  void Apply(const Op& op) {
    switch (op.what) {
      case What::kPut:
      case What::kPutNew:
      case What::kGet:
      case What::kDelete:
      case What::kDeleteTwo:
      case What::kCopy:
        return S3(op);
      default:
        return Mount(op);
    }
  }

  void CompareListings() {
    for (const char* bucket : {"bkt-one", "bkt-two"}) {
      Strings keys;
      auto page = ns_.ListObjects(bucket, {.limit = 10000});
      RC_ASSERT(page.ok());
      for (const auto& [key, record] : page->objects) keys.push_back(key);
      RC_ASSERT(keys == model_.ListObjects(bucket));
      Strings names;
      auto top = ns_.Lookup({.path = bucket});
      RC_ASSERT(top.ok());
      ListMount(top->record.id, "", &names);
      RC_ASSERT(names == model_.ListMount(model_.Walk({bucket})));
    }
  }

 private:
  // The directory in both worlds; false when it is in neither.
  bool Open(const std::vector<std::string>& names, wire::FileId* id, Model::Ref* ref) {
    std::string path;
    for (const auto& n : names) path += n + "/";
    auto found = ns_.Lookup({.path = path});
    *ref = model_.Walk(names);
    const bool here = found.ok() && found->record.kind == wire::FileKind::kDirectory;
    RC_ASSERT(here == (*ref != nullptr));
    if (here) *id = found->record.id;
    return here;
  }

  void Mount(const Op& op) {
    wire::FileId dir = 0, dir2 = 0;
    Model::Ref at, at2;
    if (!Open(op.dir, &dir, &at)) return;
    switch (op.what) {
      case What::kMkdir:
        RC_ASSERT(ns_.Mkdir(Fixture::Make(dir, op.name)).code() == model_.Mkdir(at, op.name));
        return;
      case What::kCreate:
        RC_ASSERT(ns_.CreateFile(Fixture::Make(dir, op.name)).code() ==
                  model_.Create(at, op.name, false));
        return;
      case What::kSymlink:
        RC_ASSERT(ns_.Symlink({.parent = dir, .name = op.name, .symlink = "t"}).code() ==
                  model_.Create(at, op.name, true));
        return;
      case What::kWrite:
      case What::kPublishOpen:
        RC_ASSERT(Write(dir, op.name, op.content) == model_.Write(at, op.name, op.content));
        return;
      case What::kUnlink:
        RC_ASSERT(ns_.Unlink({.parent = dir, .name = op.name}).code() ==
                  model_.Unlink(at, op.name));
        return;
      case What::kRmdir:
        RC_ASSERT(ns_.Rmdir({.parent = dir, .name = op.name}).code() == model_.Rmdir(at, op.name));
        return;
      default:
        break;
    }
    if (!Open(op.dir2, &dir2, &at2)) return;
    if (op.what == What::kLink) {
      auto source = ns_.Lookup({.parent = dir, .name = op.name});
      Code code = source.code();
      if (source.ok()) {
        code = ns_.Link({.id = source->record.id, .new_parent = dir2, .new_name = op.name2}).code();
      }
      RC_ASSERT(code == model_.Link(at, op.name, at2, op.name2));
      return;
    }
    const bool no_replace = op.what == What::kNoReplace, exchange = op.what == What::kExchange;
    uint32_t flags =
        (no_replace ? wire::kRenameNoReplace : 0) | (exchange ? wire::kRenameExchange : 0);
    Code code = ns_.Rename({.parent = dir,
                            .name = op.name,
                            .new_parent = dir2,
                            .new_name = op.name2,
                            .flags = flags})
                    .code();
    RC_ASSERT(code == model_.Rename(at, op.name, at2, op.name2, no_replace, exchange));
  }

  Code Write(wire::FileId dir, const std::string& name, const std::string& content) {
    auto file = ns_.Lookup({.parent = dir, .name = name});
    if (!file.ok()) return file.code();
    const wire::Record& r = file->record;
    const wire::BurstId burst = ++burst_;
    auto open = ns_.OpenWrite({.id = r.id,
                               .expect_generation = r.committed ? r.committed->generation : 0,
                               .node = 1,
                               .burst = burst});
    if (!open.ok()) return open.code();
    auto published = ns_.Publish({.id = r.id,
                                  .node = 1,
                                  .burst = burst,
                                  .generation = open->record.writer->generation,
                                  .size = content.size(),
                                  .has_inline = true},
                                 content);
    if (!published.ok()) return published.code();
    return ns_.EndWrite({.id = r.id, .node = 1, .burst = burst}).code();
  }

  void S3(const Op& op) {
    const std::string& bucket = op.dir[0];
    switch (op.what) {
      case What::kPut:
      case What::kPutNew: {
        Preconditions conditions;
        if (op.what == What::kPutNew) conditions.if_none_match = "*";
        RC_ASSERT(
            ns_.PutObject(bucket, op.key, Fixture::Inline(op.content), {}, conditions).code() ==
            model_.Put(bucket, op.key, op.content, op.what == What::kPutNew));
        return;
      }
      case What::kGet: {
        std::string expected, bytes;
        auto got = ns_.GetObject(bucket, op.key);
        RC_ASSERT(got.code() == model_.Get(bucket, op.key, &expected));
        if (!got.ok()) return;
        RC_ASSERT(got->committed->size == expected.size());
        if (got->committed->layout.kind == wire::LayoutKind::kInline) {
          auto read = ns_.ReadInline(got->id, got->committed->generation);
          RC_ASSERT(read.ok());
          bytes = *read;
        }
        RC_ASSERT(bytes == expected);
        return;
      }
      case What::kDelete: {
        bool removed = false;
        auto deleted = ns_.DeleteObject(bucket, op.key, {});
        RC_ASSERT(deleted.code() == model_.Delete(bucket, op.key, &removed));
        RC_ASSERT(deleted->has_value() == removed);
        return;
      }
      case What::kDeleteTwo: {
        Deletion both[] = {{op.key, {}, {}}, {op.key2, {}, {}}};
        ns_.DeleteObjects(bucket, both);
        for (Deletion& d : both) {
          bool removed = false;
          RC_ASSERT(d.outcome.code() == model_.Delete(bucket, d.key, &removed));
        }
        return;
      }
      default:
        RC_ASSERT(ns_.CopyObject(bucket, op.key, bucket, op.key2, {}, {}, {}).code() ==
                  model_.Copy(bucket, op.key, op.key2));
        return;
    }
  }

  void ListMount(wire::FileId dir, const std::string& path, Strings* names) {
    std::string after;
    while (true) {
      auto page = ns_.ReadDir({.dir = dir, .after = after, .limit = 2});
      RC_ASSERT(page.ok());
      for (const auto& item : page->items) {
        const wire::Record& r = item.record;
        after = item.key;
        if (r.kind == wire::FileKind::kDirectory) {
          const std::string below = path + item.name + "/";
          names->push_back(below);
          ListMount(r.id, below, names);
          continue;
        }
        std::string content;
        if (r.committed && r.committed->layout.kind == wire::LayoutKind::kInline) {
          auto read = ns_.ReadInline(r.id, r.committed->generation);
          RC_ASSERT(read.ok());
          content = *read;
        }
        names->push_back(path + item.name +
                         (r.kind == wire::FileKind::kSymlink ? "@"
                          : r.committed                      ? "=" + content
                                                             : "?"));
      }
      if (page->end) return;
    }
  }

  Namespace& ns_;
  Model& model_;
  wire::BurstId burst_ = 0;
};

}  // namespace

TEST_CASE("any sequence of operations through both doors does what the model does") {
  CHECK(rc::check("namespace against model", [] {
    const auto ops = *rc::gen::scale(2.0, rc::gen::container<std::vector<Op>>(AnyOp()));
    const auto seed = *rc::gen::arbitrary<uint64_t>();
    ManualClock clock;
    auto store = kv::MemStore::Create();
    auto registry = metrics::Registry::Create();
    auto ns = Must(Namespace::Create(*store, clock, *registry, {}));
    for (const char* bucket : {"bkt-one", "bkt-two"}) Must(ns->CreateBucket({.name = bucket}));
    Model model({"bkt-one", "bkt-two"});
    store->FailConflicts(4, seed);
    Run run(*ns, model);
    size_t done = 0;
    for (const auto& op : ops) {
      clock.Advance(kMillisecond);
      run.Apply(op);
      if (++done % 16 == 0) run.CompareListings();
    }
    store->FailConflicts(0, 0);
    run.CompareListings();
    RC_ASSERT(CheckTree(*store) == Strings{});
  }));
}
