#pragma once
// Metrics: counters, gauges and histograms in the Prometheus text format, over prometheus-cpp.
//
// One Registry per process, passed to what counts. A metric is looked up once at construction and
// kept by pointer; pointers live as long as the registry. Names:
// perigee_<area>_<what>_<unit>[_total]. Thread-safe.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace perigee::metrics {

using Labels = std::map<std::string, std::string>;

class Counter {
 public:
  virtual ~Counter() = default;
  virtual void Add(double by = 1) = 0;
  virtual double Value() const = 0;
};

class Gauge {
 public:
  virtual ~Gauge() = default;
  virtual void Set(double v) = 0;
  virtual void Add(double by) = 0;
  virtual double Value() const = 0;
};

class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void Observe(double v) = 0;
};

class Registry {
 public:
  static std::unique_ptr<Registry> Create();
  virtual ~Registry() = default;
  // The same name and labels give the same object.
  virtual Counter* GetCounter(const std::string& name, const std::string& help,
                              const Labels& labels = {}) = 0;
  virtual Gauge* GetGauge(const std::string& name, const std::string& help,
                          const Labels& labels = {}) = 0;
  virtual Histogram* GetHistogram(const std::string& name, const std::string& help,
                                  std::vector<double> bounds, const Labels& labels = {}) = 0;
  // Runs before each exposition; for gauges that are cheaper to read than to keep. Must outlive the
  // registry's use.
  virtual void OnCollect(std::function<void()> fn) = 0;
  virtual std::string ExposeText() = 0;
};

// Raises `counter` to a count that is kept elsewhere.
inline void Follow(Counter* counter, double count) { counter->Add(count - counter->Value()); }

}  // namespace perigee::metrics
