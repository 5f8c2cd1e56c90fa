// SPDX-License-Identifier: Apache-2.0

// The removal listener is called once per entry, with the cause, and with no lock held.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "support/cache.hpp"
#include "support/executors.hpp"
#include <singleflight/cache.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::cache_options;
using singleflight::inline_executor;
using singleflight::loading_cache;
using singleflight::manual_timer;
using singleflight::removal_cause;
using support::living;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr int no_value = -12345;
using removal = std::tuple<int, int, removal_cause>;
using removals = std::vector<removal>;

/// Options with a listener that records removals in `to`.
cache_options<int, int> recording(removals& to, cache_options<int, int> how = {}) {
  how.on_removal = [&to](int k, const int* v, removal_cause cause) {
    to.emplace_back(k, v != nullptr ? *v : no_value, cause);
  };
  return how;
}
removals taken(removals& from) { return std::exchange(from, {}); }

// Goal    Every way in which an entry leaves the cache is reported once, with its cause.
TEST(removal, causes) {  // Scenario 37
  manual_timer time;
  removals removed;
  int n = 0;
  loading_cache<int, int> cache(
      [&](int) { return ++n; },
      recording(removed,
                {.ttl = 10s, .jitter = 0, .group = {.executor = inline_executor, .timer = &time}}));
  cache.get(1);
  cache.get(2);
  cache.get(3);
  EXPECT_THAT(taken(removed), IsEmpty());
  cache.invalidate(1);
  EXPECT_THAT(taken(removed), ElementsAre(removal(1, 1, removal_cause::invalidated)));
  cache.invalidate(1);
  EXPECT_THAT(taken(removed), IsEmpty());
  cache.put(2, 20);
  EXPECT_THAT(taken(removed), ElementsAre(removal(2, 2, removal_cause::replaced)));
  cache.refresh(2);
  EXPECT_THAT(taken(removed), ElementsAre(removal(2, 20, removal_cause::replaced)));
  cache.invalidate_if([](int k) { return k == 3; });
  EXPECT_THAT(taken(removed), ElementsAre(removal(3, 3, removal_cause::invalidated)));
  cache.get(5);
  cache.clear();
  EXPECT_THAT(taken(removed), UnorderedElementsAre(removal(2, 4, removal_cause::invalidated),
                                                   removal(5, 5, removal_cause::invalidated)));
  cache.clear();
  EXPECT_THAT(taken(removed), IsEmpty());
}

// Goal    An expired entry is reported as expired, even if a new answer removes it.
TEST(removal, expired_by_its_successor) {
  manual_timer time;
  removals removed;
  // ttl_of, and no sweep within this time.
  loading_cache<int, int> cache(
      [](int k) { return k; },
      recording(removed, {.capacity = 1,
                          .ttl_of = [](int, int) { return std::chrono::milliseconds(100); },
                          .jitter = 0,
                          .group = {.timer = &time}}));
  cache.get(1);
  time.advance(200ms);
  cache.get(1);
  EXPECT_THAT(taken(removed), ElementsAre(removal(1, 1, removal_cause::expired)));
  cache.put(1, 5);
  EXPECT_THAT(taken(removed), ElementsAre(removal(1, 1, removal_cause::replaced)));
  time.advance(200ms);
  cache.get(2);
  EXPECT_THAT(taken(removed), ElementsAre(removal(1, 5, removal_cause::expired)))
      << "evicted, but already expired";
  cache.get(3);
  EXPECT_THAT(taken(removed), ElementsAre(removal(2, 2, removal_cause::evicted)));
}

// Goal    The same where the answer is not stored, and only removes the old entry.
TEST(removal, expired_by_an_answer_that_is_not_kept) {
  manual_timer time;
  removals removed;
  std::chrono::milliseconds own{100};
  loading_cache<int, int> cache(
      [](int k) { return k; },
      recording(removed,
                {.ttl_of = [&](int, int) { return own; }, .jitter = 0, .group = {.timer = &time}}));
  cache.get(1);
  time.advance(200ms);
  own = 0ms;
  cache.get(1);
  EXPECT_THAT(taken(removed), ElementsAre(removal(1, 1, removal_cause::expired)));
}

// Goal    Absences and errors are reported without a value.
TEST(removal, without_a_value) {
  manual_timer time;
  removals removed;
  loading_cache<int, int> cache(
      [](int k) -> std::optional<int> {
        if (k < 0) throw std::runtime_error("no");
        return std::nullopt;
      },
      recording(removed, {.negative_ttl = 1h, .error_ttl = 1h, .group = {.timer = &time}}));
  cache.get(1);
  EXPECT_THROW(cache.get(-1), std::runtime_error);
  cache.put(1, 11);
  cache.invalidate(-1);
  EXPECT_THAT(taken(removed), ElementsAre(removal(1, no_value, removal_cause::replaced),
                                          removal(-1, no_value, removal_cause::invalidated)));
}

// Goal    A value that was never stored is not reported; the entry that was stored for its key is.
TEST(removal, what_was_not_stored) {
  removals removed;
  loading_cache<int, int> cache([](int k) { return k; },
                                recording(removed, {.capacity = 10, .weigher = [](int, int v) {
                                                      return static_cast<std::size_t>(v);
                                                    }}));
  EXPECT_EQ(*cache.get(11), 11);
  EXPECT_THAT(taken(removed), IsEmpty());
  cache.put(1, 5);
  cache.put(1, 50);
  EXPECT_THAT(taken(removed), ElementsAre(removal(1, 5, removal_cause::replaced)));
  EXPECT_EQ(cache.stats().entries, 0U);
}

// Goal    The listener is not called for entries that remain when the cache is destroyed.
TEST(removal, not_at_the_end) {
  removals removed;
  {
    loading_cache<int, int> cache([](int k) { return k; }, recording(removed));
    cache.get(1);
  }
  EXPECT_THAT(removed, IsEmpty());
}

// Goal    The listener is called with no lock held: it may use the cache in every way, and its own
//         removals are reported as well.
TEST(removal, the_listener_may_use_the_cache) {
  loading_cache<int, int>* self = nullptr;
  std::map<int, int> calls;
  loading_cache<int, int> cache([](int k) { return k; },
                                {.capacity = 100,
                                 .on_removal =
                                     [&](int k, const int* v, removal_cause cause) {
                                       EXPECT_EQ(*v, k);
                                       ++calls[k];
                                       if (cause == removal_cause::evicted && k < 1000)
                                         self->put(k + 1000, k + 1000);
                                       self->find(k);
                                       self->invalidate(k + 5000);
                                       self->policy().explain(k);
                                       self->stats();
                                       if (k == 77)
                                         self->invalidate_if([](int other) { return other == 78; });
                                       if (k == 99) self->clear();
                                     },
                                 .group = {.executor = inline_executor}});
  self = &cache;
  for (int k = 0; k < 300; ++k) EXPECT_EQ(*cache.get(k), k);
  cache.clear();
  std::size_t all = 0;
  for (const auto& [k, times] : calls) all += static_cast<std::size_t>(times);
  const auto s = cache.stats();
  EXPECT_EQ(all, s.evicted + s.invalidated + s.replaced + s.expired);
  EXPECT_EQ(s.entries, 0U);
}

// Goal    When threads store, replace, remove and clear at the same time, every entry that was
//         stored and is not stored any more was reported exactly once.
// Method  Every value is a different number.
TEST(removal, exactly_once) {  // Scenario 37
  constexpr int threads = 4;
  constexpr int rounds = 3000;
  std::vector<std::atomic<int>> calls(threads * rounds + 1);
  std::atomic<int> next{0};
  loading_cache<int, int> cache(
      [&](int) { return ++next; },
      {.capacity = 16, .on_removal = [&](int, const int* v, removal_cause) {
         ++calls.at(static_cast<std::size_t>(*v));
       }});
  {
    std::vector<std::jthread> all;
    for (int t = 0; t < threads; ++t) {
      all.emplace_back([&, t] {
        for (int i = 0; i < rounds; ++i) {
          const int k = (i * 7 + t * 13) % 40;
          if (i % 3 == 0) {
            cache.put(k, ++next);
          } else {
            cache.get(k);
          }
          if (i % 5 == 0) cache.invalidate(k);
          if (i % 501 == 0) cache.clear();
          if (i % 300 == 0) cache.invalidate_if([](int other) { return other % 2 == 0; });
        }
      });
    }
  }
  cache.clear();
  const auto s = cache.stats();
  EXPECT_EQ(s.entries, 0U);
  std::uint64_t sum = 0;
  for (std::size_t v = 0; v < calls.size(); ++v) {
    ASSERT_LE(calls[v], 1) << v;
    sum += static_cast<std::uint64_t>(calls[v]);
  }
  EXPECT_EQ(sum, s.evicted + s.invalidated + s.replaced);
  EXPECT_EQ(sum + s.not_stored, static_cast<std::uint64_t>(next));
}

/// A cache with a hundred values, whose end an executor gets.
template <class Executor>
void make_and_end(const Executor& end,
                  std::optional<singleflight::cached<living>>* keep = nullptr) {
  loading_cache<int, living> cache([](int n) { return living(n); },
                                   {.capacity = 100, .free_on = end});
  for (int k = 0; k < 150; ++k) cache.get(k);  // some are evicted
  if (keep != nullptr) keep->emplace(cache.get(149));
}

// Goal    With `free_on`, the destructor leaves the entries to one task; they are freed when it
//         runs, or is dropped, at once if the executor refuses it. A handle outlives all of this.
TEST(removal, entries_that_are_left_are_freed_by_a_task) {
  support::manual_executor end;
  std::optional<singleflight::cached<living>> held;
  make_and_end(end, &held);
  EXPECT_EQ(end.size(), 1U);
  EXPECT_GE(living::alive, 100);
  EXPECT_TRUE(end.run_one());
  EXPECT_EQ(living::alive, 1);
  EXPECT_EQ((*held)->read(), 149);
  held.reset();
  EXPECT_EQ(living::alive, 0);
  make_and_end(end);
  EXPECT_GE(living::alive, 100);
  EXPECT_TRUE(end.drop_one());
  EXPECT_EQ(living::alive, 0);
  make_and_end(support::dropping_executor());
  EXPECT_EQ(living::alive, 0);
  make_and_end(support::refusing_executor());
  EXPECT_EQ(living::alive, 0);
}

// Goal    Very many entries that leave at once are all freed, but for those that are held.
TEST(removal, very_many_entries_leave_at_once) {
  std::vector<singleflight::cached<living>> held;
  loading_cache<int, living> cache([](int n) { return living(n); }, {.capacity = 20'000});
  for (int k = 0; k < 20'000; ++k) {
    auto one = cache.get(k);
    if (k % 1999 == 0) held.push_back(std::move(one));
  }
  const long before = living::alive;
  EXPECT_GE(before, 20'000);
  cache.clear();
  EXPECT_EQ(living::alive, static_cast<long>(held.size()));
  for (std::size_t i = 0; i < held.size(); ++i) {
    EXPECT_EQ(held[i]->read(), static_cast<int>(i) * 1999);
  }
  held.clear();
  EXPECT_EQ(living::alive, 0);
}

}  // namespace
