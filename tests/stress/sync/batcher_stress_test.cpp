// SPDX-License-Identifier: Apache-2.0

// Callers of every form on a few keys of one batcher, on threads of its pool and on others, with
// and without limits, while its loader succeeds, throws, and returns a result of the wrong size.
// Each call records when it began, when it had its outcome, and which load that came from. Then:
// every call has exactly one outcome, that of its own key (P4)
// no call gets an answer that another call got before it began (P3)
// no batch has a key twice or too many keys, and no more than max_in_flight run at a time
// The seed is printed; SINGLEFLIGHT_SEED repeats it, SINGLEFLIGHT_STRESS_MS sets the time box.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/task.hpp"
#include <singleflight/sync/batcher.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::as_outcome;
using singleflight::flight_errc;

constexpr int keys = 6;
constexpr int callers = 5;

/// The result of a load: the load's number, and the key.
struct stamp {
  std::uint64_t load;
  int key;
};
struct failure : std::runtime_error {
  explicit failure(std::uint64_t of) : std::runtime_error("load failed"), load(of) {}
  std::uint64_t load;
};

using batcher = singleflight::batcher<int, stamp>;
using call_outcome = singleflight::outcome<singleflight::shared_result<stamp>>;

struct settings {
  const char* name;
  std::size_t max_batch = 3;
  std::chrono::microseconds max_delay{0};
  std::size_t max_in_flight = 1;
  std::size_t max_keys = 0;
  bool inline_batches = false;
};

class storm {
 public:
  storm(const settings& how, std::uint64_t seed)
      : how_(how),
        seed_(seed),
        pool_({.max_threads = 3}),
        batcher_([this](std::span<const int> all) { return load(all); },
                 {.max_batch = how.max_batch,
                  .max_delay = how.max_delay,
                  .max_in_flight = how.max_in_flight,
                  .max_keys = how.max_keys,
                  .executor = how.inline_batches
                                  ? singleflight::any_executor(singleflight::inline_executor)
                                  : singleflight::any_executor(pool_)}) {}

  void blow(std::chrono::milliseconds box) {
    const auto until = std::chrono::steady_clock::now() + box;
    {
      std::vector<std::jthread> all;
      for (std::uint64_t i = 0; i < callers; ++i) {
        all.emplace_back([this, i, until] {
          std::mt19937_64 random(seed_ + i);
          while (std::chrono::steady_clock::now() < until) step(random);
        });
      }
    }
    support::eventually([this] { return open_.load() == 0; }, "the outcomes of all calls");
    EXPECT_TRUE(batcher_.in_flight().empty());
    EXPECT_LE(most_running_.load(), static_cast<int>(how_.max_in_flight));
    check();
    const auto s = batcher_.stats();
    EXPECT_EQ(s.batches, loads_.load());
    EXPECT_EQ(s.keys, loaded_keys_.load());
    EXPECT_EQ(s.batches, s.full + s.delayed + s.flushed);
    std::cout << "  " << s.calls << " calls, " << s.batches << " batches of " << s.keys << " keys, "
              << s.abandoned << " abandoned\n";
  }

 private:
  struct given {
    std::uint64_t load;
    int key;
    std::uint64_t began;
    std::uint64_t had;
  };

  std::vector<singleflight::outcome<stamp>> load(std::span<const int> all) {
    const std::uint64_t number = ++loads_;
    loaded_keys_ += all.size();
    const int running = ++running_;
    for (int seen = most_running_; seen < running;) {
      if (most_running_.compare_exchange_weak(seen, running)) break;
    }
    EXPECT_FALSE(all.empty());
    EXPECT_LE(all.size(), how_.max_batch);
    EXPECT_EQ(std::set<int>(all.begin(), all.end()).size(), all.size())
        << "a batch contains a key twice";
    std::mt19937_64 random(seed_ + number);
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(random() % 100);
    while (std::chrono::steady_clock::now() < until) {
    }
    --running_;
    if (random() % 16 == 0) throw failure(number);
    std::vector<singleflight::outcome<stamp>> values;
    for (const int key : all) values.emplace_back(stamp{number, key});
    if (random() % 32 == 0) values.pop_back();
    return values;
  }

  void record(int key, std::uint64_t began, const call_outcome& got) {
    const std::uint64_t had = ++clock_;
    std::uint64_t load = 0;
    if (got) {
      load = (*got)->load;
      EXPECT_EQ((*got)->key, key) << "got the value of another key";
    } else if (!got.errc()) {
      try {
        got.rethrow();
      } catch (const failure& e) {
        load = e.load;
      }
    }
    if (load != 0) {
      const std::lock_guard hold(lock_);
      given_.push_back({load, key, began, had});
    }
    --open_;
  }

  void step(std::mt19937_64& random) {
    const int key = static_cast<int>(random() % keys);
    const auto soon = std::chrono::steady_clock::now() + std::chrono::microseconds(random() % 300);
    switch (random() % 9) {
      case 0: blocks(key, {}); break;
      case 1: blocks(key, {.deadline = soon}); break;
      case 2: {  // on a thread of the pool: the call may run its batch itself
        if (++on_pool_ <= most_on_pool) {
          ++open_;
          pool_.execute(singleflight::task([this, key] {
            const std::uint64_t began = ++clock_;
            record(key, began, batcher_.load(as_outcome, key));
            --on_pool_;
          }));
        } else {
          --on_pool_;
        }
        break;
      }
      case 3: {
        const auto dropped = batcher_.start(key);
        break;
      }
      case 4: {
        ++open_;
        const std::uint64_t began = ++clock_;
        auto f = batcher_.start(key);
        std::move(f).on_ready(
            [this, key, began](const call_outcome& got) { record(key, began, got); });
        break;
      }
      case 5: awaits(*this, key, soon); break;
      case 6: awaits(*this, key, std::chrono::steady_clock::time_point::max()); break;
      case 7: batcher_.flush(); break;
      default: {
        const std::vector<int> some{key, (key + 1) % keys, key};
        const std::uint64_t began = ++clock_;
        open_ += 3;
        const auto all = batcher_.load_many(some, {.deadline = soon + 1s});
        for (std::size_t i = 0; i < some.size(); ++i) record(some[i], began, all[i]);
      }
    }
  }
  void blocks(int key, const singleflight::limits& bounds) {
    ++open_;
    const std::uint64_t began = ++clock_;
    record(key, began, batcher_.load(as_outcome, key, bounds));
  }
  static support::detached awaits(storm& s, int key,
                                  std::chrono::steady_clock::time_point deadline) {
    ++s.open_;
    const std::uint64_t began = ++s.clock_;
    auto f = s.batcher_.start(key);
    s.record(key, began, co_await f.until(deadline).as_outcome());
  }

  void check() {
    std::map<std::pair<std::uint64_t, int>, std::uint64_t> first;
    for (const given& g : given_) {
      const auto [at, fresh] = first.try_emplace({g.load, g.key}, g.had);
      if (!fresh) at->second = std::min(at->second, g.had);
    }
    std::size_t late = 0;
    for (const given& g : given_) {
      if (g.began > first[{g.load, g.key}]) ++late;
    }
    EXPECT_EQ(late, 0u) << "calls got an outcome that others had before they began (P3)";
    EXPECT_GT(given_.size(), 0u);
  }

  static constexpr int most_on_pool = 8;  // more than the pool has threads

  const settings how_;
  const std::uint64_t seed_;
  std::atomic<std::uint64_t> clock_{0};
  std::atomic<std::uint64_t> loads_{0};
  std::atomic<std::uint64_t> loaded_keys_{0};
  std::atomic<int> running_{0};
  std::atomic<int> most_running_{0};
  std::atomic<int> on_pool_{0};
  std::atomic<std::int64_t> open_{0};  // calls without an outcome
  std::mutex lock_;
  std::vector<given> given_;
  singleflight::thread_pool pool_;
  batcher batcher_;
};

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

class batcher_stress : public testing::TestWithParam<settings> {};

// Goal    P3 and P4, and the bounds of a batch, hold for every mix of callers.
// Method  See the head of this file.
TEST_P(batcher_stress, keeps_its_promises) {
  const std::uint64_t seed = number_from("SINGLEFLIGHT_SEED", std::random_device{}());
  std::cout << "  SINGLEFLIGHT_SEED=" << seed << '\n';
  storm(GetParam(), seed)
      .blow(std::chrono::milliseconds(number_from("SINGLEFLIGHT_STRESS_MS", 1500)));
}

// Goal    When batchers are destroyed while callers join, leave and wait, every handle gets its
//         outcome, and nothing is accessed afterwards.
TEST(batcher_stress, many_short_lives) {
  const std::uint64_t seed = number_from("SINGLEFLIGHT_SEED", std::random_device{}());
  std::cout << "  SINGLEFLIGHT_SEED=" << seed << '\n';
  std::mt19937_64 random(seed);
  singleflight::thread_pool pool({.max_threads = 2});
  const auto until = std::chrono::steady_clock::now() +
                     std::chrono::milliseconds(number_from("SINGLEFLIGHT_STRESS_MS", 1500));
  std::atomic<int> answered{0};
  int asked = 0;
  while (std::chrono::steady_clock::now() < until) {
    auto one = std::make_unique<batcher>(
        [](std::span<const int> all) {
          std::vector<singleflight::outcome<stamp>> values;
          for (const int key : all) values.emplace_back(stamp{1, key});
          return values;
        },
        singleflight::batcher_options{.max_batch = 1 + random() % 3,
                                      .max_delay = std::chrono::microseconds(random() % 3 * 20),
                                      .max_in_flight = 1 + random() % 2,
                                      .executor = pool});
    std::vector<singleflight::flight<stamp>> handles;
    for (int key = 0; key < 6; ++key) {
      auto f = one->start(key);
      if (random() % 4 == 0) {
        handles.push_back(std::move(f));
      } else if (random() % 2 == 0) {
        ++asked;
        pool.execute(singleflight::task(
            [&answered, h = std::make_shared<singleflight::flight<stamp>>(std::move(f))] {
              (void)h->get_outcome();
              ++answered;
            }));
      }
    }
    for (std::uint64_t turns = random() % 100; turns > 0; --turns) std::this_thread::yield();
    one.reset();
    for (auto& f : handles) {
      const call_outcome got = f.get_outcome();
      EXPECT_TRUE(got || got.errc() == flight_errc::closed);
    }
  }
  support::eventually([&] { return answered == asked; }, "the outcomes of all handles");
}

INSTANTIATE_TEST_SUITE_P(
    all, batcher_stress,
    testing::Values(
        settings{.name = "one_place"},
        settings{.name = "single_keys", .max_batch = 1, .max_in_flight = 2},
        settings{.name = "delayed", .max_delay = 100us},
        settings{.name = "delayed_places", .max_batch = 4, .max_delay = 50us, .max_in_flight = 3},
        settings{.name = "bounded", .max_delay = 20us, .max_keys = 3},
        settings{.name = "inline_executor", .max_delay = 50us, .inline_batches = true}),
    [](const testing::TestParamInfo<settings>& each) { return std::string(each.param.name); });

}  // namespace
