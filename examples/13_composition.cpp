// SPDX-License-Identifier: Apache-2.0
//
// The primitives combined: loads are shared by a group, gathered by a batcher, retried, guarded by
// a breaker, and limited to four at a time.

#include <atomic>
#include <chrono>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <singleflight/sync.hpp>

namespace {

using namespace std::chrono_literals;

class user_source {
 public:
  std::string find(int id) {
    return *users_.run(id, [&] { return *batches_.load(id); });
  }
  int queries() const { return queries_; }

 private:
  /// Loads one batch: holds a permit until it is done, and makes each attempt through the breaker.
  std::vector<singleflight::outcome<std::string>> load_many(std::span<const int> ids) {
    const singleflight::permit turn = at_a_time_.acquire();
    return singleflight::retry(policy_, [&] { return breaker_.call([&] { return query(ids); }); });
  }
  std::vector<singleflight::outcome<std::string>> query(std::span<const int> ids) {
    if (++queries_ == 1) throw std::runtime_error("deadlock found, try again");
    return {ids.size(), {"somebody"}};
  }

  std::atomic<int> queries_{0};
  singleflight::semaphore at_a_time_{4};
  singleflight::circuit_breaker breaker_;
  singleflight::retry_policy policy_{.max_attempts = 3, .base = 1ms, .cap = 10ms};
  singleflight::batcher<int, std::string> batches_{
      [this](std::span<const int> ids) { return load_many(ids); },
      {.max_batch = 100, .max_delay = 20ms}};
  singleflight::group<int, std::string> users_;  // destroyed first: its loads use all of the above
};

}  // namespace

int main() {
  user_source users;
  std::atomic<int> found{0};
  std::vector<std::jthread> callers;
  for (int i = 0; i < 40; ++i) {
    callers.emplace_back([&, i] { found += users.find(i % 20) == "somebody"; });
  }
  callers.clear();
  return found == 40 && users.queries() >= 2 ? 0 : 1;
}
