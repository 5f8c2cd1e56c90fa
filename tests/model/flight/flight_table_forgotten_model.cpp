// SPDX-License-Identifier: Apache-2.0

// Forgotten flights, in one chain with flights that can be found.

#include <array>
#include <cstddef>
#include <optional>

#include "model/flight/scene.hpp"

namespace {

using model::add_world;
using model::history;
using model::scene;
using model::two;
using model::world;

/// Keys that share a bucket with the hot one, also after the table has grown.
template <std::size_t N>
std::array<int, N> keys_in_the_hot_bucket() {
  const auto bucket = [](int key) {
    return singleflight::key_hash<int>{}(key) >> (8 * sizeof(std::size_t) - 3);
  };
  std::array<int, N> keys{};
  int key = 1;
  for (int& to : keys) {
    do ++key;
    while (bucket(key) != bucket(1));
    to = key;
  }
  return keys;
}

/// Leads the hot key, and calls for it once more, while a flight of another key is forgotten.
struct crowd {
  explicit crowd(world& in) : s(in) {}
  template <class Between>
  void call_behind_a_forgotten_one(Between between) {
    auto f = s.flights.start(keys[0], [] { return 7; });
    s.flights.forget(keys[0]);
    between();
    s.run();
    s.drain();
  }
  scene s;
  const std::array<int, 4> keys = keys_in_the_hot_bucket<4>();
};

const add_world behind("18: a key behind a forgotten one of its bucket", two, [](world& w) {
  crowd c(w);
  c.s.thread([&] { c.s.run(); });
  c.s.thread([&] { c.call_behind_a_forgotten_one([] {}); });
  w.run();
  c.s.finish();
});

const add_world grown("18: a key behind a forgotten one, and the table grows", two, [](world& w) {
  crowd c(w);
  c.s.thread([&] { c.s.run(); });
  c.s.thread([&] {
    std::array<std::optional<singleflight::flight<int>>, 3> others;
    c.call_behind_a_forgotten_one([&] {
      for (std::size_t i = 0; i < others.size(); ++i) {
        others[i].emplace(c.s.flights.start(c.keys[i + 1], [] { return 8; }));
      }
    });
  });
  w.run();
  c.s.finish();
});

const add_world revoked("31: a flight that was given up, and then forgotten", two, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  singleflight::detail::platform::atomic<bool> forgotten{false};
  auto f = std::make_optional(s.flights.start(1, [&](const singleflight::flight_context& context) {
    history::step();
    const bool before = forgotten.load(std::memory_order_relaxed);
    w.check(!before || context.revoked(), "31: a load does not see that it was forgotten");
    return 1;
  }));
  s.thread([&] { f.reset(); });
  s.thread([&] { s.drain(); });
  s.thread([&] {
    s.flights.forget(1);
    forgotten.store(true, std::memory_order_relaxed);
    s.flights.forget(1);
    s.run();
  });
  w.run();
  s.finish();
});

}  // namespace
