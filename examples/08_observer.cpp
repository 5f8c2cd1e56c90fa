// SPDX-License-Identifier: Apache-2.0
//
// Monitoring a group: an observer is notified of each load, a visitor reads the totals.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

#include <singleflight/flight.hpp>

namespace {

// Its functions are called within the calls that they report, on any thread, with no lock held.
class load_log final : public singleflight::observer {
 public:
  void load_began(std::uint64_t) noexcept override { ++began; }
  void load_ended(std::uint64_t id, std::chrono::nanoseconds took,
                  singleflight::load_result how) noexcept override {
    if (how == singleflight::load_result::error) ++failed;
    std::printf("load %llu took %lld us%s\n", static_cast<unsigned long long>(id),
                static_cast<long long>(took.count() / 1000),
                how == singleflight::load_result::value ? "" : " and failed");
  }
  std::atomic<int> began = 0;
  std::atomic<int> failed = 0;
};

class print_metrics final : public singleflight::metric_visitor {
 public:
  void visit(std::string_view name, singleflight::metric_kind, double value) override {
    if (value != 0) std::printf("%.*s %g\n", static_cast<int>(name.size()), name.data(), value);
    if (name == "loads") loads = value;
  }
  double loads = 0;
};

}  // namespace

int main() {
  load_log log;
  singleflight::group<std::string, int> prices({.observer = &log});
  const int tea = *prices.run("tea", [] { return 42; });
  const auto milk = prices.run(singleflight::as_outcome, "milk",
                               []() -> int { throw std::runtime_error("no milk"); });
  print_metrics metrics;
  prices.observe(metrics);
  return tea == 42 && !milk && log.began == 2 && log.failed == 1 && metrics.loads == 2 ? 0 : 1;
}
