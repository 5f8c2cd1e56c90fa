// SPDX-License-Identifier: Apache-2.0

// A handle from a cache keeps its value alive: through eviction, clearing and the cache's
// destruction, and across threads. Each value is destroyed once, when no handle holds it any more.

#include "singleflight/cache/cached.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "support/cache.hpp"
#include "support/gate.hpp"
#include <singleflight/cache.hpp>

namespace {

using singleflight::cached;
using singleflight::loading_cache;
using singleflight::detail::hazard_domain;
using singleflight::detail::this_hazard_record;
using support::gate;
using support::in_thread;
using support::living;
using cache_type = loading_cache<int, living>;
using handle = cached<living>;

cache_type make(std::size_t capacity = 1000) {
  return cache_type([](int k) { return living(k); }, {.capacity = capacity});
}
handle hit(cache_type& cache, int k) {
  cache.get(k);
  return *cache.find(k);  // uses a slot, as long as one is free
}
/// A value that was held by an emptied slot is freed by the next reclaiming thread.
void expect_alive(long count) {
  hazard_domain::instance().reclaim(nullptr);
  EXPECT_EQ(living::alive, count);
}

// Goal    A handle keeps its value alive through everything that removes the entry from the cache;
//         the last handle destroys it, at once or with the next change of a cache.
TEST(cached, outlives_its_entry) {
  std::optional<cache_type> cache;
  cache.emplace([](int k) { return living(k); }, cache_type::options{.capacity = 1});
  std::optional<handle> evicted = hit(*cache, 1);
  cache->get(100);
  EXPECT_FALSE(cache->find(1));
  std::optional<handle> invalidated = hit(*cache, 2);
  cache->invalidate(2);
  std::optional<handle> replaced = hit(*cache, 3);
  cache->put(3, living(33));
  std::optional<handle> cleared = hit(*cache, 4);
  cache->clear();
  std::optional<handle> counted = cache->get(6);  // from its own load
  std::optional<handle> outlives = hit(*cache, 5);
  EXPECT_EQ((*evicted)->read(), 1);
  EXPECT_EQ((*invalidated)->read(), 2);
  EXPECT_EQ((*replaced)->read(), 3);
  EXPECT_EQ((*cleared)->read(), 4);
  cache.reset();
  EXPECT_EQ((*evicted)->read(), 1);
  EXPECT_EQ((*invalidated)->read(), 2);
  EXPECT_EQ((*replaced)->read(), 3);
  EXPECT_EQ((*cleared)->read(), 4);
  EXPECT_EQ((*outlives)->read(), 5);
  EXPECT_EQ((*counted)->read(), 6);
  EXPECT_EQ(living::alive, 6) << "only the held values must be alive";
  evicted.reset();
  EXPECT_EQ(living::alive, 5) << "a removed value must be destroyed at once";
  invalidated.reset();
  replaced.reset();
  cleared.reset();
  outlives.reset();
  counted.reset();
  EXPECT_EQ(living::alive, 0);
}

// Goal    A thread may hold any number of handles at a time; those beyond its slots are counted by
//         reference, and a freed slot is reused.
TEST(cached, more_than_a_thread_has_slots) {
  {
    auto cache = make();
    std::vector<handle> held;
    for (int k = 0; k < 100; ++k) held.push_back(hit(cache, k));
    EXPECT_EQ(this_hazard_record()->free_handle(), nullptr);
    cache.clear();
    for (int k = 0; k < 100; ++k) EXPECT_EQ(held[static_cast<std::size_t>(k)]->read(), k);
    held.erase(held.begin(), held.begin() + 6);
    EXPECT_NE(this_hazard_record()->free_handle(), nullptr);
    const auto again = hit(cache, 5);
    EXPECT_EQ(again->read(), 5);
    held.clear();
  }
  expect_alive(0);
}

// Goal    Copies, moves and assignments, even to itself: each handle keeps its own share.
TEST(cached, copies_and_moves) {
  {
    auto cache = make();
    handle a = hit(cache, 1);
    handle b = a;
    const handle c = std::move(a);
    cache.clear();
    EXPECT_EQ(b->read(), 1);
    EXPECT_EQ(c->read(), 1);
    handle d = hit(cache, 2);
    d = b;
    EXPECT_EQ(d->read(), 1);
    b = hit(cache, 3);
    EXPECT_EQ(b->read(), 3);
    handle& same = b;
    b = same;
    EXPECT_EQ(b->read(), 3);
    b = std::move(same);
    EXPECT_EQ(b->read(), 3);
    std::swap(b, d);
    EXPECT_EQ(b->read(), 1);
    EXPECT_EQ(d->read(), 3);
    cache.clear();
    a = d;
    EXPECT_EQ(a->read(), 3);
    std::vector<handle> many(500, d);
    many.erase(many.begin(), many.begin() + 250);
    EXPECT_EQ(many.back()->read(), 3);
  }
  expect_alive(0);
}

// Goal    share() keeps the value alive like a shared_ptr, and frees the slot.
TEST(cached, share) {
  std::shared_ptr<const living> kept;
  {
    auto cache = make();
    handle h = hit(cache, 1);
    EXPECT_EQ(this_hazard_record()->free_handle(), &this_hazard_record()->slots[1]);
    const living* const at = &*h;
    kept = std::move(h).share();
    EXPECT_EQ(kept.get(), at);
    EXPECT_EQ(this_hazard_record()->free_handle(), &this_hazard_record()->slots[0]);
    auto of_a_load = cache.get(2).share();
    EXPECT_EQ(of_a_load->read(), 2);
    cache.clear();
  }
  EXPECT_EQ(kept->read(), 1);
  expect_alive(1);
  kept.reset();
  expect_alive(0);
}

// Goal    A handle may move to another thread and be destroyed there, while its own thread
//         continues or has ended; the slot is then usable by its own thread again.
TEST(cached, to_another_thread) {
  {
    auto cache = make();
    handle mine = hit(cache, 1);
    in_thread([h = std::move(mine), &cache]() mutable {
      cache.clear();
      EXPECT_EQ(h->read(), 1);
      const handle here = std::move(h);
      EXPECT_EQ(here->read(), 1);
    }).get();
    EXPECT_EQ(this_hazard_record()->free_handle(), &this_hazard_record()->slots[0]);
    std::vector<handle> back;
    std::thread([&] {
      for (int k = 10; k < 20; ++k) back.push_back(hit(cache, k));
    }).join();
    // The record has a new owner now, which must not use the slots that are held.
    std::thread([&] {
      std::vector<handle> own;
      for (int k = 20; k < 30; ++k) own.push_back(hit(cache, k));
      cache.clear();
      for (int k = 20; k < 30; ++k) EXPECT_EQ(own[static_cast<std::size_t>(k) - 20]->read(), k);
    }).join();
    for (int k = 10; k < 20; ++k) EXPECT_EQ(back[static_cast<std::size_t>(k) - 10]->read(), k);
  }
  expect_alive(0);
}

// Goal    A hit at the very end of a thread, after the thread has released its slots, works.
TEST(cached, at_the_end_of_a_thread) {
  {
    auto cache = make();
    cache.get(1);
    static cache_type* used = nullptr;
    static std::atomic<int> seen{0};
    used = &cache;
    struct late {
      ~late() {
        const handle h = used->get(1);
        std::vector<handle> more;
        for (int k = 1; k < 20; ++k) more.push_back(used->get(k));
        used->invalidate(1);
        seen = h->read();
      }
    };
    std::thread([] {
      thread_local late at_end;  // made before the slots: it is destroyed after them
      (void)&at_end;
      (void)used->get(1);
    }).join();
    EXPECT_EQ(seen, 1);
  }
  expect_alive(0);
}

// Goal    The destructor of a value may use the cache.
TEST(cached, a_destructor_that_uses_the_cache) {
  struct asking {
    loading_cache<int, asking>** cache;
    int key;
    living alive;
    asking(loading_cache<int, asking>** c, int k) : cache(c), key(k), alive(k) {}
    asking(asking&& other) noexcept
        : cache(std::exchange(other.cache, nullptr)), key(other.key), alive(other.key) {}
    ~asking() {
      if (cache == nullptr || *cache == nullptr) return;
      (*cache)->find(key + 1);
      (*cache)->invalidate(key + 2);
    }
  };
  {
    loading_cache<int, asking>* self = nullptr;
    loading_cache<int, asking> cache([&](int k) { return asking(&self, k); }, {.capacity = 50});
    self = &cache;
    std::deque<cached<asking>> held;
    for (int k = 0; k < 2000; ++k) {
      held.push_back(cache.get(k));
      if (auto found = cache.find(k / 2)) held.push_back(*std::move(found));
      while (held.size() > 20) held.pop_front();
    }
    held.clear();
    cache.clear();
    self = nullptr;
  }
  expect_alive(0);
}

// Goal    Handles are created and destroyed on several threads, some passed to other threads,
//         concurrently with evictions: no value is destroyed before its last handle, and each one
//         exactly once.
// Method  A value can tell whether it is intact, and all values are counted.
TEST(cached, concurrent_with_evictions) {
  {
    auto cache = make(20);
    std::mutex lock;
    std::vector<handle> passed;
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(t);
        std::deque<handle> held;
        for (int i = 0; i < 10'000; ++i) {
          const int k = static_cast<int>(random() % 60);
          held.push_back(cache.get(k));
          ASSERT_EQ(held.back()->read(), k);
          if (random() % 4 == 0) held.push_back(held[random() % held.size()]);
          if (random() % 8 == 0) {
            const std::lock_guard hold(lock);
            if (!passed.empty() && random() % 2 == 0) {
              held.push_back(std::move(passed.back()));
              passed.pop_back();
            } else {
              passed.push_back(std::move(held.front()));
              held.pop_front();
            }
          }
          if (random() % 64 == 0) cache.invalidate(k);
          for (const handle& h : held) ASSERT_NE(h->read(), living::dead);
          while (held.size() > random() % 12) held.pop_front();
        }
      });
    }
    threads.clear();
    for (const handle& h : passed) ASSERT_NE(h->read(), living::dead);
    EXPECT_LE(living::alive, static_cast<long>(20 + passed.size() + 256));
  }
  expect_alive(0);
}

}  // namespace
