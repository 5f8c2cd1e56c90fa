// SPDX-License-Identifier: Apache-2.0

// Readers of a cache's entries beside those who take entries out: what a reader holds is never
// freed, what nobody holds is freed once, and nothing stays in the end.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "model/cache/item.hpp"
#include "model/worlds.hpp"
#include "support/model/gate.hpp"
#include <singleflight/cache/loading_cache.hpp>

namespace {

using model::add_world;
using model::gate;
using model::item;
using model::three;
using model::two;
using model::two_and_a_fault;
using model::world;
using singleflight::removal_cause;
namespace detail = singleflight::detail;
namespace platform = singleflight::detail::platform;

using store = detail::entry_store<
    int, item, detail::key_access<int, singleflight::key_hash<int>, singleflight::key_equal>,
    singleflight::key_equal>;

/// The entries of a cache, without what loads them.
struct entry_scene {
  explicit entry_scene(world& in, std::size_t capacity = 100)
      : w(in),
        options{.capacity = capacity, .random = [] { return std::uint64_t{1}; }},
        times(options, false),
        all(std::make_unique<store>(options, times, singleflight::key_equal{})) {}

  /// All keys share the first line, and the tag there.
  static std::uint32_t hash_of(int /*key*/) { return 1; }

  template <class What>
  void thread(What what) {
    w.thread([this, what] {
      try {
        what();
      } catch (const std::bad_alloc&) {
        w.check(model::faults() > 0, "memory was short, and it was not");
      }
    });
  }
  /// Whether the table has grown by it.
  bool put(int key, int version) {
    auto& e = store::entry::make(false, hash_of(key), 0, detail::entry_kind::value, int{key},
                                 item(version));
    const detail::hazard_hold mine(e, nullptr);
    store::departed gone;
    {
      platform::unique_lock hold(all->lock());
      all->store_locked(e, all->find_locked(e.hash, key), 0, gone);
    }
    const bool grown = gone.tables != nullptr;
    finish(gone);
    return grown;
  }
  void remove(int key) {
    store::departed gone;
    {
      platform::unique_lock hold(all->lock());
      if (auto* const e = all->find_locked(hash_of(key), key)) {
        all->remove_locked(*e, removal_cause::invalidated, gone);
      }
    }
    finish(gone);
  }
  void clear() {
    store::departed gone;
    {
      platform::unique_lock hold(all->lock());
      all->clear_locked(gone);
    }
    finish(gone);
  }
  void finish(store::departed& gone) {
    all->finish(gone, [](removal_cause, std::size_t) {});
  }

  /// As a cache looks a hit up.
  store::found find(int key) {
    (void)detail::this_hazard_record();  // the first search of a thread makes it
    const auto seen = all->glance(hash_of(key), key);
    if (seen.at != nullptr) return {seen.at, detail::hazard_hold(*seen.at, seen.slot)};
    return all->find(hash_of(key), key);
  }
  /// Finds and looks; the version that was found, 0: none.
  int read(int key) {
    const store::found f = find(key);
    return f ? f.at->value.look() : 0;
  }
  /// The cache goes; nothing is held any more.
  void finish() {
    all.reset();
    detail::hazard_domain::instance().reclaim(nullptr);
  }

  world& w;
  const singleflight::cache_options<int, item> options;
  const detail::lifetimes times;
  std::unique_ptr<store> all;
};

const add_world removal("entries: a find beside a removal", three, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  s.thread([&] { (void)s.read(1); });
  s.thread([&] { s.remove(1); });
  w.run();
  s.finish();
});

const add_world replacement("entries: a find beside a replacement", three, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  s.thread([&] { w.check(s.read(1) != 0, "an entry that was replaced was not found"); });
  s.thread([&] {
    s.put(1, 2);
    w.check(s.read(1) == 2, "an entry that was replaced was found");
  });
  w.run();
  s.finish();
});

const add_world returns("entries: a find beside a removal, and another in its place", three,
                        [](world& w) {
                          entry_scene s(w);
                          s.put(1, 1);
                          s.thread([&] {
                            const int got = s.read(1);
                            w.check(got == 0 || got == 1, "another key's value");
                          });
                          s.thread([&] {
                            s.remove(1);
                            s.put(2, 2);
                          });
                          w.run();
                          s.finish();
                        });

const add_world two_finds("entries: two finds beside a removal", two, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  s.thread([&] { (void)s.read(1); });
  s.thread([&] { (void)s.read(1); });
  s.thread([&] { s.remove(1); });
  w.run();
  s.finish();
});

const add_world two_removals("entries: a find beside two removals", two, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  s.put(2, 2);
  s.thread([&] { (void)s.read(1); });
  s.thread([&] { s.remove(1); });
  s.thread([&] { s.remove(2); });
  w.run();
  s.finish();
});

const add_world with_fault("entries: a find beside a replacement, a fault", two_and_a_fault,
                           [](world& w) {
                             entry_scene s(w);
                             s.put(1, 1);
                             s.thread([&] { w.check(s.read(1) != 0, "an entry was not found"); });
                             s.thread([&] { s.put(1, 2); });
                             w.run();
                             s.finish();
                           });

// ---- counts -------------------------------------------------------------------------------------

const add_world no_slot("entries: a find with no slot free, beside a removal", three, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  s.put(2, 2);
  s.thread([&] {
    const auto first = s.find(2);
    const auto second = s.find(1);  // counted
    (void)first.at->value.look();
    if (second) (void)second.at->value.look();
  });
  s.thread([&] { s.remove(1); });
  w.run();
  s.finish();
});

const add_world to_count("entries: from slot to count beside a removal", three, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  s.thread([&] {
    auto f = s.find(1);
    if (!f) return;
    f.hold.count();
    (void)f.at->value.look();
  });
  s.thread([&] { s.remove(1); });
  w.run();
  s.finish();
});

const add_world two_owners("entries: two who count let go beside a removal", two, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  store::found first = s.all->find_counted(entry_scene::hash_of(1), 1);
  store::found second{first.at, first.hold.share()};
  s.thread([&] {
    (void)first.at->value.look();
    first = {};
  });
  s.thread([&] {
    (void)second.at->value.look();
    second = {};
  });
  s.thread([&] { s.remove(1); });
  w.run();
  s.finish();
});

// ---- handles ------------------------------------------------------------------------------------

const add_world dropped("entries: a handle is dropped beside a removal", three, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  store::found held = s.find(1);
  s.thread([&] {
    (void)held.at->value.look();
    held = {};
  });
  s.thread([&] { s.remove(1); });
  w.run();
  s.finish();
});

const add_world kept("entries: a handle is dropped after its cache has gone", two, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  store::found held = s.find(1);
  s.thread([&] { s.all.reset(); });
  w.run();
  (void)held.at->value.look();
  held = {};  // and with it the entry: nothing else is reclaimed here
});

const add_world handed_on("entries: a handle is dropped elsewhere, and its slot used again", two,
                          [](world& w) {
                            entry_scene s(w);
                            s.put(1, 1);
                            s.put(2, 2);
                            gate found;
                            store::found held;
                            s.thread([&] {
                              held = s.find(1);
                              found.open();
                              (void)s.read(2);
                            });
                            s.thread([&] {
                              found.wait();
                              (void)held.at->value.look();
                              held = {};
                            });
                            s.thread([&] {
                              found.wait();
                              s.remove(1);
                              s.remove(2);
                            });
                            w.run();
                            s.finish();
                          });

const add_world outlives("entries: a handle outlives its thread, beside a removal", two,
                         [](world& w) {
                           entry_scene s(w);
                           s.put(1, 1);
                           s.put(2, 2);
                           store::found held;
                           s.thread([&] { held = s.find(1); });
                           s.thread([&] {
                             const auto mine = s.find(2);  // perhaps by the record of the other
                             if (mine) (void)mine.at->value.look();
                           });
                           s.thread([&] {
                             s.remove(1);
                             s.remove(2);
                           });
                           w.run();
                           if (held) (void)held.at->value.look();
                           held = {};
                           s.finish();
                         });

// ---- the table ----------------------------------------------------------------------------------

constexpr int full = 5;  // so many fill the first table

void fill(entry_scene& s) {
  for (int key = 1; key <= full; ++key)
    s.w.check(!s.put(key, key), "the table has grown too early");
}

const add_world growth("entries: a find beside growth", three, [](world& w) {
  entry_scene s(w);
  fill(s);
  s.thread([&] { w.check(s.read(full) == full, "a find has missed an entry as the table grew"); });
  s.thread([&] { w.check(s.put(full + 1, full + 1), "the table has not grown"); });
  w.run();
  s.finish();
});

const add_world growth_and_removal("entries: a find beside growth and a removal", three,
                                   [](world& w) {
                                     entry_scene s(w);
                                     fill(s);
                                     s.thread([&] { (void)s.read(1); });
                                     s.thread([&] {
                                       w.check(s.put(full + 1, full + 1),
                                               "the table has not grown");
                                       s.remove(1);
                                     });
                                     w.run();
                                     s.finish();
                                   });

const add_world clearing("entries: a find beside clear", three, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  s.thread([&] { (void)s.read(1); });
  s.thread([&] {
    s.clear();
    w.check(s.read(1) == 0, "an entry is found after clear");
  });
  w.run();
  s.finish();
});

const add_world shrinking("entries: a find beside clear of a table that has grown", three,
                          [](world& w) {
                            entry_scene s(w);
                            fill(s);
                            w.check(s.put(full + 1, full + 1), "the table has not grown");
                            s.thread([&] { (void)s.read(1); });
                            s.thread([&] { s.clear(); });
                            w.run();
                            s.finish();
                          });

constexpr int places = detail::entry_line::places;

const add_world passers("entries: a find behind a full line, beside a removal", three,
                        [](world& w) {
                          entry_scene s(w);
                          for (int key = 1; key <= places + 2; ++key)
                            s.put(key, key);  // two lines, one home
                          s.thread([&] {
                            w.check(s.read(places + 2) == places + 2, "a find has missed an entry");
                          });
                          s.thread([&] {
                            s.remove(1);
                            s.remove(places + 1);
                          });
                          w.run();
                          s.finish();
                        });

/// What is asked for often moves to where a glance finds it.
void welcome(entry_scene& s, int key) {
  const auto f = s.find(key);
  if (!f) return;
  for (int i = 0; i < detail::entry_base::max_hits; ++i) s.all->hit(*f.at);
}

const add_world makes_way("entries: a find beside one that comes home, and one that makes way",
                          three, [](world& w) {
                            entry_scene s(w);
                            for (int key = 1; key <= places + 1; ++key) s.put(key, key);
                            s.thread([&] {
                              w.check(s.read(1) == 1, "who makes way was not found");
                              w.check(s.read(places + 1) == places + 1,
                                      "who comes home was not found");
                            });
                            s.thread([&] { welcome(s, places + 1); });
                            w.run();
                            s.finish();
                          });

const add_world goes_ahead(
    "entries: a find beside one that takes another's place in its line", three, [](world& w) {
      entry_scene s(w);
      fill(s);
      w.check(s.put(full + 1, full + 1), "the table has not grown");
      const auto found = [&](int key) {  // a glance sees one that leaves, or that it has left
        return static_cast<bool>(s.all->find(entry_scene::hash_of(key), key));
      };
      s.thread([&] {
        w.check(found(1), "who makes way was not found");
        w.check(found(2), "who goes ahead was not found");
      });
      s.thread([&] { welcome(s, 2); });
      w.run();
      s.finish();
    });

/// Before a thread has the lock, what was in the way of its entry has gone; and a hit that began
/// with the entry's second stores its count late.
const add_world no_way_needed("entries: one is to come home that has come to the front", three,
                              [](world& w) {
                                entry_scene s(w);
                                fill(s);
                                w.check(s.put(full + 1, full + 1), "the table has not grown");
                                auto held = s.all->find_counted(entry_scene::hash_of(2), 2);
                                s.all->hit(*held.at);
                                s.thread([&] { (void)held.at->touch(); });
                                s.thread([&] {
                                  s.all->hit(*held.at);
                                  s.all->hit(*held.at);
                                });
                                s.thread([&] { s.remove(1); });
                                w.run();
                                s.remove(2);
                                w.check(s.all->find(entry_scene::hash_of(2), 2).at == nullptr,
                                        "what was removed is found");
                                held = {};
                                s.finish();
                              });

const add_world welcome_leaves("entries: one is to come home beside its removal", three,
                               [](world& w) {
                                 entry_scene s(w);
                                 for (int key = 1; key <= places + 1; ++key) s.put(key, key);
                                 s.thread([&] { welcome(s, places + 1); });
                                 s.thread([&] { s.remove(places + 1); });
                                 w.run();
                                 w.check(s.read(places + 1) == 0, "what was removed is back");
                                 w.check(s.read(1) == 1, "who made way is gone");
                                 s.finish();
                               });

// ---- a barrier that is refused ------------------------------------------------------------------

/// As long as what has left waits for a grace.
void pass_grace() {
  for (int i = 0; i < 3; ++i) {
    const platform::atomic<unsigned> word{0};
    const auto until = platform::now() + std::chrono::milliseconds(5);
    while (platform::wait(word, 0U, platform::nap_channel, &until)) {
    }
    detail::hazard_domain::instance().reclaim(nullptr);
  }
}

const add_world refused("56: entries: the barrier is refused from some moment on", two,
                        [](world& w) {
                          platform::barriers::there.set();
                          entry_scene s(w);
                          s.put(1, 1);
                          s.thread([&] { w.check(s.read(1) != 0, "an entry was not found"); });
                          s.thread([&] {
                            platform::barriers::refused.set();
                            for (int version = 2; version < 12; ++version) s.put(1, version);
                          });
                          w.run();
                          s.all.reset();
                          w.thread(pass_grace);
                          w.run();
                        });

const add_world eviction("entries: a handle beside an eviction", three, [](world& w) {
  entry_scene s(w, 1);
  s.put(1, 1);
  s.thread([&] {
    const auto f = s.find(1);
    if (f) w.check(f.at->value.look() == 1, "another key's value");
  });
  s.thread([&] { s.put(2, 2); });
  w.run();
  w.check(s.read(1) == 0 && s.read(2) == 2, "not the older one was evicted");
  s.finish();
});

}  // namespace
