// SPDX-License-Identifier: Apache-2.0

// Readers of a cache's entries during removals: what a reader holds is never freed, what nobody
// holds is freed once, and nothing is left in the end.

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

struct store
    : detail::entry_store<
          int, item, detail::key_access<int, singleflight::key_hash<int>, singleflight::key_equal>,
          singleflight::key_equal> {
  using entry_store::entry_store;
  using store_core::table;
};

/// The entries of a cache, without its loads.
struct entry_scene {
  explicit entry_scene(world& in, std::size_t capacity = 100, std::size_t reserve = 0)
      : w(in),
        options{
            .capacity = capacity, .reserve = reserve, .random = [] { return std::uint64_t{1}; }},
        times(options, false),
        all(std::make_unique<store>(options, times, singleflight::key_equal{})) {}

  /// All keys share the first line, and their tag in it.
  static std::uint32_t hash_of(int /*key*/) { return 1; }

  template <class What>
  void thread(What what) {
    w.thread([this, what] {
      try {
        what();
      } catch (const std::bad_alloc&) {
        w.check(model::faults() > 0, "bad_alloc without a fault");
      }
    });
  }
  /// Returns whether the table has begun to grow.
  bool put(int key, int version) {
    auto& e = store::entry::make(false, hash_of(key), 0, detail::entry_kind::value, int{key},
                                 item(version));
    const detail::hazard_hold mine(e, nullptr);
    detail::removed_entries removed;
    bool grown = false;
    {
      platform::unique_lock hold(all->lock());
      const std::size_t before = all->table().lines_locked();
      all->store_locked(e, all->find_locked(e.hash, key), 0, removed);
      grown = all->table().lines_locked() > before;
    }
    finish(removed);
    return grown;
  }
  bool is_moving() const { return all->table().is_moving(); }
  void remove(int key) {
    detail::removed_entries removed;
    {
      platform::unique_lock hold(all->lock());
      if (auto* const e = all->find_locked(hash_of(key), key)) {
        all->remove_locked(*e, removal_cause::invalidated, removed);
      }
    }
    finish(removed);
  }
  void clear() {
    detail::cleared_entries cleared{};
    {
      platform::unique_lock hold(all->lock());
      cleared = all->clear_locked();
    }
    detail::removed_entries removed;
    all->dismiss(cleared, removed);
    finish(removed);
  }
  void finish(detail::removed_entries& removed) { all->finish(removed); }

  /// Searches as a cache does for a hit.
  store::found find(int key) {
    (void)detail::this_hazard_record();  // the first search of a thread makes it
    const auto seen = all->glance(hash_of(key), key);
    if (seen.entry != nullptr) return {seen.entry, detail::hazard_hold(*seen.entry, seen.slot)};
    return all->find(hash_of(key), key);
  }
  /// Finds and reads an entry; returns the version found, or 0.
  int read(int key) {
    const store::found f = find(key);
    return f ? f.entry->value.look() : 0;
  }
  /// Destroys the cache; nothing is held any more.
  void finish() {
    all.reset();
    detail::hazard_domain::instance().reclaim(nullptr);
  }

  world& w;
  const singleflight::cache_options<int, item> options;
  const detail::lifetimes times;
  std::unique_ptr<store> all;
};

const add_world removal("entries: a find during a removal", three, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  s.thread([&] { (void)s.read(1); });
  s.thread([&] { s.remove(1); });
  w.run();
  s.finish();
});

const add_world replacement("entries: a find during a replacement", three, [](world& w) {
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

const add_world returns("entries: a find during a removal, and another entry in its place", three,
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

const add_world two_finds("entries: two finds during a removal", two, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  s.thread([&] { (void)s.read(1); });
  s.thread([&] { (void)s.read(1); });
  s.thread([&] { s.remove(1); });
  w.run();
  s.finish();
});

const add_world two_removals("entries: a find during two removals", two, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  s.put(2, 2);
  s.thread([&] { (void)s.read(1); });
  s.thread([&] { s.remove(1); });
  s.thread([&] { s.remove(2); });
  w.run();
  s.finish();
});

const add_world with_fault("entries: a find during a replacement, a fault", two_and_a_fault,
                           [](world& w) {
                             entry_scene s(w);
                             s.put(1, 1);
                             s.thread([&] { w.check(s.read(1) != 0, "an entry was not found"); });
                             s.thread([&] { s.put(1, 2); });
                             w.run();
                             s.finish();
                           });

// ---- counts -------------------------------------------------------------------------------------

const add_world no_slot("entries: a find with no slot free, during a removal", three, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  s.put(2, 2);
  s.thread([&] {
    const auto first = s.find(2);
    const auto second = s.find(1);  // counted
    (void)first.entry->value.look();
    if (second) (void)second.entry->value.look();
  });
  s.thread([&] { s.remove(1); });
  w.run();
  s.finish();
});

const add_world to_count("entries: from slot to count during a removal", three, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  s.thread([&] {
    auto f = s.find(1);
    if (!f) return;
    f.hold.count();
    (void)f.entry->value.look();
  });
  s.thread([&] { s.remove(1); });
  w.run();
  s.finish();
});

const add_world two_owners("entries: two counted handles are dropped during a removal", two,
                           [](world& w) {
                             entry_scene s(w);
                             s.put(1, 1);
                             store::found first = s.all->find_counted(entry_scene::hash_of(1), 1);
                             store::found second{first.entry, first.hold.share()};
                             s.thread([&] {
                               (void)first.entry->value.look();
                               first = {};
                             });
                             s.thread([&] {
                               (void)second.entry->value.look();
                               second = {};
                             });
                             s.thread([&] { s.remove(1); });
                             w.run();
                             s.finish();
                           });

// ---- handles ------------------------------------------------------------------------------------

const add_world dropped("entries: a handle is dropped during a removal", three, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  store::found held = s.find(1);
  s.thread([&] {
    (void)held.entry->value.look();
    held = {};
  });
  s.thread([&] { s.remove(1); });
  w.run();
  s.finish();
});

const add_world kept("entries: a handle is dropped after its cache is destroyed", two,
                     [](world& w) {
                       entry_scene s(w);
                       s.put(1, 1);
                       store::found held = s.find(1);
                       s.thread([&] { s.all.reset(); });
                       w.run();
                       (void)held.entry->value.look();
                       held = {};  // this frees the entry: nothing else is reclaimed here
                     });

const add_world handed_on("entries: a handle is dropped on another thread, and its slot reused",
                          two, [](world& w) {
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
                              (void)held.entry->value.look();
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

const add_world outlives("entries: a handle outlives its thread, during a removal", two,
                         [](world& w) {
                           entry_scene s(w);
                           s.put(1, 1);
                           s.put(2, 2);
                           store::found held;
                           s.thread([&] { held = s.find(1); });
                           s.thread([&] {
                             const auto mine = s.find(2);  // perhaps with the other thread's record
                             if (mine) (void)mine.entry->value.look();
                           });
                           s.thread([&] {
                             s.remove(1);
                             s.remove(2);
                           });
                           w.run();
                           if (held) (void)held.entry->value.look();
                           held = {};
                           s.finish();
                         });

// ---- the table ----------------------------------------------------------------------------------

constexpr int full = 5;  // this many fill the first table

void fill(entry_scene& s) {
  for (int key = 1; key <= full; ++key)
    s.w.check(!s.put(key, key), "the table has grown too early");
}

/// All entries but the last one are in the source, which the next change empties.
void begin_growth(entry_scene& s) {
  fill(s);
  s.w.check(s.put(full + 1, full + 1), "the table has not grown");
  s.w.check(s.is_moving(), "the table grows at once");
}

const add_world growth("entries: a find as growth begins", three, [](world& w) {
  entry_scene s(w);
  fill(s);
  s.thread([&] { w.check(s.read(full) == full, "a find has missed an entry as the table grew"); });
  s.thread([&] { w.check(s.put(full + 1, full + 1), "the table has not grown"); });
  w.run();
  s.finish();
});

const add_world whole_growth("entries: a find during growth, from its beginning to its end", two,
                             [](world& w) {
                               entry_scene s(w);
                               fill(s);
                               s.thread(
                                   [&] { w.check(s.read(1) == 1, "a find has missed an entry"); });
                               s.thread([&] {
                                 s.put(full + 1, full + 1);
                                 s.put(full + 2, full + 2);
                                 w.check(!s.is_moving(), "the growth has not ended");
                               });
                               w.run();
                               s.finish();
                             });

const add_world moves("entries: a find as entries move from a source", three, [](world& w) {
  entry_scene s(w);
  begin_growth(s);
  s.thread([&] { w.check(s.read(1) == 1, "an entry that moved was not found"); });
  s.thread([&] { s.put(full + 2, full + 2); });
  w.run();
  w.check(!s.is_moving(), "the growth has not ended");
  s.finish();
});

const add_world two_movers("entries: two finds move what is left in a source", two, [](world& w) {
  entry_scene s(w);
  begin_growth(s);
  s.thread([&] { w.check(s.read(1) == 1, "an entry that moved was not found"); });
  s.thread([&] { w.check(s.read(2) == 2, "an entry that moved was not found"); });
  w.run();
  w.check(!s.is_moving(), "finds alone do not end the growth");
  s.finish();
});

const add_world source_removal("entries: a find during a removal from a source", three,
                               [](world& w) {
                                 entry_scene s(w);
                                 begin_growth(s);
                                 s.thread([&] { (void)s.read(1); });
                                 s.thread([&] {
                                   s.remove(1);
                                   w.check(s.read(1) == 0, "a removed entry is found");
                                 });
                                 w.run();
                                 s.finish();
                               });

const add_world moved_removal("entries: a find as entries move, and one of them is removed", two,
                              [](world& w) {
                                entry_scene s(w);
                                begin_growth(s);
                                s.thread([&] { (void)s.read(1); });
                                s.thread([&] { s.put(full + 2, full + 2); });
                                s.thread([&] { s.remove(1); });
                                w.run();
                                s.finish();
                              });

const add_world source_replacement("entries: a find during a replacement in a source", three,
                                   [](world& w) {
                                     entry_scene s(w);
                                     begin_growth(s);
                                     s.thread([&] {
                                       w.check(s.read(1) != 0, "an entry was not found");
                                     });
                                     s.thread([&] {
                                       s.put(1, 7);
                                       w.check(s.read(1) == 7, "a replaced entry is found");
                                     });
                                     w.run();
                                     s.finish();
                                   });

const add_world growth_and_removal("entries: a find during growth and a removal", two,
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

const add_world shrinks("entries: a find as the table shrinks", two, [](world& w) {
  entry_scene s(w);
  begin_growth(s);
  for (int key = 2; key <= full; ++key) s.remove(key);
  w.check(!s.is_moving(), "the growth has not ended");
  s.thread([&] { w.check(s.read(1) == 1, "a find has missed an entry as the table shrank"); });
  s.thread([&] {
    s.remove(full + 1);
    w.check(s.is_moving(), "the table does not shrink");
    for (int key = 2; key <= 3; ++key) s.put(key, key);  // a line each
    w.check(!s.is_moving(), "the shrinking has not ended");
  });
  w.run();
  s.finish();
});

const add_world clearing("entries: a find during clear", three, [](world& w) {
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

const add_world clearing_as_it_grows("entries: a find during clear of a table that grows", three,
                                     [](world& w) {
                                       entry_scene s(w);
                                       begin_growth(s);
                                       s.thread([&] { (void)s.read(1); });
                                       s.thread([&] { s.clear(); });
                                       w.run();
                                       w.check(s.read(1) == 0, "an entry is found after clear");
                                       s.finish();
                                     });

const add_world clearing_and_put("entries: a find during clear and a put", two, [](world& w) {
  entry_scene s(w);
  s.put(1, 1);
  s.thread([&] {
    const int got = s.read(1);
    w.check(got == 0 || got == 1 || got == 2, "another key's value");
  });
  s.thread([&] { s.clear(); });
  s.thread([&] {
    s.put(1, 2);
    s.remove(1);
  });
  w.run();
  w.check(s.read(1) == 0, "a removed entry is found");
  s.finish();
});

constexpr int places = detail::entry_line::places;

const add_world passers("entries: a find behind a full line, during a removal", three,
                        [](world& w) {
                          entry_scene s(w, 100, places + 2);
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

/// An entry that is hit often moves to where a glance finds it.
void hit_often(entry_scene& s, int key) {
  const auto f = s.find(key);
  if (!f) return;
  for (int i = 0; i < detail::entry_base::max_hits; ++i) s.all->hit(*f.entry);
}

const add_world makes_way("entries: a find as one entry moves home and another makes way", three,
                          [](world& w) {
                            entry_scene s(w, 100, places + 1);
                            for (int key = 1; key <= places + 1; ++key) s.put(key, key);
                            s.thread([&] {
                              w.check(s.read(1) == 1, "the entry that makes way was not found");
                              w.check(s.read(places + 1) == places + 1,
                                      "the entry that moves home was not found");
                            });
                            s.thread([&] { hit_often(s, places + 1); });
                            w.run();
                            s.finish();
                          });

const add_world goes_ahead(
    "entries: a find as one entry takes another's place in its line", three, [](world& w) {
      entry_scene s(w, 100, full + 1);
      for (int key = 1; key <= full + 1; ++key) s.put(key, key);
      const auto found = [&](int key) {  // a glance sees an entry that leaves, or that it has left
        return static_cast<bool>(s.all->find(entry_scene::hash_of(key), key));
      };
      s.thread([&] {
        w.check(found(1), "the entry that makes way was not found");
        w.check(found(2), "the entry that moves ahead was not found");
      });
      s.thread([&] { hit_often(s, 2); });
      w.run();
      s.finish();
    });

/// Before a thread has the lock, the entry in the way of its own has been removed; and a hit that
/// began with the entry's second hit stores its count late.
const add_world no_way_needed("entries: an entry that is to move home has reached the front", three,
                              [](world& w) {
                                entry_scene s(w, 100, full + 1);
                                for (int key = 1; key <= full + 1; ++key) s.put(key, key);
                                auto held = s.all->find_counted(entry_scene::hash_of(2), 2);
                                s.all->hit(*held.entry);
                                s.thread([&] { (void)held.entry->touch(); });
                                s.thread([&] {
                                  s.all->hit(*held.entry);
                                  s.all->hit(*held.entry);
                                });
                                s.thread([&] { s.remove(1); });
                                w.run();
                                s.remove(2);
                                w.check(s.all->find(entry_scene::hash_of(2), 2).entry == nullptr,
                                        "a removed entry is found");
                                held = {};
                                s.finish();
                              });

const add_world moves_during_removal("entries: an entry is to move home during its removal", three,
                                     [](world& w) {
                                       entry_scene s(w, 100, places + 1);
                                       for (int key = 1; key <= places + 1; ++key) s.put(key, key);
                                       s.thread([&] { hit_often(s, places + 1); });
                                       s.thread([&] { s.remove(places + 1); });
                                       w.run();
                                       w.check(s.read(places + 1) == 0, "a removed entry is back");
                                       w.check(s.read(1) == 1, "the entry that made way is lost");
                                       s.finish();
                                     });

// ---- a barrier that is refused ------------------------------------------------------------------

/// Lasts as long as removed entries wait for a grace period.
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

const add_world eviction("entries: a handle during an eviction", three, [](world& w) {
  entry_scene s(w, 1);
  s.put(1, 1);
  s.thread([&] {
    const auto f = s.find(1);
    if (f) w.check(f.entry->value.look() == 1, "another key's value");
  });
  s.thread([&] { s.put(2, 2); });
  w.run();
  w.check(s.read(1) == 0 && s.read(2) == 2, "the older entry was not the one evicted");
  s.finish();
});

}  // namespace
