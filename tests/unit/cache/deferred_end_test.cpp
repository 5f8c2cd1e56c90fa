// SPDX-License-Identifier: Apache-2.0

// Where values that have left a cache are destroyed, if they own something that waits for loads.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/cache.hpp"
#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/cache.hpp>
#include <singleflight/sync.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::batcher;
using singleflight::flight_promise;
using singleflight::group;
using singleflight::live_value;
using singleflight::loading_cache;
using singleflight::manual_timer;
using singleflight::outcome;
using singleflight::removal_cause;
using support::eventually;
using support::gate;
using support::in_thread;
using support::living;

/// An object whose destructor waits for a load that it has started.
struct tenant {
  virtual ~tenant() = default;
  /// Starts a load that calls `within` on a thread of the library, and does not wait for it.
  virtual void load(std::function<void()> within) = 0;
};
struct cache_tenant final : tenant {
  void load(std::function<void()> within) override {
    do_it = std::move(within);
    all.refresh(1);
  }
  std::function<void()> do_it;
  loading_cache<int, int> all{[this](int key) {
    do_it();
    return key;
  }};
};
struct group_tenant final : tenant {
  void load(std::function<void()> within) override {
    all.start(1,
              [within] {
                within();
                return 1;
              })
        .detach();
  }
  group<int, int> all;
};
struct live_tenant final : tenant {
  void load(std::function<void()> within) override {
    do_it = std::move(within);
    value.start_reload().detach();
  }
  std::function<void()> do_it;
  live_value<int> value{[this] {
                          do_it();
                          return 2;
                        },
                        {.initial = 1}};
};
struct listener_tenant final : tenant {
  void load(std::function<void()> within) override {
    listens = value.on_change([within](int, int) { within(); });
    value.set(2);
  }
  live_value<int> value{[] { return 1; }};
  singleflight::subscription listens;
};
struct batcher_tenant final : tenant {
  void load(std::function<void()> within) override {
    do_it = std::move(within);
    all.start(1).detach();
  }
  std::function<void()> do_it;
  batcher<int, int> all{[this](std::span<const int> keys) {
                          do_it();
                          return std::vector<outcome<int>>(keys.begin(), keys.end());
                        },
                        {.max_batch = 1}};
};

using tenants = loading_cache<int, std::unique_ptr<tenant>>;
using make_tenant = std::function<std::unique_ptr<tenant>()>;
template <class T>
std::pair<std::string, make_tenant> kind_of(const char* name) {
  return {name, [] { return std::make_unique<T>(); }};
}
const std::pair<std::string, make_tenant> kinds[] = {
    kind_of<cache_tenant>("a cache"),     kind_of<group_tenant>("a group"),
    kind_of<live_tenant>("a live_value"), kind_of<listener_tenant>("a live_value that tells"),
    kind_of<batcher_tenant>("a batcher"),
};

struct change {
  const char* name;
  std::function<void(tenants&)> make;
};
const change changes[] = {
    {"get",
     [](tenants& all) {
       for (int i = 100; i < 400; ++i) (void)all.get(i);
     }},
    {"start_get",
     [](tenants& all) {
       for (int i = 100; i < 400; ++i) (void)all.start_get(i).get();
     }},
    {"get_all",
     [](tenants& all) {
       std::vector<int> keys;
       for (int i = 100; i < 400; ++i) keys.push_back(i);
       (void)all.get_all(keys);
     }},
    {"put",
     [](tenants& all) {
       for (int i = 100; i < 400; ++i) all.put(i, std::unique_ptr<tenant>());
     }},
    {"clear", [](tenants& all) { all.clear(); }},
    {"invalidate_if", [](tenants& all) { (void)all.invalidate_if([](int) { return true; }); }},
    {"another cache's end",
     [](tenants&) {
       tenants other([](int) { return nullptr; });
       (void)other.get(1);
     }},
};

// Goal    A removed value is not destroyed within the load that its destructor waits for, whichever
//         call of that load would free it (scenario 53).
// Method  The tenant is removed while its load runs; the load then changes the cache that held it.
TEST(deferred_end, a_load_frees_what_waits_for_it_elsewhere) {
  for (const auto& [name, make] : kinds) {
    for (const change& how : changes) {
      SCOPED_TRACE(name + ", " + how.name);
      gate loading;
      gate removed;
      gate done;
      std::atomic<bool> first{true};
      tenants all([&](int key) { return key == 1 ? make() : std::unique_ptr<tenant>(); },
                  {.capacity = 100});
      (*all.get(1))->load([&] {
        if (!first.exchange(false)) return;
        loading.open();
        removed.wait();
        how.make(all);
        done.open();
      });
      loading.wait();
      (void)all.invalidate(1);
      removed.open();
      done.wait();
    }
  }
}

// Goal    The same where the load itself holds the last handle and drops it.
TEST(deferred_end, a_load_drops_the_last_handle) {
  for (const auto& [name, make] : kinds) {
    SCOPED_TRACE(name);
    gate removed;
    gate done;
    std::atomic<bool> first{true};
    tenants all([&](int) { return make(); });
    auto held = std::make_shared<std::optional<tenants::result>>(all.get(1));
    auto copy = std::make_shared<std::optional<tenants::result>>(**held);  // ref-counted
    (**held).value()->load([&, held, copy] {
      if (!first.exchange(false)) return;
      removed.wait();
      held->reset();
      copy->reset();
      done.open();
    });
    held.reset();
    copy.reset();
    (void)all.invalidate(1);
    removed.open();
    done.wait();
  }
}

// Goal    The same for a load that is a coroutine, resumed on a thread that the library does not
//         know.
TEST(deferred_end, a_coroutine_that_foreign_code_resumes) {
  using inner = loading_cache<int, int>;
  for (const change& how : changes) {
    SCOPED_TRACE(how.name);
    support::suspension elsewhere;
    std::atomic<bool> over{false};
    tenants others([](int) { return nullptr; }, {.capacity = 100});
    loading_cache<int, std::unique_ptr<inner>> all(
        [&](int) {
          return std::make_unique<inner>([&](int key) -> support::lazy<int> {
            co_await elsewhere;
            how.make(others);
            all.clear();
            for (int i = 100; i < 130; ++i) all.put(i, nullptr);
            over = true;
            co_return key;
          });
        },
        {.capacity = 10});
    (*all.get(1))->refresh(1);
    eventually([&] { return elsewhere.taken(); }, "the load's suspension");
    (void)all.invalidate(1);
    in_thread([&] { elsewhere.resume(); }).get();
    EXPECT_TRUE(over);
  }
}

// Goal    The same for a load that is answered by a promise, on a thread that the library does not
//         know.
TEST(deferred_end, a_promise_that_foreign_code_answers) {
  struct answers_elsewhere {
    explicit answers_elsewhere(std::function<void()> before) : within(std::move(before)) {}
    void start() {
      all.start(1,
                [this](flight_promise<int> promise) {
                  thread = std::jthread([this, p = std::move(promise)]() mutable {
                    within();
                    p.set_value(1);
                  });
                })
          .detach();
    }
    std::function<void()> within;
    std::jthread thread;  // destroyed last: the group waits for its answer
    group<int, int> all;
  };
  for (const change& how : changes) {
    SCOPED_TRACE(how.name);
    gate loading;
    gate removed;
    gate over;
    tenants others([](int) { return nullptr; }, {.capacity = 100});
    loading_cache<int, std::unique_ptr<answers_elsewhere>> all(
        [&](int) {
          return std::make_unique<answers_elsewhere>([&] {
            loading.open();
            removed.wait();
            how.make(others);
            all.clear();
            for (int i = 100; i < 130; ++i) all.put(i, nullptr);
            over.open();
          });
        },
        {.capacity = 10});
    (*all.get(1))->start();
    loading.wait();
    (void)all.invalidate(1);
    removed.open();
    over.wait();
  }
}

// Goal    No value waits forever to be destroyed: values removed within loads of this thread are
//         freed when the outermost load ends, those removed within other threads' loads by the
//         pool.
TEST(deferred_end, everything_is_freed) {
  {
    loading_cache<int, living>* self = nullptr;
    loading_cache<int, living> cache(
        [&](int k) {
          if (k == 0) {
            for (int i = 1; i <= 5000; ++i) (void)self->get(i);
          }
          return living(k);
        },
        {.capacity = 10});
    self = &cache;
    (void)cache.get(0);
    eventually([] { return living::alive <= 10 + 16; },
               "the pool to have freed the removed values");
    for (int i = 1; i <= 5000; ++i) cache.refresh(i);
    eventually([&] { return cache.stats().refreshes == 5000; }, "the refreshes");
    eventually([] { return living::alive <= 10 + 16; },
               "the pool to have freed the removed values");
    for (int i = 1; i <= 100; ++i) {
      (void)cache.get(i);
      ASSERT_LE(living::alive, 10 + 16) << "a call has not freed the value that it evicted";
    }
  }
  eventually([] { return living::alive == 0; }, "the end of all values");
}

// Goal    A value may own its own cache: the call that removes it does not touch the cache
//         afterwards.
TEST(deferred_end, a_value_owns_its_own_cache) {
  struct node;
  using cache_type = loading_cache<int, std::shared_ptr<node>>;
  struct node {
    std::shared_ptr<cache_type> owner;
    std::shared_ptr<int> mark;
  };
  const std::pair<const char*, std::function<void(cache_type&)>> ways[] = {
      {"invalidate",
       [](cache_type& c) {
         (void)c.invalidate(1);
         c.clear();  // NOLINT: frees waiting values
       }},
      {"clear", [](cache_type& c) { c.clear(); }},
      {"invalidate_if", [](cache_type& c) { (void)c.invalidate_if([](int) { return true; }); }},
      {"put", [](cache_type& c) { c.put(1, nullptr); }},
      {"get", [](cache_type& c) { (void)c.get(2); }},
  };
  for (const auto& [name, way] : ways) {
    SCOPED_TRACE(name);
    const bool many = std::string(name) == "invalidate";
    const auto mark = std::make_shared<int>(1);
    auto cache = std::make_shared<cache_type>([](int) { return nullptr; },
                                              cache_type::options{.capacity = many ? 100U : 1U});
    cache->put(1, std::make_shared<node>(node{cache, mark}));
    cache_type& c = *cache;
    cache.reset();
    way(c);
    eventually([&] { return mark.use_count() == 1; }, "the end of the cache");
  }
}

// Goal    A sweep that removes the owner of its cache does not wait for itself.
TEST(deferred_end, a_sweep_ends_its_own_cache) {
  manual_timer time;
  struct node;
  using cache_type = loading_cache<int, std::shared_ptr<node>>;
  struct node {
    std::shared_ptr<int> mark;  // destroyed after the cache, which uses the timer
    std::shared_ptr<cache_type> owner;
  };
  const auto mark = std::make_shared<int>(1);
  {
    auto cache = std::make_shared<cache_type>(
        [](int) { return nullptr; },
        cache_type::options{.ttl = 1s, .jitter = 0, .group = {.timer = &time}});
    cache->put(1, std::make_shared<node>(node{mark, cache}));
  }
  time.advance(2s);
  eventually([&] { return mark.use_count() == 1; }, "the end of the cache");
}

// Goal    The removal listener is called once per entry, wherever the value is destroyed.
TEST(deferred_end, the_listener_is_called_once) {
  std::atomic<int> heard{0};
  {
    loading_cache<int, living> cache(
        [](int k) { return living(k); },
        {.capacity = 10, .on_removal = [&](int, const living* v, removal_cause) {
           EXPECT_NE(v->read(), living::dead);
           ++heard;
         }});
    for (int i = 0; i < 1000; ++i) cache.refresh(i);
    eventually([&] { return cache.stats().evicted == 990; }, "the loads");
    eventually([&] { return heard == 990; }, "the listener");
  }
  EXPECT_EQ(heard, 990);
  eventually([] { return living::alive == 0; }, "the end of all values");
}

// Scenario 46
// Goal    When a loader loses its promise to an exception that it catches, the promise is broken
//         before the loader waits for a listener: when it ends a subscription, or destroys a
//         live_value, or a cache whose sweep calls the listener.
TEST(deferred_end, a_lost_promise_is_broken_before_its_loader_waits) {
  struct full {};
  group<int, int> flights;
  gate hold;
  manual_timer time;
  const auto listens = [&](int, int) { hold.wait(); };
  live_value<int> number([] { return 1; });
  auto subscribed = number.on_change(listens);
  number.set(2);
  hold.await_arrivals(1);
  std::optional<live_value<int>> ending(std::in_place, [] { return 1; });
  auto other = ending->on_change(listens);
  ending->set(2);
  hold.await_arrivals(2);
  std::optional<loading_cache<int, int>> swept(
      std::in_place, [](int key) { return key; },
      singleflight::cache_options<int, int>{
          .ttl = 1s,
          .jitter = 0,
          .on_removal = [&](const int&, const auto&, removal_cause) { hold.wait(); },
          .group = {.timer = &time}});
  (void)swept->get(1);
  time.advance(1h);
  hold.await_arrivals(3);
  const std::function<void()> waits[] = {
      [&] { subscribed.end(); },
      [&] { ending.reset(); },
      [&] { swept.reset(); },
  };
  std::atomic<int> ended{0};
  int key = 0;
  for (const auto& wait : waits) {
    auto f = flights.start(++key, [&](flight_promise<int> p) {
      try {
        const auto mine = std::move(p);
        throw full();
      } catch (const full&) {
      }
      wait();
      ++ended;
    });
    const auto patient = std::chrono::steady_clock::now() + support::patience;
    EXPECT_EQ(f.until(patient).get_outcome().errc(), singleflight::flight_errc::broken) << key;
  }
  EXPECT_EQ(ended, 0);
  hold.open();
  flights.close();
  eventually([&] { return ended == 3; }, "the loaders");
}

}  // namespace
