#include "base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/status.h"

namespace perigee::metrics {
namespace {

class CounterImpl final : public Counter {
 public:
  explicit CounterImpl(prometheus::Counter& c) : counter_(c) {}
  void Add(double by) override { counter_.Increment(by); }
  double Value() const override { return counter_.Value(); }

 private:
  prometheus::Counter& counter_;
};

class GaugeImpl final : public Gauge {
 public:
  explicit GaugeImpl(prometheus::Gauge& g) : gauge_(g) {}
  void Set(double v) override { gauge_.Set(v); }
  void Add(double by) override { gauge_.Increment(by); }
  double Value() const override { return gauge_.Value(); }

 private:
  prometheus::Gauge& gauge_;
};

class HistogramImpl final : public Histogram {
 public:
  explicit HistogramImpl(prometheus::Histogram& h) : histogram_(h) {}
  void Observe(double v) override { histogram_.Observe(v); }

 private:
  prometheus::Histogram& histogram_;
};

// The families of one kind of metric, and its metrics by name and labels.
template <class Vendor, class Face, class Impl>
class Kind {
 public:
  // build(): registers the family; args: what the vendor's constructor takes besides labels.
  template <class Build, class... Args>
  Face* Get(const std::string& name, const Labels& labels, Build build, Args&&... args) {
    auto& metric = metrics_[{name, labels}];
    if (!metric) {
      auto& family = families_[name];
      if (family == nullptr) family = &build();
      metric = std::make_unique<Impl>(family->Add(labels, std::forward<Args>(args)...));
    }
    return metric.get();
  }

 private:
  std::map<std::string, prometheus::Family<Vendor>*> families_;
  std::map<std::pair<std::string, Labels>, std::unique_ptr<Impl>> metrics_;
};

// prometheus-cpp throws when a name is malformed or taken by another kind: names are in our code,
// so that is a bug here.
class RegistryImpl final : public Registry {
 public:
  Counter* GetCounter(const std::string& name, const std::string& help,
                      const Labels& labels) override {
    std::lock_guard lock(mu_);
    return counters_.Get(
        name, labels, [&]() -> auto& {
          return prometheus::BuildCounter().Name(name).Help(help).Register(registry_);
        });
  }

  Gauge* GetGauge(const std::string& name, const std::string& help, const Labels& labels) override {
    std::lock_guard lock(mu_);
    return gauges_.Get(
        name, labels, [&]() -> auto& {
          return prometheus::BuildGauge().Name(name).Help(help).Register(registry_);
        });
  }

  Histogram* GetHistogram(const std::string& name, const std::string& help,
                          std::vector<double> bounds, const Labels& labels) override {
    PERIGEE_CHECK(std::is_sorted(bounds.begin(), bounds.end()));
    std::lock_guard lock(mu_);
    return histograms_.Get(
        name, labels,
        [&]() -> auto& {
          return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_);
        },
        bounds);
  }

  void OnCollect(std::function<void()> fn) override {
    std::lock_guard lock(collect_mu_);
    collectors_.push_back(std::move(fn));
  }

  std::string ExposeText() override {
    std::lock_guard lock(collect_mu_);
    for (auto& fn : collectors_) fn();
    return prometheus::TextSerializer().Serialize(registry_.Collect());
  }

 private:
  std::mutex
      collect_mu_;  // guards collectors_, and that one exposition runs at a time; taken before mu_
  std::vector<std::function<void()>> collectors_;
  std::mutex mu_;  // guards the three below
  Kind<prometheus::Counter, Counter, CounterImpl> counters_;
  Kind<prometheus::Gauge, Gauge, GaugeImpl> gauges_;
  Kind<prometheus::Histogram, Histogram, HistogramImpl> histograms_;
  prometheus::Registry registry_;
};

}  // namespace

std::unique_ptr<Registry> Registry::Create() { return std::make_unique<RegistryImpl>(); }

}  // namespace perigee::metrics
