// SPDX-License-Identifier: Apache-2.0

// Invalidations during loads: a call that begins after an invalidation has returned must not get a
// value whose load began before the invalidation was called, whatever form either takes.

#include <chrono>
#include <coroutine>
#include <memory>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "model/cache/cache_scene.hpp"
#include "support/model/gate.hpp"
#include <singleflight/core/manual_timer.hpp>

namespace {

using model::add_world;
using model::cache_scene;
using model::gate;
using model::item;
using model::three;
using model::two;
using model::two_and_a_fault;
using model::world;
using namespace std::chrono_literals;

constexpr model::limits one{.preemptions = 1};

/// One thread calls the cache; the other invalidates, and calls then.
template <class Call, class Invalidate>
void play(world& w, Call&& call, Invalidate&& invalidate) {
  cache_scene s(w);
  s.thread([&] { call(s); });
  s.thread([&] {
    invalidate(s);
    (void)s.get();
  });
  w.run();
  (void)s.get();
  s.finish();
}
void gets(cache_scene& s) { (void)s.get(); }
void invalidates(cache_scene& s) { s.invalidate(); }

const add_world during_run("31: invalidate during get", three,
                           [](world& w) { play(w, gets, invalidates); });

const add_world during_start("31: invalidate during start_get", two, [](world& w) {
  play(
      w, [](cache_scene& s) { (void)s.start_get(); }, invalidates);
});

const add_world invalidate_during_refresh("31: invalidate during refresh", two, [](world& w) {
  cache_scene s(w);
  (void)s.get();
  s.thread([&] {
    s.all->refresh(1);
    s.queue.run_all();
    (void)s.get();
  });
  s.thread([&] {
    s.invalidate();
    (void)s.get();
  });
  w.run();
  (void)s.get();
  s.finish();
});

const add_world during_bulk("31: invalidate during get_all", two, [](world& w) {
  play(
      w,
      [](cache_scene& s) {
        s.get_all({1, 2});
      },
      invalidates);
});

const add_world during_load_many("31: invalidate during get_all by one load", two, [](world& w) {
  cache_scene s(w);
  s.all = std::make_unique<cache_scene::cache>([&](int) { return item(s.load()); },
                                               [&](std::span<const int> keys) {
                                                 std::vector<singleflight::outcome<item>> values;
                                                 for (std::size_t i = 0; i < keys.size(); ++i)
                                                   values.emplace_back(item(s.load()));
                                                 return values;
                                               },
                                               s.of);
  s.thread([&] { s.get_all({2, 1}); });
  s.thread([&] {
    s.invalidate();
    (void)s.get();
  });
  w.run();
  (void)s.get();
  s.finish();
});

const add_world during_two("31: invalidate during two calls of get", one, [](world& w) {
  cache_scene s(w);
  s.thread([&] { (void)s.get(); });
  s.thread([&] { (void)s.get(); });
  s.thread([&] {
    s.invalidate();
    (void)s.get();
  });
  w.run();
  s.finish();
});

const add_world twice("31: invalidate during invalidate and get", one, [](world& w) {
  cache_scene s(w);
  s.thread([&] { (void)s.get(); });
  for (int i = 0; i < 2; ++i) {
    s.thread([&] {
      s.invalidate();
      (void)s.get();
    });
  }
  w.run();
  s.finish();
});

const add_world during_hit("31: invalidate during a hit", two, [](world& w) {
  cache_scene s(w);
  (void)s.get();
  s.thread([&] {
    (void)s.get();
    (void)s.get();
  });
  s.thread([&] {
    s.invalidate();
    (void)s.get();
  });
  w.run();
  s.finish();
});

const add_world invalidate_with_fault("31: invalidate during get, a fault", two_and_a_fault,
                                      [](world& w) { play(w, gets, invalidates); });

// ---- the other ways to invalidate ---------------------------------------------------------------

const add_world put_during_get("31: put during get", three,
                               [](world& w) { play(w, gets, [](cache_scene& s) { s.put(); }); });
const add_world put_during_start("31: put during start_get", three, [](world& w) {
  play(
      w, [](cache_scene& s) { (void)s.start_get(); }, [](cache_scene& s) { s.put(); });
});
const add_world clear_during_get("31: clear during get", two, [](world& w) {
  play(w, gets, [](cache_scene& s) { s.invalidates([&] { s.all->clear(); }); });
});
const add_world clear_during_bulk("31: clear during get_all", two, [](world& w) {
  play(
      w,
      [](cache_scene& s) {
        s.get_all({1, 2});
      },
      [](cache_scene& s) { s.invalidates([&] { s.all->clear(); }); });
});
const add_world filter_during_get("31: invalidate_if during get", two, [](world& w) {
  play(w, gets, [](cache_scene& s) {
    s.invalidates([&] { (void)s.all->invalidate_if([](int) { return true; }); });
  });
});
const add_world filter_during_put("31: invalidate_if during put and get", two, [](world& w) {
  cache_scene s(w);
  (void)s.get();
  s.thread([&] { (void)s.get(2); });
  s.thread([&] { s.store(2); });
  s.thread([&] {
    s.invalidates([&] {
      (void)s.all->invalidate_if([](int, const item& value) { return value.look() > 0; });
    });
    (void)s.get();
  });
  w.run();
  s.finish();
});

// ---- a load that serves what it finds -----------------------------------------------------------

/// A load gives the value that it finds when it begins to all callers that wait for it, but not to
/// callers that came after that value was invalidated. The value is stored only after the load's
/// caller has looked for it in vain.
template <class Invalidate>
void finds_again(world& w, Invalidate&& invalidate) {
  cache_scene s(w);
  gate stored, begun;
  s.thread([&] {
    const std::vector<int> keys{1, 0};
    s.get_all(keys | std::views::take_while([&](int key) {
                if (key == 0) {
                  s.store(1);
                  stored.open();
                  begun.wait();
                }
                return key != 0;
              }));
  });
  s.thread([&] {
    stored.wait();
    begun.open();
    invalidate(s);
    (void)s.get();
  });
  w.run();
  s.finish();
}
const add_world found_during_invalidate("31: invalidate during a load that finds the value", two,
                                        [](world& w) { finds_again(w, invalidates); });
const add_world found_during_clear("31: clear during a load that finds the value", two,
                                   [](world& w) {
                                     finds_again(w, [](cache_scene& s) {
                                       s.invalidates([&] { s.all->clear(); });
                                     });
                                   });
const add_world found_during_filter("31: invalidate_if during a load that finds the value", two,
                                    [](world& w) {
                                      finds_again(w, [](cache_scene& s) {
                                        s.invalidates([&] {
                                          (void)s.all->invalidate_if([](int) { return true; });
                                        });
                                      });
                                    });

/// A load that fails gives them the stored value.
template <class Invalidate>
void serves_during(world& w, Invalidate&& invalidate, cache_scene::options how = {}) {
  singleflight::manual_timer time;
  how.group.timer = &time;
  cache_scene s(w, std::move(how));
  (void)s.get();
  s.loader = [&](int) -> int { throw std::domain_error(std::to_string(s.load())); };
  s.thread([&] {
    s.all->refresh(1);
    s.queue.run_all();
  });
  s.thread([&] {
    invalidate(s);
    (void)s.get();
  });
  w.run();
  s.finish();
}
const add_world served_during_invalidate(
    "31: invalidate during a load that fails, with a value stored", two,
    [](world& w) { serves_during(w, invalidates); });
const add_world served_during_clear("31: clear during a load that fails, with a value stored", two,
                                    [](world& w) {
                                      serves_during(w, [](cache_scene& s) {
                                        s.invalidates([&] { s.all->clear(); });
                                      });
                                    });
const add_world served_during_filter(
    "31: invalidate_if during a load that fails, with a value stored", two, [](world& w) {
      serves_during(w, [](cache_scene& s) {
        s.invalidates([&] { (void)s.all->invalidate_if([](int) { return true; }); });
      });
    });
/// A value whose lifetime is zero removes the one before it.
const add_world served_during_put(
    "31: put of a value that is not kept during a load that fails, with a value stored", two,
    [](world& w) {
      serves_during(w,
                    [](cache_scene& s) {
                      s.invalidates([&] {
                        s.all->put(1, singleflight::with_ttl<item>{item(s.begin()), 0s});
                      });
                    },
                    {.ttl_of = [](int, const item&) { return std::chrono::nanoseconds(1h); }});
    });

// ---- other loads --------------------------------------------------------------------------------

const add_world loads_once("a key is loaded once for two callers", two, [](world& w) {
  cache_scene s(w);
  s.thread([&] { (void)s.get(); });
  s.thread([&] { (void)s.start_get(); });
  w.run();
  w.check(s.loads() == 1, "a key was loaded twice");
  s.finish();
});

const add_world bulk_loads_once("a key is loaded once for get and get_all", two, [](world& w) {
  cache_scene s(w);
  s.thread([&] { (void)s.get(); });
  s.thread([&] { s.get_all({2, 1}); });
  w.run();
  w.check(s.loads() == 2, "a key was loaded twice");
  s.finish();
});

template <class Invalidate>
void fails_during(world& w, Invalidate&& invalidate) {
  singleflight::manual_timer time;
  cache_scene s(w, {.error_ttl = 1h, .group = {.timer = &time}});
  s.loader = [&](int) -> int { throw std::domain_error(std::to_string(s.load())); };
  s.thread([&] { (void)s.get(); });
  s.thread([&] {
    invalidate(s);
    (void)s.get();
  });
  w.run();
  (void)s.get();
  s.finish();
}
const add_world error_during_put("31: put during a load that fails, errors kept", three,
                                 [](world& w) {
                                   fails_during(w, [](cache_scene& s) { s.put(); });
                                 });
const add_world error_during_invalidate("31: invalidate during a load that fails, errors kept",
                                        three, [](world& w) { fails_during(w, invalidates); });

/// An awaitable that is ready when it is awaited.
struct at_once {
  int number;
  bool await_ready() const noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  item await_resume() const { return item(number); }
};
const add_world awaited("31: invalidate during a load that is awaited", two, [](world& w) {
  cache_scene s(w);
  s.all = std::make_unique<cache_scene::cache>([&](int) { return at_once{s.load()}; }, s.of);
  s.thread([&] { (void)s.start_get(); });
  s.thread([&] {
    s.invalidate();
    (void)s.start_get();
  });
  w.run();
  s.finish();
});

// ---- evicted entries are held -------------------------------------------------------------------

const add_world held_eviction("a value that is held is evicted, and its cache is destroyed", two,
                              [](world& w) {
                                cache_scene s(w, {.capacity = 1});
                                gate held;
                                s.thread([&] {
                                  const auto mine = s.all->get(1);
                                  held.open();
                                  w.check(mine->look() > 0, "no value");
                                });
                                s.thread([&] { (void)s.get(2); });
                                s.thread([&] {
                                  held.wait();
                                  (void)s.get(3);
                                });
                                w.run();
                                w.check(s.all->stats().entries == 1,
                                        "more entries than the capacity");
                                s.finish();
                              });

}  // namespace
