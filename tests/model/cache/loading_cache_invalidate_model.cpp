// SPDX-License-Identifier: Apache-2.0

// Invalidations beside loads: whoever asks after an invalidation has returned is not given what
// began to be loaded before it was called, whatever form either takes.

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

/// One thread asks; the other invalidates, and asks then.
template <class Ask, class Invalidate>
void play(world& w, Ask&& ask, Invalidate&& invalidate) {
  cache_scene s(w);
  s.thread([&] { ask(s); });
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

const add_world beside_run("31: invalidate beside get", three,
                           [](world& w) { play(w, gets, invalidates); });

const add_world beside_start("31: invalidate beside start_get", two, [](world& w) {
  play(
      w, [](cache_scene& s) { (void)s.start_get(); }, invalidates);
});

const add_world invalidate_beside_refresh("31: invalidate beside refresh", two, [](world& w) {
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

const add_world beside_bulk("31: invalidate beside get_all", two, [](world& w) {
  play(
      w,
      [](cache_scene& s) {
        s.get_all({1, 2});
      },
      invalidates);
});

const add_world beside_load_many("31: invalidate beside get_all by one load", two, [](world& w) {
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

const add_world beside_two("31: invalidate beside two who ask", one, [](world& w) {
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

const add_world twice("31: invalidate beside invalidate and get", one, [](world& w) {
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

const add_world beside_hit("31: invalidate beside a hit", two, [](world& w) {
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

const add_world invalidate_with_fault("31: invalidate beside get, a fault", two_and_a_fault,
                                      [](world& w) { play(w, gets, invalidates); });

// ---- the other ways to invalidate ---------------------------------------------------------------

const add_world put_beside_get("31: put beside get", three,
                               [](world& w) { play(w, gets, [](cache_scene& s) { s.put(); }); });
const add_world put_beside_start("31: put beside start_get", three, [](world& w) {
  play(
      w, [](cache_scene& s) { (void)s.start_get(); }, [](cache_scene& s) { s.put(); });
});
const add_world clear_beside_get("31: clear beside get", two, [](world& w) {
  play(w, gets, [](cache_scene& s) { s.invalidates([&] { s.all->clear(); }); });
});
const add_world clear_beside_bulk("31: clear beside get_all", two, [](world& w) {
  play(
      w,
      [](cache_scene& s) {
        s.get_all({1, 2});
      },
      [](cache_scene& s) { s.invalidates([&] { s.all->clear(); }); });
});
const add_world filter_beside_get("31: invalidate_if beside get", two, [](world& w) {
  play(w, gets, [](cache_scene& s) {
    s.invalidates([&] { (void)s.all->invalidate_if([](int) { return true; }); });
  });
});
const add_world filter_beside_put("31: invalidate_if beside put and get", two, [](world& w) {
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

/// What a load finds as it begins it gives to all who wait for it: not to those who have come after
/// that was invalidated. It is there only after the load's caller has looked for it in vain.
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
const add_world found_beside_invalidate("31: invalidate beside a load that finds the value", two,
                                        [](world& w) { finds_again(w, invalidates); });
const add_world found_beside_clear("31: clear beside a load that finds the value", two,
                                   [](world& w) {
                                     finds_again(w, [](cache_scene& s) {
                                       s.invalidates([&] { s.all->clear(); });
                                     });
                                   });
const add_world found_beside_filter("31: invalidate_if beside a load that finds the value", two,
                                    [](world& w) {
                                      finds_again(w, [](cache_scene& s) {
                                        s.invalidates([&] {
                                          (void)s.all->invalidate_if([](int) { return true; });
                                        });
                                      });
                                    });

/// A load that fails gives them what is there.
template <class Invalidate>
void serves_beside(world& w, Invalidate&& invalidate, cache_scene::options how = {}) {
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
const add_world served_beside_invalidate("31: invalidate beside a load that fails, a value there",
                                         two, [](world& w) { serves_beside(w, invalidates); });
const add_world served_beside_clear("31: clear beside a load that fails, a value there", two,
                                    [](world& w) {
                                      serves_beside(w, [](cache_scene& s) {
                                        s.invalidates([&] { s.all->clear(); });
                                      });
                                    });
const add_world served_beside_filter("31: invalidate_if beside a load that fails, a value there",
                                     two, [](world& w) {
                                       serves_beside(w, [](cache_scene& s) {
                                         s.invalidates([&] {
                                           (void)s.all->invalidate_if([](int) { return true; });
                                         });
                                       });
                                     });
/// A value that is good for no time takes the one before out.
const add_world served_beside_put(
    "31: put of what is not kept beside a load that fails, a value there", two, [](world& w) {
      serves_beside(w,
                    [](cache_scene& s) {
                      s.invalidates([&] {
                        s.all->put(1, singleflight::with_ttl<item>{item(s.begin()), 0s});
                      });
                    },
                    {.ttl_of = [](int, const item&) { return std::chrono::nanoseconds(1h); }});
    });

// ---- what a load does else ----------------------------------------------------------------------

const add_world loads_once("a key is loaded once for two who ask", two, [](world& w) {
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
void fails_beside(world& w, Invalidate&& invalidate) {
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
const add_world error_beside_put("31: put beside a load that fails, errors kept", three,
                                 [](world& w) {
                                   fails_beside(w, [](cache_scene& s) { s.put(); });
                                 });
const add_world error_beside_invalidate("31: invalidate beside a load that fails, errors kept",
                                        three, [](world& w) { fails_beside(w, invalidates); });

/// An answer that is there as soon as it is awaited.
struct at_once {
  int number;
  bool await_ready() const noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  item await_resume() const { return item(number); }
};
const add_world awaited("31: invalidate beside a load that is awaited", two, [](world& w) {
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

// ---- what leaves is held ------------------------------------------------------------------------

const add_world held_eviction("a value that is held is evicted, and its cache goes", two,
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
