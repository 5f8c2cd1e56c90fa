// SPDX-License-Identifier: Apache-2.0

// Every allocation of every call fails once (P9): the n-th one, for all n, until the call succeeds.
//
// Each time the test checks that the key is free, no other caller is harmed, and the group closes;
// and, under AddressSanitizer, that nothing has leaked.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/task.hpp"
#include <singleflight/cache.hpp>
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/flight.hpp>
#include <singleflight/sync.hpp>

namespace {

/// How many allocations of this thread may still succeed; negative: all.
constinit thread_local long allowed = -1;

void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
  if (allowed == 0) return nullptr;
  if (allowed > 0) --allowed;
  if (alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__) return std::malloc(bytes == 0 ? 1 : bytes);
  return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}
void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
  if (void* const memory = allocate(bytes, alignment)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t n) { return allocate_or_throw(n, 1); }
void* operator new[](std::size_t n) { return allocate_or_throw(n, 1); }
void* operator new(std::size_t n, std::align_val_t a) {
  return allocate_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a) {
  return allocate_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, 1); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, 1); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace {

namespace sf = singleflight;
using namespace std::chrono_literals;
using texts = sf::group<std::string, std::string>;
using many = std::vector<sf::outcome<std::string>>;

const std::string key(40, 'k');  // both too long for the string's inline buffer
const std::string value(60, 'v');

many echo(std::span<const std::string> keys) {
  many all;
  for (const auto& k : keys) all.emplace_back(k);
  return all;
}
std::string give() { return value; }
sf::limits soon() { return {.deadline = std::chrono::steady_clock::now() + 1ms}; }

/// Runs `call` in a new World, whose n-th allocation from there fails; then its `check`.
template <class World, class Call>
void fail_each(Call call, const std::function<std::unique_ptr<World>()>& make) {
  for (long n = 0; n < 400; ++n) {
    SCOPED_TRACE("allocation " + std::to_string(n));
    const std::unique_ptr<World> world = make();
    allowed = n;
    try {
      call(*world);
    } catch (const std::exception&) {  // it may fail; another test checks how
    }
    const bool reached = allowed == 0;
    allowed = -1;
    world->check();
    if (!reached || testing::Test::HasFailure()) return;
  }
  FAIL() << "the allocations did not end";
}

/// A group, with a load of `key` running on another thread if requested.
struct flights {
  explicit flights(bool busy, const std::function<void(flights&)>& set = {}) {
    if (set) set(*this);
    group = std::make_unique<texts>(options);
    if (!busy) return;
    leader = std::thread([this] {
      (void)group->run(sf::as_outcome, key, [this] {
        inside = true;
        while (!go) std::this_thread::yield();
        return value;
      });
    });
    support::eventually([this] { return inside.load(); }, "the leader");
  }
  ~flights() { end(); }
  void end() {
    go = true;
    if (leader.joinable()) leader.join();
  }
  void check() {
    end();
    support::eventually([this] { return group->in_flight().empty(); }, "the end of all flights");
    EXPECT_EQ(*group->run(key, give), value);
    EXPECT_TRUE(group->close_for(10s));
  }
  sf::manual_timer time;
  sf::group_options options;
  std::atomic<bool> go{false};
  std::atomic<bool> inside{false};
  std::unique_ptr<texts> group;
  std::thread leader;
};

template <class Call>
void in_idle(Call call) {
  fail_each<flights>(call, [] { return std::make_unique<flights>(false); });
}
template <class Call>
void in_busy(Call call) {
  fail_each<flights>(call, [] { return std::make_unique<flights>(true); });
  fail_each<flights>(call, [] {
    return std::make_unique<flights>(
        true, [](flights& f) { f.options.on_error = sf::error_policy::hand_over(2); });
  });
}
template <class Call>
void in_timed(Call call) {
  fail_each<flights>(call, [] {
    return std::make_unique<flights>(false, [](flights& f) {
      f.options.load_timeout = 1h;
      f.options.timer = &f.time;
    });
  });
}

/// A separate executor, as a wait may name one.
struct on_pool {
  void execute(sf::task t) const { sf::default_pool().execute(std::move(t)); }
  long pad[4]{};
};

TEST(every_allocation, of_run) {
  const auto run = [](flights& f) { (void)f.group->run(key, give, soon()); };
  in_idle(run);
  in_busy(run);
  in_timed([](flights& f) { (void)f.group->run(key, give); });
  const auto fresh = [](flights& f) { (void)f.group->run_fresh(key, give, soon()); };
  in_idle(fresh);
  in_busy(fresh);
  in_idle([](flights& f) {
    const std::stop_source stop;
    (void)f.group->run(key, [](std::stop_token) { return value; }, {.stop = stop.get_token()});
  });
  in_idle([](flights& f) {
    (void)f.group->run(key, []() -> std::string { throw std::runtime_error("no value"); });
  });
}

TEST(every_allocation, of_start) {
  const auto start = [](flights& f) {
    auto started = f.group->start(key, give);
    (void)started.until(soon().deadline).get();
  };
  in_idle(start);
  in_busy(start);
  in_timed(start);
  const auto fresh = [](flights& f) {
    auto started = f.group->start_fresh(key, give);
    (void)started.until(soon().deadline).get();
  };
  in_idle(fresh);
  in_busy(fresh);
  in_idle([](flights& f) {
    auto started = f.group->start(
        key, [](sf::flight_promise<std::string> promise) { promise.set_value(value); });
    (void)started.get();
  });
  in_busy([](flights& f) { f.group->start(key, give).detach(); });
}

TEST(every_allocation, of_waits) {
  in_busy([](flights& f) { f.group->start(key, give).on_ready([](auto&&) {}); });
  in_busy([](flights& f) { f.group->start(key, give).on_ready(on_pool{}, [](auto&&) {}); });
  in_busy([](flights& f) {
    auto started = f.group->start(key, give);
    started.until(soon().deadline).on_ready([](auto&&) {});
  });
  in_busy([](flights& f) {
    [](texts& group) -> support::detached {
      try {
        auto started = group.start(key, give);
        (void)co_await started.on(on_pool{}).as_outcome();
      } catch (const std::bad_alloc&) {  // thrown by this call itself
      }
    }(*f.group);
  });
  in_idle([](flights& f) {
    (void)f.group->run(key, [&](sf::flight_context& context) {
      auto other = f.group->start("other", give);
      return *other.within(context).get();
    });
  });
}

TEST(every_allocation, of_many_keys) {
  const std::vector<std::string> keys{key, "a", "b", "a", std::string(50, 'z')};
  const auto run = [&](flights& f) { (void)f.group->run_many(keys, echo, soon()); };
  in_idle(run);
  in_busy(run);
  const auto start = [&](flights& f) { auto all = f.group->start_many(keys, echo); };
  in_idle(start);
  in_busy(start);
}

TEST(every_allocation, of_looks_and_ends) {
  in_busy([](flights& f) { (void)f.group->in_flight(); });
  in_busy([](flights& f) { (void)f.group->stats(); });
  in_busy([](flights& f) { (void)f.group->forget(key); });
  in_busy([](flights& f) { f.group->forget_all(); });
  in_idle([](flights& f) {
    auto forgotten = f.group->start(key, give);
    f.group->forget_all();
  });
}

/// A cache with thirty entries, its loader and its bulk loader.
struct cache {
  cache()
      : entries([](const std::string& k) { return k; }, &echo,
                {.capacity = 64, .ttl = 1h, .stale_if_error = 1h, .error_ttl = 1h}) {
    for (int i = 0; i < 30; ++i) (void)entries.get("key " + std::to_string(i));
  }
  void check() {
    entries.put(key, value);
    EXPECT_EQ(*entries.get(key), value);
    EXPECT_TRUE(entries.invalidate(key));
    EXPECT_EQ(*entries.get(key), key);
    EXPECT_LE(entries.stats().entries, 64U);
  }
  sf::loading_cache<std::string, std::string> entries;
};

TEST(every_allocation, of_a_cache) {
  const auto each = [](auto call) {
    fail_each<cache>([&](cache& c) { call(c.entries); }, [] { return std::make_unique<cache>(); });
  };
  each([](auto& c) { (void)c.get(key); });
  each([](auto& c) { (void)c.get(key, [](const std::string& k) { return k; }); });
  each([](auto& c) {
    auto pending = c.start_get(key);
    (void)pending.get();
  });
  each([](auto& c) { (void)c.get_all(std::vector<std::string>{key, "key 1", "x", "y", "x"}); });
  each([](auto& c) { c.put(key, value); });
  each([](auto& c) { (void)c.invalidate("key 1"); });
  each([](auto& c) { (void)c.invalidate_if([](std::string_view) { return true; }); });
  each([](auto& c) { c.clear(); });
  each([](auto& c) { c.refresh("key 1"); });
  each([](auto& c) { (void)c.find("key 1"); });
  each([](auto& c) { (void)c.get("key 1").share(); });
}

/// One of each of the other classes.
struct rest {
  void check() {
    support::eventually([this] { return permits.available() == 1; }, "the permit");
    EXPECT_EQ(**batches.load(sf::as_outcome, key), key);
    EXPECT_FALSE(live.get()->empty());
    EXPECT_EQ(breaker.call([] { return 1; }), 1);
  }
  sf::semaphore permits{1};
  sf::batcher<std::string, std::string> batches{&echo};
  sf::live_value<std::string> live{[] { return value; }};
  sf::circuit_breaker breaker{{.min_calls = 1000}};
};

TEST(every_allocation, of_the_others) {
  const auto each = [](auto call) {
    fail_each<rest>(call, [] { return std::make_unique<rest>(); });
  };
  each([](rest& r) {
    auto held = r.permits.acquire();
    [](sf::semaphore& permits) -> support::detached {
      try {
        auto asked = permits.start_acquire();
        const auto permit = co_await asked.on(on_pool{});
      } catch (const std::bad_alloc&) {  // thrown by this call itself
      }
    }(r.permits);
    held.release();
  });
  each([](rest& r) { (void)r.batches.load(key); });
  each([](rest& r) { (void)r.batches.load_many(std::vector<std::string>{key, "a", key, "b"}); });
  each([](rest& r) { r.live.set(std::string(70, 's')); });
  each([](rest& r) { (void)r.live.reload(); });
  each([](rest& r) {
    auto subscription =
        r.live.on_change([text = std::string(99, 'x')](const auto&, const auto&) {});
    r.live.set(std::string(70, 't'));
  });
  each([](rest& r) { (void)r.breaker.call([] { return value; }); });
  each([](rest&) {
    sf::error_group tasks;
    for (int i = 0; i < 3; ++i) tasks.go([text = std::string(99, 'x')] {});
    tasks.wait();
  });
  each([](rest&) {
    const std::vector<std::function<int()>> calls{[] { return 1; }, [] { return 2; }};
    (void)sf::run_all(calls, {.timeout = 1h});
  });
  each([](rest&) { (void)sf::retry({}, [] { return value; }); });
  each([](rest&) {
    auto retried = sf::start_retry({}, [] { return value; });
    (void)retried.get();
  });
  each([](rest&) {
    auto lengths = sf::memoize([](const std::string& text) { return text.size(); });
    (void)lengths(key);
  });
}

}  // namespace
