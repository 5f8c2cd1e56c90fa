// SPDX-License-Identifier: Apache-2.0

// The effects of time on a cache: the sweep during calls and stores, its end as its alarm fires,
// and loads behind a hit.

#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "model/cache/cache_scene.hpp"
#include <singleflight/core/manual_timer.hpp>

namespace {

using model::add_world;
using model::cache_scene;
using model::item;
using model::three;
using model::two;
using model::two_and_a_fault;
using model::world;
using singleflight::manual_timer;
using singleflight::removal_cause;
using singleflight::detail::expiry_sweep;
using namespace std::chrono_literals;
namespace platform = singleflight::detail::platform;

cache_scene::options short_lived(manual_timer& time) {
  return {.ttl = 1s, .jitter = 0, .group = {.timer = &time}};
}

// ---- the sweep of a cache -----------------------------------------------------------------------

const add_world get_during_sweep("expiry: a get during the sweep", two, [](world& w) {
  manual_timer time;
  cache_scene s(w, short_lived(time));
  const int old = s.get();
  platform::atomic<int> got{0};
  s.thread([&] { time.advance(2s); });
  s.thread([&] { got.store(s.get(), std::memory_order_relaxed); });
  w.run();
  const bool reloaded = got.load(std::memory_order_relaxed) != old;
  w.check(s.all->find(1).has_value() == reloaded, "the sweep removed the wrong entry");
  s.finish();
});

const add_world put_at_end("expiry: a put as a sweep ends", two, [](world& w) {
  manual_timer time;
  cache_scene s(w, short_lived(time));
  (void)s.get();
  s.thread([&] { time.advance(2s); });
  s.thread([&] { s.store(2); });
  w.run();
  for (int i = 0; i < 2; ++i) {  // an entry that is stored during a sweep is left to the next one
    time.advance(2s);
    w.run();
  }
  w.check(s.all->stats().entries == 0, "an entry is never swept");
  s.finish();
});

const add_world destroyed_during_sweep(
    "expiry: the cache is destroyed during a sweep whose listener calls it", two, [](world& w) {
      using cache = singleflight::loading_cache<int, int>;
      manual_timer time;
      cache* asked = nullptr;
      auto all = std::make_unique<cache>(
          [](int key) { return key; },
          cache::options{.ttl = 1s,
                         .jitter = 0,
                         .on_removal = [&](int, const int*, removal_cause) { (void)asked->get(2); },
                         .group = {.timer = &time},
                         .random = [] { return std::uint64_t{1}; }});
      asked = all.get();
      (void)all->get(1);
      w.thread([&] { time.advance(2s); });
      w.thread([&] { all.reset(); });
      w.run();
      singleflight::detail::hazard_domain::instance().reclaim(nullptr);
    });

const add_world refresh_during_sweep("expiry: a refresh during the sweep", two, [](world& w) {
  manual_timer time;
  cache_scene s(w, short_lived(time));
  (void)s.get();
  s.thread([&] { time.advance(2s); });
  s.thread([&] { s.all->refresh(1); });
  w.run();
  w.check(s.loads() == 2, "a refresh did not load once");
  s.finish();
});

const add_world no_timer("expiry: the timer has no thread, a fault", two_and_a_fault, [](world& w) {
  cache_scene s(w, {.ttl = 1s, .jitter = 0});
  s.thread([&] {
    (void)s.get();
    s.all.reset();
  });
  w.run();
  s.finish();
});

// ---- the sweep by itself ------------------------------------------------------------------------

/// An owner of a sweep, destroyed together with it.
struct swept {
  explicit swept(manual_timer& time) : sweep(time, 1s, &sweep_one, this) {}
  static bool sweep_one(void* of) {
    auto& self = *static_cast<swept*>(of);
    self.begun.fetch_add(1, std::memory_order_relaxed);
    self.over.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  platform::atomic<int> begun{0};
  platform::atomic<int> over{0};
  expiry_sweep sweep;
};

const add_world sweep_destroyed("expiry: the sweep is destroyed as its alarm fires", three,
                                [](world& w) {
                                  manual_timer time;
                                  auto all = std::make_unique<swept>(time);
                                  all->sweep.request();
                                  w.thread([&] { time.advance(1s); });
                                  w.thread([&] { all.reset(); });
                                  w.run();
                                  time.advance(2s);
                                  w.run();
                                });

const add_world need_at_stop("expiry: need as the sweep is stopped", three, [](world& w) {
  manual_timer time;
  auto all = std::make_unique<swept>(time);
  w.thread([&] { all->sweep.request(); });
  w.thread([&] {
    all->sweep.stop();
    w.check(all->begun.load(std::memory_order_relaxed) == 0, "a sweep before its time");
  });
  w.run();
  all->sweep.request();
  time.advance(2s);
  w.run();
  w.check(all->begun.load(std::memory_order_relaxed) == 0, "a sweep after its end");
});

const add_world need_at_time("expiry: need as its time passes", three, [](world& w) {
  manual_timer time;
  auto all = std::make_unique<swept>(time);
  w.thread([&] { all->sweep.request(); });
  w.thread([&] { time.advance(1s); });
  w.run();
  time.advance(1s);
  w.run();
  w.check(all->over.load(std::memory_order_relaxed) > 0, "no sweep");
});

// ---- loads behind a hit -------------------------------------------------------------------------

cache_scene::options refreshing(manual_timer& time) {
  return {.ttl = 100s, .jitter = 0, .refresh_after = 1s, .group = {.timer = &time}};
}

const add_world two_hits("expiry: two hits on a value that is due", two, [](world& w) {
  manual_timer time;
  cache_scene s(w, refreshing(time));
  (void)s.get();
  time.advance(2s);
  s.thread([&] { (void)s.get(); });
  s.thread([&] { (void)s.get(); });
  w.run();
  w.check(s.loads() == 2, "a value that was due was not loaded once");
  s.finish();
});

// ---- loads after a failure ----------------------------------------------------------------------

/// Two callers of one key whose loads fail, after `first` loads that do not.
void two_callers_fail(world& w, cache_scene::options how, manual_timer& time, int first) {
  cache_scene s(w, std::move(how));
  s.loader = [&s, first](int) -> int {
    const int number = s.load();
    if (number > first) throw std::domain_error(std::to_string(number));
    return number;
  };
  for (int i = 0; i < first; ++i) (void)s.get();
  time.advance(2s);
  s.thread([&] { (void)s.get(); });
  s.thread([&] { (void)s.get(); });
  w.run();
  w.check(s.loads() == first + 1, "34: a load that had failed was tried again at once");
  s.finish();
}

const add_world stale_and_down("34: two callers see a stale value whose load fails", two,
                               [](world& w) {
                                 manual_timer time;
                                 two_callers_fail(w,
                                                  {.ttl = 1s,
                                                   .jitter = 0,
                                                   .stale_if_error = 100s,
                                                   .retry_after = 50s,
                                                   .group = {.timer = &time}},
                                                  time, 1);
                               });

const add_world due_and_down("34: two hits on a due value whose load fails", two, [](world& w) {
  manual_timer time;
  cache_scene::options how = refreshing(time);
  how.retry_after = 50s;
  two_callers_fail(w, std::move(how), time, 1);
});

const add_world error_kept(
    "34: two callers of a key whose load fails, errors kept", two, [](world& w) {
      manual_timer time;
      two_callers_fail(w, {.jitter = 0, .error_ttl = 100s, .group = {.timer = &time}}, time, 0);
    });

const add_world due_and_invalidate("31: invalidate during a load behind a hit", two, [](world& w) {
  manual_timer time;
  cache_scene s(w, refreshing(time));
  (void)s.get();
  time.advance(2s);
  s.thread([&] { (void)s.get(); });
  s.thread([&] {
    s.invalidate();
    (void)s.get();
  });
  w.run();
  (void)s.get();
  s.finish();
});

}  // namespace
