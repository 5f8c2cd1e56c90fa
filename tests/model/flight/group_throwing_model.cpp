// SPDX-License-Identifier: Apache-2.0

// Exceptions of the user's types: hash, comparison, key copy, value move. Each is a fault that the
// scheduler may choose, and affects its own call only (P9).

#include <cstddef>
#include <new>
#include <optional>
#include <source_location>
#include <utility>

#include "model/flight/scene.hpp"

namespace {

using model::add_world;
using model::history;
using model::limits;
using model::world;

/// The history treats it as a failed allocation.
struct fault final : std::bad_alloc {};
void perhaps(const std::source_location& line = std::source_location::current()) {
  if (model::choose(2, line) == 1) throw fault();
}

struct fickle {
  explicit fickle(int n) : number(n) {}
  fickle(const fickle& other) : number(other.number) { perhaps(); }
  fickle(fickle&& other) : number(other.number) { perhaps(); }
  fickle& operator=(const fickle&) = delete;
  fickle& operator=(fickle&&) = delete;
  ~fickle() = default;
  int number;
};
struct fickle_hash {
  std::size_t operator()(const fickle& key) const {
    perhaps();
    return static_cast<std::size_t>(key.number);
  }
};
struct fickle_equal {
  bool operator()(const fickle& a, const fickle& b) const {
    perhaps();
    return a.number == b.number;
  }
};
using group = singleflight::group<fickle, fickle, fickle_hash, fickle_equal>;

struct fickle_scene {
  explicit fickle_scene(world& in, singleflight::group_options options)
      : w(in), h(in), flights(model::scene::with(std::move(options), queue)) {}

  auto load() {
    return [this] { return fickle(h.load()()); };
  }
  void run() {
    h.calls([&] { return (*flights.run(key, load())).number; });
    queue.run_all();
  }
  void run_fresh() {
    h.calls([&] { return (*flights.run_fresh(key, load())).number; }, true);
    queue.run_all();
  }
  void get() {
    h.calls([&] {
      auto f = flights.start(key, load());
      queue.run_all();
      return (*std::move(f).get()).number;
    });
    queue.run_all();
  }
  void forget() {
    try {
      flights.forget(key);
    } catch (const fault&) {
      return;
    }
  }
  world& w;
  history h;
  model::queue_executor queue;
  const fickle key{1};
  group flights;
};

using caller = void (fickle_scene::*)();
struct named {
  const char* name;
  caller call;
};
constexpr named callers[] = {{"run", &fickle_scene::run},
                             {"get", &fickle_scene::get},
                             {"run_fresh", &fickle_scene::run_fresh},
                             {"forget", &fickle_scene::forget}};

void play(world& w, singleflight::group_options options, caller a, caller b) {
  fickle_scene s(w, std::move(options));
  if (b == &fickle_scene::forget) s.h.may_overlap();
  for (const caller c : {a, b}) {
    w.thread([&s, c] {
      singleflight::detail::this_thread().vain_waits = 1;  // joins at once
      try {
        (s.*c)();
      } catch (const std::bad_alloc&) {  // thrown outside of any call
        s.w.check(model::faults() > 0, "bad_alloc without a fault");
      }
    });
  }
  w.run();
  s.queue.run_all();
  s.h.check();
  w.check(s.flights.in_flight().empty(), "P9: a key is stuck");
  const int loads = s.h.loads();
  s.run();
  w.check(s.h.loads() == loads + 1, "P9: a later call was not served");
}

const bool faults_added = [] {
  for (std::size_t a = 0; a < 3; ++a) {
    for (std::size_t b = a; b < std::size(callers); ++b) {
      const auto add = [a, b](const char* more, const limits& bounds, auto options) {
        add_world(
            std::string("22: ") + callers[a].name + " and " + callers[b].name + more, bounds,
            [a, b, options](world& w) { play(w, options(), callers[a].call, callers[b].call); });
      };
      add(", a type that throws", model::two_and_a_fault,
          [] { return singleflight::group_options{}; });
      add(", a type that throws twice", {.preemptions = 1, .faults = 2},
          [] { return singleflight::group_options{}; });
      add(", a type that throws, hands over", model::two_and_a_fault, [] {
        return singleflight::group_options{.on_error = singleflight::error_policy::hand_over(1)};
      });
    }
  }
  return true;
}();

}  // namespace
