// SPDX-License-Identifier: Apache-2.0

// A live_value under threads that read, reload, set, listen to and destroy it, all at the same
// time.
//
// The seed is printed; SINGLEFLIGHT_SEED repeats it, SINGLEFLIGHT_STRESS_MS sets the time box.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/stress.hpp"
#include <singleflight/cache/live_value.hpp>
#include <singleflight/core.hpp>

namespace {

namespace sf = singleflight;
using namespace std::chrono_literals;

/// A value that can tell whether its memory is intact.
struct page {
  std::uint64_t number = 0;
  std::string text;
  explicit page(std::uint64_t n) : number(n), text(std::to_string(n) + std::string(40, '.')) {}
  bool whole() const { return text.starts_with(std::to_string(number)) && text.size() > 40; }
};

/// Calls each of `bodies` again and again, with a generator, on its own thread.
template <class... Bodies>
void run_for(std::chrono::milliseconds time, std::uint64_t seed, Bodies... bodies) {
  std::atomic<bool> over{false};
  std::vector<std::jthread> threads;
  const auto start = [&](auto body) {
    threads.emplace_back([&over, body, random = std::mt19937_64(seed++)]() mutable {
      while (!over) body(random);
    });
  };
  (start(bodies), ...);
  std::this_thread::sleep_for(time);
  over = true;
}

// Goal    After a write and a reload, a thread reads the value that it wrote, or a later one; no
//         thread's reads go backwards; every handle's value is intact, whatever is reloaded
//         meanwhile.
TEST(live_value_stress, reads_against_reloads) {
  const std::uint64_t seed = support::new_seed();
  std::atomic<std::uint64_t> source{1};
  std::atomic<std::uint64_t> wrong{0};
  sf::live_value<page> live([&] { return page(source); }, {.reload_every = 1ms});

  const auto read = [&, kept = std::vector<sf::live_snapshot<page>>{},
                     last = std::uint64_t{0}](auto& random) mutable {
    auto now = live.get();
    if (!now->whole() || now.version() < last) ++wrong;
    last = now.version();
    if (random() % 8 == 0) kept.push_back(random() % 2 == 0 ? now : std::move(now));
    if (kept.size() > 9) {
      for (const auto& one : kept) {
        if (!one->whole()) ++wrong;
      }
      kept.erase(kept.begin(), kept.begin() + static_cast<std::ptrdiff_t>(random() % 9));
    }
  };
  const auto write = [&](auto& random) {
    const std::uint64_t mine = ++source;
    if (random() % 2 == 0) {
      live.reload();
    } else {
      auto reload = live.start_reload();
      reload.get();
    }
    if (live.get()->number < mine) ++wrong;
  };
  run_for(support::time_box(), seed, read, read, write, write, write);
  EXPECT_EQ(wrong, 0U);
  EXPECT_GT(live.stats().version, 10U);
}

// Goal    Concurrently with sets, reloads that fail, and listeners that are added and removed, a
//         lasting listener is called for every version, one after the other, and a removed one is
//         not called after its end.
TEST(live_value_stress, listeners_against_changes) {
  const std::uint64_t seed = support::new_seed();
  std::atomic<std::uint64_t> source{1};
  std::atomic<std::uint64_t> wrong{0};
  std::uint64_t calls = 0;
  {
    sf::live_value<page> live(
        [&] {
          const std::uint64_t now = ++source;
          if (now % 16 == 0) throw std::runtime_error("one in 16");
          return page(now);
        },
        {.reload_every = 1ms, .retry_after = 100us});
    std::atomic<std::uint64_t> last{live.get()->number};
    const auto stays = live.on_change([&](const page& before, const page& now) {
      if (!before.whole() || !now.whole() || before.number != last) ++wrong;
      last = now.number;
      ++calls;
    });
    const auto set = [&](auto& random) {
      live.set(page(++source));
      if (random() % 4 == 0) std::this_thread::yield();
    };
    const auto reload = [&](auto&) {
      try {
        live.reload();
      } catch (const std::runtime_error&) {
      }
    };
    const auto listen = [&](auto& random) {
      std::atomic<bool> ended{false};
      sf::subscription own;
      own = live.on_change([&](const page&, const page& now) {
        if (ended || !now.whole()) ++wrong;
      });
      for (std::uint64_t i = random() % 64; i > 0; --i) std::this_thread::yield();
      own.end();
      ended = true;
    };
    run_for(support::time_box(), seed, set, reload, reload, listen, listen);
    support::eventually([&] { return last == live.get()->number; }, "the last change");
  }
  EXPECT_EQ(wrong, 0U);
  EXPECT_GE(calls, 10U);
}

// Goal    Values are destroyed while their schedule, loads and listeners run: nothing happens after
//         the destructor.
TEST(live_value_stress, the_end) {
  const std::uint64_t seed = support::new_seed();
  const auto live_and_die = [](auto& random) {
    std::atomic<bool> over{false};
    std::atomic<std::uint64_t> late{0};
    std::uint64_t number = 0;
    sf::subscription outlives;
    {
      sf::live_value<page> live(
          [&] {
            if (over) ++late;
            return page(++number);
          },
          {.reload_every = 20us, .on_error = [&](const std::exception_ptr&) { ++late; }});
      outlives = live.on_change([&](const page&, const page&) {
        if (over) ++late;
      });
      live.start_reload().detach();
      for (std::uint64_t i = random() % 256; i > 0; --i) {
        if (live.get()->number == 0) ++late;
      }
      if (random() % 2 == 0) outlives.end();
    }
    over = true;
    EXPECT_EQ(late, 0U);
  };
  run_for(support::time_box(), seed, live_and_die, live_and_die);
}

}  // namespace
